"""The Inception of FID, where its weights are present: nothing is downloaded, and no other network is FID.

Published ports of the TensorFlow graph of 2015 (``pt_inception-2015-12-05-6726825d.pth`` of pytorch-fid,
which torch-fidelity publishes too) name their tensors as torchvision's Inception v3 does, with 1,008 classes.
Surprising rule: that graph averages without the padding, and in its last block takes the largest instead;
torchvision's network with the same weights gives other numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import inception

from tokenizer_service import checkpoints

FILE = "pt_inception-2015-12-05-6726825d.pth"
PUBLISHED = "6726825d"
"""How the sha256 of the published file begins."""
SIDE = 299
WIDTH = 2048
NUM_CLASSES = 1008


def _average(x_BCHW: Tensor) -> Tensor:
    return functional.avg_pool2d(x_BCHW, 3, stride=1, padding=1, count_include_pad=False)


def _largest(x_BCHW: Tensor) -> Tensor:
    return functional.max_pool2d(x_BCHW, 3, stride=1, padding=1)


class _A(inception.InceptionA):  # type: ignore[misc]  # torchvision has no types
    def _forward(self, x: Tensor) -> list[Tensor]:
        return [*super()._forward(x)[:-1], self.branch_pool(_average(x))]


class _C(inception.InceptionC):  # type: ignore[misc]  # torchvision has no types
    def _forward(self, x: Tensor) -> list[Tensor]:
        return [*super()._forward(x)[:-1], self.branch_pool(_average(x))]


class _E(inception.InceptionE):  # type: ignore[misc]  # torchvision has no types
    def _forward(self, x: Tensor) -> list[Tensor]:
        return [*super()._forward(x)[:-1], self.branch_pool(_average(x))]


class _Last(inception.InceptionE):  # type: ignore[misc]  # torchvision has no types
    def _forward(self, x: Tensor) -> list[Tensor]:
        return [*super()._forward(x)[:-1], self.branch_pool(_largest(x))]


def network() -> nn.Module:
    """The graph without weights."""
    found: nn.Module = inception.Inception3(num_classes=NUM_CLASSES, aux_logits=False, init_weights=False)
    found.Mixed_5b, found.Mixed_5c, found.Mixed_5d = _A(192, 32), _A(256, 64), _A(288, 64)
    found.Mixed_6b, found.Mixed_6e = _C(768, 128), _C(768, 192)
    found.Mixed_6c, found.Mixed_6d = _C(768, 160), _C(768, 160)
    found.Mixed_7b, found.Mixed_7c = _E(1280), _Last(2048)
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Inception:
    module: nn.Module
    device: torch.device
    sha256: str
    """Of the weights file."""

    @property
    def is_published(self) -> bool:
        return self.sha256.startswith(PUBLISHED)

    @torch.inference_mode()
    def features(self, images_BHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Pooled features [B, 2048], resized and scaled as pytorch-fid does."""
        pixels_BCHW = torch.from_numpy(images_BHWC).to(self.device).permute(0, 3, 1, 2).float() / 255
        sized_BCHW = functional.interpolate(pixels_BCHW, (SIDE, SIDE), mode="bilinear", align_corners=False)
        features_BC: Tensor = self.module(2 * sized_BCHW - 1)
        return features_BC.cpu().numpy()


def load(file: Path, *, device: str = "cpu") -> Inception:
    """Raises ValueError for a file of anything else."""
    module = network()
    try:
        module.load_state_dict(checkpoints.tensors_of(file))
    except (RuntimeError, ValueError) as error:
        raise ValueError(
            f"{file} holds no weights of the Inception of FID ({str(error).splitlines()[0]}); give the file "
            f"{FILE} of pytorch-fid, or none"
        ) from error
    module.fc = nn.Identity()
    module.eval().requires_grad_(requires_grad=False).to(device)
    return Inception(module=module, device=torch.device(device), sha256=checkpoints.sha256(file))
