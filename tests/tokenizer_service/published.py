"""A reference for the tests: published VQGANs as functions of their tensors' names, from the descriptions of
arXiv 2012.09841 (appendix B), 2406.06525 (section 2.1) and 2405.09818 (section 2.1). Plain float32, nothing
of ours.

State ``s`` is what a checkpoint holds: tensors by their published names.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

State = dict[str, Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    names: str
    """``taming`` or ``llamagen``."""
    multipliers: Sequence[int]
    attends: Sequence[int]
    channels: int = 32
    blocks: int = 2
    z: int = 16
    dim: int = 16
    codes: int = 64
    gumbel: bool = False


def state(d: Description, seed: int = 0) -> State:
    """Random weights of a checkpoint that fits the description."""
    generator = torch.Generator().manual_seed(seed)
    s: State = {}
    for name, shape in _shapes(d):
        drawn = torch.randn(shape, generator=generator)
        if len(shape) == 1:
            s[name] = 1 + 0.1 * drawn if name.endswith("weight") else 0.1 * drawn
        elif name.startswith("quantize.emb"):
            s[name] = drawn
        else:
            s[name] = drawn / shape[1:].numel() ** 0.5
    return s


def _shapes(d: Description) -> Iterator[tuple[str, torch.Size]]:
    widths = [d.channels * factor for factor in d.multipliers]
    yield from _conv("encoder.conv_in", 3, d.channels, 3)
    before = d.channels
    for i, width in enumerate(widths):
        place = f"encoder.{'down' if d.names == 'taming' else 'conv_blocks'}.{i}"
        yield from _level(d, place, before, width, count=d.blocks, attends=i in d.attends)
        before = width
        if i < len(widths) - 1:
            yield from _conv(f"{place}.downsample.conv", width, width, 3)
    yield from _ends(d, "encoder", widths[-1], widths[-1], d.z)
    yield from _conv("quant_conv", d.z, d.dim, 1)
    if d.gumbel:
        yield from _conv("quantize.proj", d.dim, d.codes, 1)
    yield f"quantize.{'embed' if d.gumbel else 'embedding'}.weight", torch.Size([d.codes, d.dim])
    yield from _conv("post_quant_conv", d.dim, d.z, 1)
    yield from _conv("decoder.conv_in", d.z, before, 3)
    for turn, i in enumerate(reversed(range(len(widths)))):
        place = f"decoder.up.{i}" if d.names == "taming" else f"decoder.conv_blocks.{turn}"
        yield from _level(d, place, before, widths[i], count=d.blocks + 1, attends=i in d.attends)
        before = widths[i]
        if i:
            yield from _conv(f"{place}.upsample.conv", before, before, 3)
    yield from _ends(d, "decoder", widths[-1], before, 3)


def _conv(name: str, inner: int, out: int, kernel: int) -> Iterator[tuple[str, torch.Size]]:
    yield f"{name}.weight", torch.Size([out, inner, kernel, kernel])
    yield f"{name}.bias", torch.Size([out])


def _norm(name: str, width: int) -> Iterator[tuple[str, torch.Size]]:
    yield f"{name}.weight", torch.Size([width])
    yield f"{name}.bias", torch.Size([width])


def _block(name: str, inner: int, out: int) -> Iterator[tuple[str, torch.Size]]:
    yield from _norm(f"{name}.norm1", inner)
    yield from _conv(f"{name}.conv1", inner, out, 3)
    yield from _norm(f"{name}.norm2", out)
    yield from _conv(f"{name}.conv2", out, out, 3)
    if inner != out:
        yield from _conv(f"{name}.nin_shortcut", inner, out, 1)


def _attention(name: str, width: int) -> Iterator[tuple[str, torch.Size]]:
    yield from _norm(f"{name}.norm", width)
    for part in ("q", "k", "v", "proj_out"):
        yield from _conv(f"{name}.{part}", width, width, 1)


def _level(
    d: Description, place: str, inner: int, out: int, *, count: int, attends: bool
) -> Iterator[tuple[str, torch.Size]]:
    for j in range(count):
        yield from _block(
            f"{place}.{'block' if d.names == 'taming' else 'res'}.{j}", out if j else inner, out
        )
        if attends:
            yield from _attention(f"{place}.attn.{j}", out)


def _middle(d: Description) -> tuple[str, str, str]:
    return ("block_1", "attn_1", "block_2") if d.names == "taming" else ("0", "1", "2")


def _ends(d: Description, side: str, middle: int, last: int, out: int) -> Iterator[tuple[str, torch.Size]]:
    first, attention, second = _middle(d)
    yield from _block(f"{side}.mid.{first}", middle, middle)
    yield from _attention(f"{side}.mid.{attention}", middle)
    yield from _block(f"{side}.mid.{second}", middle, middle)
    yield from _norm(f"{side}.norm_out", last)
    yield from _conv(f"{side}.conv_out", last, out, 3)


def encode(s: State, d: Description, x: Tensor) -> Tensor:
    """Codes [B, h, w] of images [B, 3, H, W] in [-1, 1]."""
    z = functional.conv2d(features(s, d, x), s["quant_conv.weight"], s["quant_conv.bias"])
    if d.gumbel:
        return functional.conv2d(z, s["quantize.proj.weight"], s["quantize.proj.bias"]).argmax(dim=1)
    codebook = s["quantize.embedding.weight"]
    if d.names == "llamagen":
        z, codebook = functional.normalize(z, dim=1), functional.normalize(codebook, dim=1)
    away = (z.permute(0, 2, 3, 1)[..., None, :] - codebook).square().sum(dim=-1)
    return away.argmin(dim=-1)


def features(s: State, d: Description, x: Tensor) -> Tensor:
    """The encoder's answer, before the quantiser's own convolution."""
    x = _convolved(s, "encoder.conv_in", x)
    for i in range(len(d.multipliers)):
        place = f"encoder.{'down' if d.names == 'taming' else 'conv_blocks'}.{i}"
        x = _through_level(s, d, place, x, d.blocks)
        if i < len(d.multipliers) - 1:
            name = f"{place}.downsample.conv"
            padded = functional.pad(x, (0, 1, 0, 1))
            x = functional.conv2d(padded, s[f"{name}.weight"], s[f"{name}.bias"], stride=2)
    x = _through_middle(s, d, "encoder", x)
    return _convolved(s, "encoder.conv_out", _swish(_normed(s, "encoder.norm_out", x)))


def decode(s: State, d: Description, codes: Tensor) -> Tensor:
    """Images [B, 3, H, W] of codes [B, h, w]."""
    codebook = s["quantize.embed.weight" if d.gumbel else "quantize.embedding.weight"]
    if d.names == "llamagen":
        codebook = functional.normalize(codebook, dim=1)
    x = functional.conv2d(
        codebook[codes].permute(0, 3, 1, 2), s["post_quant_conv.weight"], s["post_quant_conv.bias"]
    )
    x = _through_middle(s, d, "decoder", _convolved(s, "decoder.conv_in", x))
    for turn, i in enumerate(reversed(range(len(d.multipliers)))):
        place = f"decoder.up.{i}" if d.names == "taming" else f"decoder.conv_blocks.{turn}"
        x = _through_level(s, d, place, x, d.blocks + 1)
        if i:
            wide = x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
            x = _convolved(s, f"{place}.upsample.conv", wide)
    return _convolved(s, "decoder.conv_out", _swish(_normed(s, "decoder.norm_out", x)))


def _convolved(s: State, name: str, x: Tensor) -> Tensor:
    return functional.conv2d(x, s[f"{name}.weight"], s[f"{name}.bias"], padding=1)


def _normed(s: State, name: str, x: Tensor) -> Tensor:
    return functional.group_norm(x, 32, s[f"{name}.weight"], s[f"{name}.bias"], eps=1e-6)


def _swish(x: Tensor) -> Tensor:
    return x * torch.sigmoid(x)


def _through_block(s: State, name: str, x: Tensor) -> Tensor:
    inner = _convolved(s, f"{name}.conv1", _swish(_normed(s, f"{name}.norm1", x)))
    change = _convolved(s, f"{name}.conv2", _swish(_normed(s, f"{name}.norm2", inner)))
    if f"{name}.nin_shortcut.weight" in s:
        x = functional.conv2d(x, s[f"{name}.nin_shortcut.weight"], s[f"{name}.nin_shortcut.bias"])
    return x + change


def _through_attention(s: State, name: str, x: Tensor) -> Tensor:
    normed, (batch, width, height, across) = _normed(s, f"{name}.norm", x), x.shape
    q, k, v = (
        functional.conv2d(normed, s[f"{name}.{part}.weight"], s[f"{name}.{part}.bias"]).flatten(2)
        for part in ("q", "k", "v")
    )
    seen = (q.transpose(1, 2) @ k * width**-0.5).softmax(dim=2)
    mixed = (v @ seen.transpose(1, 2)).view(batch, width, height, across)
    return x + functional.conv2d(mixed, s[f"{name}.proj_out.weight"], s[f"{name}.proj_out.bias"])


def _through_level(s: State, d: Description, place: str, x: Tensor, count: int) -> Tensor:
    for j in range(count):
        x = _through_block(s, f"{place}.{'block' if d.names == 'taming' else 'res'}.{j}", x)
        if f"{place}.attn.{j}.norm.weight" in s:
            x = _through_attention(s, f"{place}.attn.{j}", x)
    return x


def _through_middle(s: State, d: Description, side: str, x: Tensor) -> Tensor:
    first, attention, second = (f"{side}.mid.{name}" for name in _middle(d))
    return _through_block(s, second, _through_attention(s, attention, _through_block(s, first, x)))
