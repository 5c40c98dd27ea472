"""Faces by MTCNN (Zhang et al., arXiv 1604.02878) with the weights of facenet-pytorch: where, and no more.

Nobody is recognised, and no face is compared with another. In 372 photographs of clothes without people one
printed dog is taken for a face. How many faces are missed was not measured: two portraits were both found.

Legend: B pictures, H and W pixels, N faces.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.scorers.installed import Weights

WEIGHTS = Weights(
    package="facenet-pytorch",
    files={
        "facenet_pytorch/data/pnet.pt": "a2a71925e0b9996a42f63e47efc1ca19043e69558b5c523b978d611dfae49c8f",
        "facenet_pytorch/data/rnet.pt": "bbb937de72efc9ef83b186c49f5f558467a1d7e3453a8ece0d71a886633f6a86",
        "facenet_pytorch/data/onet.pt": "165bfbe42940416ccfb977545cf0e976d5bf321f67083ae2aaaa5c764280118d",
    },
    modules=("facenet_pytorch", "torchvision", "requests", "tqdm"),
    libraries=("facenet-pytorch", "pillow", "torchvision"),
    # Its metadata asks for torch 2.2 and numpy 1; its networks run with ours.
    get="pip install --no-deps facenet-pytorch==2.6.0 && pip install requests tqdm",
)
MIN_SIDE = 20
"""Pixels of the smallest face that is looked for."""
THRESHOLDS = (0.6, 0.7, 0.7)
"""Of the three networks, as published."""
SHRINKS = 0.709
"""From one size of the pyramid to the next: the area halves."""
SURE = 0.95
"""Probability from which a face counts."""


@dataclass(frozen=True, slots=True)
class Faces:
    networks: tuple[Any, Any, Any]

    @classmethod
    def load(cls) -> Faces:
        import torch  # noqa: PLC0415  # the scorers are listed without their libraries
        from facenet_pytorch.models import mtcnn  # noqa: PLC0415  # no extra has it

        networks = []
        for kind, path in zip((mtcnn.PNet, mtcnn.RNet, mtcnn.ONet), WEIGHTS.paths(), strict=True):
            network = kind(pretrained=False)
            network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
            networks.append(network.eval())
        return cls(tuple(networks))

    def seen(self, pictures: Sequence[NDArray[np.uint8]]) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """[H, W, 3] each, to how many faces [B], and the largest one's share of the picture [B]."""
        counts, shares = np.zeros(len(pictures), np.int32), np.zeros(len(pictures), np.float32)
        for row, picture_HWC in enumerate(pictures):
            boxes_N5 = self.boxes(picture_HWC)
            height, width, _ = picture_HWC.shape
            low, high = np.split(np.clip(boxes_N5[:, :4], 0, [width, height] * 2), 2, axis=1)
            counts[row] = len(boxes_N5)
            shares[row] = (high - low).prod(axis=1).max(initial=0) / (width * height)
        return counts, shares

    def boxes(self, picture_HWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        """[N, 5]: left, top, right, bottom in pixels, and how sure."""
        import torch  # noqa: PLC0415
        from facenet_pytorch.models.utils import detect_face  # noqa: PLC0415

        if min(picture_HWC.shape[:2]) < MIN_SIDE:
            return np.zeros((0, 5), np.float32)
        with torch.inference_mode():
            (found_N5,), _ = detect_face.detect_face(
                picture_HWC, MIN_SIDE, *self.networks, list(THRESHOLDS), SHRINKS, torch.device("cpu")
            )
        boxes_N5 = np.asarray(found_N5, np.float32).reshape(-1, 5)
        return boxes_N5[boxes_N5[:, 4] >= SURE]
