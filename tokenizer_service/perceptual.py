"""Which network judges how alike two pictures look: EfficientNet-Lite0, installed with us, or LPIPS.

Surprising rule: the network multiplies in float32 even where the tokenizer is fitted in bfloat16; squared
differences of unit vectors are small, and in bfloat16 they have two digits.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from infra.settings import Section
from tokenizer_service import checkpoints
from tokenizer_service.features import Backbone
from tokenizer_service.lpips import GET_HEADS, GET_VGG, Lpips

Perceptual = Callable[[Tensor, Tensor], Tensor]
"""A scalar from drawn and true images [B, 3, H, W] in [-1, 1]."""


class LpipsFiles(Section):
    """Weights that are not ours to ship, where every worker sees them."""

    vgg: str
    """Path of torchvision's VGG16, ``vgg16-397923af.pth``."""
    heads: str
    """Path of the linear heads, ``lpips/weights/v0.1/vgg.pth`` of the package lpips."""

    def missing(self) -> list[str]:
        """What is not there, and where to have it from."""
        asked = ((self.vgg, GET_VGG), (self.heads, GET_HEADS))
        return [f"{path} is no file; {get}" for path, get in asked if not Path(path).is_file()]

    def by_content(self) -> LpipsFiles:
        """The same with sha256 for paths: what an identity may depend on. ValueError where one is missing."""
        if found := self.missing():
            raise ValueError("; ".join(found))
        return LpipsFiles(vgg=checkpoints.sha256(Path(self.vgg)), heads=checkpoints.sha256(Path(self.heads)))


def load(files: LpipsFiles | None, *, cache: Path, device: str) -> Perceptual:
    """LPIPS of the files; without any, EfficientNet-Lite0 by way of ``cache``."""
    if files is None:
        return in_full(Backbone.load(cache, device=device).distance)
    return in_full(Lpips.load(Path(files.vgg), Path(files.heads)).to(device).distance)


def in_full(distance: Perceptual) -> Perceptual:
    """In float32, whatever autocast says around it."""

    def judged(drawn_BCHW: Tensor, true_BCHW: Tensor) -> Tensor:
        with torch.autocast(drawn_BCHW.device.type, enabled=False):
            return distance(drawn_BCHW.float(), true_BCHW.float())

    return judged
