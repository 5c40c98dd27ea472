"""LPIPS (Zhang et al., arXiv 1801.03924): how differently VGG16 sees two pictures, as people would weigh it.

Two published files are read, neither of which we ship: torchvision's VGG16, and five linear heads.

Surprising rule: the widths are those of the tensors, so that a small network with the same names is read too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from tokenizer_service import checkpoints

# B images, C channels, H height, W width
LAYERS = ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28))
"""Numbers of torchvision's ``features`` that are convolutions, by level; between two levels is a max-pool.
The last of each level is what a head compares."""
MEAN, DEVIATION = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
"""Of the colours in [-1, 1], as the heads were fitted."""
GET_VGG = "torchvision.models.vgg16(weights='IMAGENET1K_V1') downloads vgg16-397923af.pth"
GET_HEADS = "the package lpips carries lpips/weights/v0.1/vgg.pth"

Convolution = tuple[Tensor, Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lpips:
    levels: tuple[tuple[Convolution, ...], ...]
    heads: tuple[Tensor, ...]
    """[1, C, 1, 1] each, not negative."""
    mean: Tensor
    deviation: Tensor
    sha256: tuple[str, str]
    """Of the two files."""

    @classmethod
    def load(cls, vgg: Path, heads: Path) -> Lpips:
        """From ``.safetensors`` or a state dict that torch saved; of a pickle, tensors alone are read.

        Raises ValueError where a file is missing or another.
        """
        network, linear = states(vgg, GET_VGG), states(heads, GET_HEADS)
        names = [f"lin{level}.model.1.weight" for level in range(len(LAYERS))]
        _check(network, [f"features.{number}.weight" for level in LAYERS for number in level], vgg, GET_VGG)
        _check(linear, names, heads, GET_HEADS)
        return cls(
            levels=tuple(
                tuple((network[f"features.{n}.weight"], network[f"features.{n}.bias"]) for n in level)
                for level in LAYERS
            ),
            heads=tuple(linear[name] for name in names),
            mean=torch.tensor(MEAN).view(1, 3, 1, 1),
            deviation=torch.tensor(DEVIATION).view(1, 3, 1, 1),
            sha256=(checkpoints.sha256(vgg), checkpoints.sha256(heads)),
        )

    def to(self, device: str | torch.device) -> Lpips:
        return replace(
            self,
            levels=tuple(tuple((w.to(device), b.to(device)) for w, b in level) for level in self.levels),
            heads=tuple(head.to(device) for head in self.heads),
            mean=self.mean.to(device),
            deviation=self.deviation.to(device),
        )

    def stages(self, images_BCHW: Tensor) -> list[Tensor]:
        """Maps of the five levels, of pixels in [-1, 1]."""
        x_BCHW, maps = (images_BCHW - self.mean) / self.deviation, []
        for number, level in enumerate(self.levels):
            if number:
                x_BCHW = functional.max_pool2d(x_BCHW, 2)
            for weight, bias in level:
                x_BCHW = functional.relu(functional.conv2d(x_BCHW, weight, bias, padding=1))
            maps.append(x_BCHW)
        return maps

    def distance(self, drawn_BCHW: Tensor, true_BCHW: Tensor) -> Tensor:
        """The mean over the batch of LPIPS, of pixels in [-1, 1]; differentiable in both."""
        pairs = zip(self.heads, self.stages(drawn_BCHW), self.stages(true_BCHW), strict=True)
        each = [
            functional.conv2d((_unit(drawn) - _unit(true)).square(), head).mean()
            for head, drawn, true in pairs
        ]
        return torch.stack(each).sum()


def _unit(map_BCHW: Tensor) -> Tensor:
    map_BCHW = map_BCHW.float()
    # The root's gradient is infinite at nothing, and a dark square is nothing to many channels.
    return map_BCHW * (map_BCHW.square().sum(dim=1, keepdim=True) + 1e-12).rsqrt()


def states(path: Path, get: str) -> dict[str, Tensor]:
    """The tensors of a file of weights; ``get`` says where to have it from."""
    if not path.is_file():
        raise ValueError(f"{path} is no file; {get}")
    try:
        return checkpoints.tensors_of(path)
    except ValueError as error:
        raise ValueError(f"{error}; {get}") from None


def _check(state: Mapping[str, Tensor], names: list[str], path: Path, get: str) -> None:
    missing = [name for name in names if name not in state]
    if missing:
        raise ValueError(f"{path} has no {missing[0]}, it holds {sorted(state)[:4]} …; {get}")
