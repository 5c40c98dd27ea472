"""Encoders and decoders: images [B, 3, H, W] in [-1, 1] to a grid of vectors [B, D, h, w], and back.

Convolutions all the way, so one model takes any image whose sides are multiples of ``downsample``.

Surprising rule: in the folded body, by default, a code sees its own square alone, so an empty square has
one code. With kernels of 3 and GroupNorm in the encoder, empty squares carried 8.1 bits a code about the rest
of the picture, which a transformer then has to guess. The decoder, which nobody has to predict, looks
everywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from infra.settings import Section

# B images, C channels, H height, W width, D code dimensions, h x w grid, T = h x w places

FOLDED_GROUPS = 8
GROUPS = 32
MAX_BLOCKS = 64
"""A level, of any kind: a file may name the shape of its model, which is built before it is filled."""
MAX_LEVELS = 8
Width = Annotated[int, Field(ge=FOLDED_GROUPS, multiple_of=FOLDED_GROUPS)]


class FoldedConfig(Section):
    """Squares of pixels folded into channels. The defaults are those of 64 px images at f8: 64 codes."""

    kind: Literal["folded"] = "folded"
    stem: int = Field(4, ge=1)
    """The first layer folds squares of this many pixels a side into channels, and the last unfolds them."""
    widths: Annotated[tuple[Width, ...], Field(strict=False, min_length=1, max_length=MAX_LEVELS)] = (48, 128)
    """Channels of each level, multiples of 8; every level after the first halves the sides."""
    encoder_kernel: Literal[1, 3] = 1
    """With 1, a code sees its own square alone: 0.4 dB less on 1,769 emoji, but a small transformer needed
    316 bits for the codes of a held-out image, against 443 with 3."""
    encoder_blocks: int = Field(1, ge=0, le=MAX_BLOCKS)
    """Residual blocks a level."""
    decoder_blocks: int = Field(2, ge=0, le=MAX_BLOCKS)
    attention_blocks: int = Field(0, ge=0, le=MAX_BLOCKS)
    """Self-attention over the grid, at the decoder's entrance."""

    @property
    def downsample(self) -> int:
        """Pixels a side of the square that one code stands for."""
        return self.stem << (len(self.widths) - 1)

    @property
    def floats_per_pixel(self) -> float:
        """Of the largest tensor inside, for each pixel of an image."""
        return max(3.0, *(width / (self.stem << i) ** 2 for i, width in enumerate(self.widths)))


class ConvolutionalConfig(Section):
    """The body of VQGAN (arXiv 2012.09841, table 7), of LlamaGen's tokenizers and of Chameleon's."""

    kind: Literal["convolutional"] = "convolutional"
    channels: int = Field(128, ge=GROUPS, multiple_of=GROUPS)
    multipliers: Annotated[
        tuple[Annotated[int, Field(ge=1)], ...], Field(strict=False, min_length=1, max_length=MAX_LEVELS)
    ] = (1, 1, 2, 2, 4)
    """Of ``channels``, for each level; every level after the first halves the sides: five make f16."""
    blocks: int = Field(2, ge=1, le=MAX_BLOCKS)
    """Residual blocks a level in the encoder; the decoder has one more."""
    attention_levels: Annotated[tuple[int, ...], Field(strict=False)] = (4,)
    """Levels with self-attention after each block, counted from 0, the images' own size."""
    z_channels: int = Field(256, ge=1)
    """Channels on the grid, between the body and the 1 x 1 convolution to or from the code's dimensions."""

    @property
    def downsample(self) -> int:
        return 1 << (len(self.multipliers) - 1)

    @property
    def floats_per_pixel(self) -> float:
        return max(self.channels * factor / (1 << 2 * i) for i, factor in enumerate(self.multipliers))

    @model_validator(mode="after")
    def _levels_are_there(self) -> Self:
        if absent := set(self.attention_levels) - set(range(len(self.multipliers))):
            raise ValueError(
                f"attention_levels has {min(absent)}; there are levels 0 to {len(self.multipliers) - 1}"
            )
        return self


BodyConfig = Annotated[FoldedConfig | ConvolutionalConfig, Field(discriminator="kind")]
Norm = Callable[[int], nn.Module]


class ChannelNorm(nn.Module):
    """Root mean square over the channels of each place: what is elsewhere in the image has no say."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels, 1, 1))
        self.bias = nn.Parameter(torch.empty(channels, 1, 1))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        scale = torch.rsqrt(x_BCHW.float().square().mean(dim=1, keepdim=True) + 1e-6)
        return x_BCHW * scale * self.weight + self.bias


_folded_norm: Norm = partial(nn.GroupNorm, FOLDED_GROUPS)
_norm: Norm = partial(nn.GroupNorm, GROUPS, eps=1e-6)


class Residual(nn.Module):
    """norm, SiLU, convolution, twice, added to the input; a 1 x 1 convolution where the channels change."""

    def __init__(self, channels: int, out: int, *, kernel: int, norm: Norm) -> None:
        super().__init__()
        self.norm1, self.norm2 = norm(channels), norm(out)
        self.first = nn.Conv2d(channels, out, kernel, padding=kernel // 2)
        self.last = nn.Conv2d(out, out, kernel, padding=kernel // 2)
        self.shortcut = nn.Identity() if channels == out else nn.Conv2d(channels, out, 1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        # In place: a fresh tensor of 32 images at 256 px and 128 channels is 1 GiB that has to be zeroed.
        inner_BCHW = self.first(functional.silu(self.norm1(x_BCHW), inplace=True))
        change_BCHW: Tensor = self.last(functional.silu(self.norm2(inner_BCHW), inplace=True))
        return change_BCHW.add_(self.shortcut(x_BCHW))


class Attention(nn.Module):
    """One head of self-attention over all places, added to the input."""

    def __init__(self, channels: int, norm: Norm) -> None:
        super().__init__()
        self.norm = norm(channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.last = nn.Conv2d(channels, channels, 1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        q, k, v = (part.flatten(2).transpose(1, 2) for part in self.qkv(self.norm(x_BCHW)).chunk(3, dim=1))
        seen_BTC = functional.scaled_dot_product_attention(q, k, v)
        change_BCHW: Tensor = self.last(seen_BTC.transpose(1, 2).reshape(x_BCHW.shape))
        return x_BCHW + change_BCHW


class Halved(nn.Module):
    """A convolution of 3 with stride 2, padded on the right and below alone."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        halved_BCHW: Tensor = self.conv(functional.pad(x_BCHW, (0, 1, 0, 1)))
        return halved_BCHW


class Doubled(nn.Module):
    """Each pixel four times, then a convolution of 3."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        doubled_BCHW: Tensor = self.conv(functional.interpolate(x_BCHW, scale_factor=2.0, mode="nearest"))
        return doubled_BCHW


def encoder(config: FoldedConfig | ConvolutionalConfig, dim: int) -> nn.Sequential:
    """Images [B, 3, H, W] to vectors [B, ``dim``, h, w]."""
    return _folding(config, dim) if isinstance(config, FoldedConfig) else _encoder(config, dim)


def decoder(config: FoldedConfig | ConvolutionalConfig, dim: int) -> nn.Sequential:
    """Vectors [B, ``dim``, h, w] to images [B, 3, H, W]."""
    return _unfolding(config, dim) if isinstance(config, FoldedConfig) else _decoder(config, dim)


def _folding(config: FoldedConfig, dim: int) -> nn.Sequential:
    """Kernels of ``encoder_kernel`` above the grid; at the grid itself each place is by itself."""
    widths, kernel = config.widths, config.encoder_kernel
    fold = nn.Conv2d(3 * config.stem**2, widths[0], kernel, padding=kernel // 2)
    layers: list[nn.Module] = [nn.PixelUnshuffle(config.stem), fold]
    for level, width in enumerate(widths):
        if level:
            layers += [nn.PixelUnshuffle(2), nn.Conv2d(4 * widths[level - 1], width, 1)]
        size = 1 if level == len(widths) - 1 else kernel
        layers += [
            Residual(width, width, kernel=size, norm=ChannelNorm) for _ in range(config.encoder_blocks)
        ]
    return nn.Sequential(*layers, ChannelNorm(widths[-1]), nn.SiLU(), nn.Conv2d(widths[-1], dim, 1))


def _unfolding(config: FoldedConfig, dim: int) -> nn.Sequential:
    widths = config.widths
    layers: list[nn.Module] = [nn.Conv2d(dim, widths[-1], 3, padding=1)]
    layers += [Attention(widths[-1], _folded_norm) for _ in range(config.attention_blocks)]
    for level in reversed(range(len(widths))):
        width = widths[level]
        layers += [Residual(width, width, kernel=3, norm=_folded_norm) for _ in range(config.decoder_blocks)]
        if level:
            layers += [nn.Conv2d(width, 4 * widths[level - 1], 1), nn.PixelShuffle(2)]
    unfold = nn.Conv2d(widths[0], 3 * config.stem**2, 3, padding=1)
    return nn.Sequential(*layers, _folded_norm(widths[0]), nn.SiLU(), unfold, nn.PixelShuffle(config.stem))


def _middle(channels: int) -> list[nn.Module]:
    def block() -> nn.Module:
        return Residual(channels, channels, kernel=3, norm=_norm)

    return [block(), Attention(channels, _norm), block()]


def _level(channels: int, out: int, *, blocks: int, attends: bool) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for i in range(blocks):
        layers.append(Residual(out if i else channels, out, kernel=3, norm=_norm))
        if attends:
            layers.append(Attention(out, _norm))
    return layers


def _encoder(config: ConvolutionalConfig, dim: int) -> nn.Sequential:
    widths = [config.channels * factor for factor in config.multipliers]
    layers: list[nn.Module] = [nn.Conv2d(3, config.channels, 3, padding=1)]
    for level, out in enumerate(widths):
        attends, before = level in config.attention_levels, widths[level - 1] if level else config.channels
        layers += _level(before, out, blocks=config.blocks, attends=attends)
        if level < len(widths) - 1:
            layers.append(Halved(out))
    ending = [
        _norm(widths[-1]),
        nn.SiLU(inplace=True),
        nn.Conv2d(widths[-1], config.z_channels, 3, padding=1),
    ]
    return nn.Sequential(*layers, *_middle(widths[-1]), *ending, nn.Conv2d(config.z_channels, dim, 1))


def _decoder(config: ConvolutionalConfig, dim: int) -> nn.Sequential:
    widths = [config.channels * factor for factor in config.multipliers]
    layers: list[nn.Module] = [nn.Conv2d(dim, config.z_channels, 1)]
    layers += [nn.Conv2d(config.z_channels, widths[-1], 3, padding=1), *_middle(widths[-1])]
    before = widths[-1]
    for level in reversed(range(len(widths))):
        attends = level in config.attention_levels
        layers += _level(before, widths[level], blocks=config.blocks + 1, attends=attends)
        before = widths[level]
        if level:
            layers.append(Doubled(before))
    return nn.Sequential(
        *layers, _norm(widths[0]), nn.SiLU(inplace=True), nn.Conv2d(widths[0], 3, 3, padding=1)
    )
