"""The names of published VQGAN checkpoints, beside ours, and what their shapes say about the model.

taming-transformers (f8 and f16, plain and gumbel), LlamaGen (vq_ds8, vq_ds16) and Chameleon share one
architecture under two sets of names. All that differs between models is read from the shapes.

Surprising rule: Chameleon's file has taming's names. What tells them apart is that its levels have no
attention, only the middle has; a file of one's own that looks like it is taken for it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from pydantic import ValidationError
from torch import Tensor

from tokenizer_service.bodies import ConvolutionalConfig
from tokenizer_service.quantizers import GumbelConfig, LookupConfig, UnitConfig
from tokenizer_service.vq import Preprocessing, VQConfig

# D code dimensions, K codes

Name = Literal["taming", "taming-gumbel", "llamagen", "chameleon"]
Shapes = Mapping[str, tuple[int, ...]]
IGNORED = ("loss.", "discriminator.", "quantize.codebook_used")
"""What such names begin with is of the training: the discriminator, LPIPS, and LlamaGen's last codes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    license: str
    """Of the weights that its authors published."""
    preprocessing: Preprocessing
    levels: tuple[str, str]
    """Names of the encoder's levels and of the decoder's."""
    block: str
    middle: tuple[str, str, str]
    deepest_first: bool
    """Whether the decoder's levels are numbered as they are used."""
    quantizer: tuple[tuple[str, str], ...] = (("quantize.embedding.weight", "codebook_KD"),)
    """Their names and ours."""


_TAMING = Layout(
    license="MIT",
    preprocessing=Preprocessing(resize="linear", side=256),
    levels=("down", "up"),
    block="block",
    middle=("block_1", "attn_1", "block_2"),
    deepest_first=False,
)
LAYOUTS: dict[Name, Layout] = {
    "taming": _TAMING,
    "taming-gumbel": Layout(
        license="MIT",
        preprocessing=_TAMING.preprocessing,
        levels=_TAMING.levels,
        block=_TAMING.block,
        middle=_TAMING.middle,
        deepest_first=False,
        quantizer=(
            ("quantize.proj.weight", "scores.weight"),
            ("quantize.proj.bias", "scores.bias"),
            ("quantize.embed.weight", "codebook_KD"),
        ),
    ),
    "llamagen": Layout(
        license="MIT",
        preprocessing=Preprocessing(resize="bicubic", side=256),
        levels=("conv_blocks", "conv_blocks"),
        block="res",
        middle=("0", "1", "2"),
        deepest_first=True,
    ),
    "chameleon": Layout(
        license="Chameleon Research License",
        preprocessing=Preprocessing(resize="lanczos", side=512),
        levels=_TAMING.levels,
        block=_TAMING.block,
        middle=_TAMING.middle,
        deepest_first=False,
    ),
}
"""Chameleon's images have a short side of 512 px, the others' 256."""


def detect(shapes: Shapes) -> Name:
    """Whose names these are. ValueError if nobody's."""
    if any(name.startswith("encoder.conv_blocks.0.res.0.") for name in shapes):
        return "llamagen"
    if not any(name.startswith("encoder.down.0.block.0.") for name in shapes):
        raise ValueError(
            f"no VQGAN of taming-transformers, LlamaGen or Chameleon: it has {sorted(shapes)[:3]} and no "
            "encoder.down.0.block.0 or encoder.conv_blocks.0.res.0; give a checkpoint of the tokenizer alone"
        )
    if "quantize.proj.weight" in shapes:
        return "taming-gumbel"
    attends = any(re.match(r"encoder\.down\.\d+\.attn\.", name) for name in shapes)
    return "taming" if attends else "chameleon"


def config_of(shapes: Shapes, name: Name) -> VQConfig:
    """The model's shape. ValueError names the key whose shape cannot be."""
    layout = LAYOUTS[name]
    level, block = f"encoder.{layout.levels[0]}", layout.block
    channels, levels = _of(shapes, "encoder.conv_in.weight")[0], _count(shapes, level)
    widths = [_of(shapes, f"{level}.{i}.{block}.0.conv1.weight")[0] for i in range(levels)]
    if not channels or any(width % channels for width in widths):
        raise ValueError(
            f"{level} has {widths} channels, no multiples of encoder.conv_in.weight's {channels}"
        )
    table, dim = layout.quantizer[-1][0], _of(shapes, "quant_conv.weight")[0]
    attends = tuple(i for i in range(levels) if f"{level}.{i}.attn.0.norm.weight" in shapes)
    quantizers: dict[Name, GumbelConfig | UnitConfig] = {
        "taming-gumbel": GumbelConfig(dim=dim),
        "llamagen": UnitConfig(dim=dim, codebook="learnt"),
    }
    try:
        return VQConfig(
            codebook_size=_of(shapes, table)[0],
            quantizer=quantizers.get(name, LookupConfig(dim=dim)),
            body=ConvolutionalConfig(
                channels=channels,
                multipliers=tuple(width // channels for width in widths),
                blocks=_count(shapes, f"{level}.0.{block}"),
                attention_levels=attends,
                z_channels=_of(shapes, "encoder.conv_out.weight")[0],
            ),
            preprocessing=layout.preprocessing,
        )
    except ValidationError as error:
        raise ValueError(f"the shapes of the checkpoint make no model of ours: {error}") from None


def _of(shapes: Shapes, key: str) -> tuple[int, ...]:
    if not shapes.get(key):
        raise ValueError(f"the checkpoint has no tensor {key}; give one of the whole tokenizer")
    return shapes[key]


def _count(shapes: Shapes, prefix: str) -> int:
    """How many numbered modules there are under ``prefix``."""
    found = {name[len(prefix) + 1 :].split(".", 1)[0] for name in shapes if name.startswith(f"{prefix}.")}
    return len(found)


def encoder_modules(body: ConvolutionalConfig, layout: Layout) -> Iterator[str]:
    """Their names of the modules of our encoder that have weights, in its order."""
    yield "encoder.conv_in"
    for i in range(len(body.multipliers)):
        yield from _level(f"encoder.{layout.levels[0]}.{i}", body, i, blocks=body.blocks, block=layout.block)
        if i < len(body.multipliers) - 1:
            yield f"encoder.{layout.levels[0]}.{i}.downsample"
    yield from (f"encoder.mid.{name}" for name in layout.middle)
    yield from ("encoder.norm_out", "encoder.conv_out", "quant_conv")


def decoder_modules(body: ConvolutionalConfig, layout: Layout) -> Iterator[str]:
    """The same for our decoder."""
    yield from ("post_quant_conv", "decoder.conv_in")
    yield from (f"decoder.mid.{name}" for name in layout.middle)
    deepest = len(body.multipliers) - 1
    for i in range(deepest, -1, -1):
        prefix = f"decoder.{layout.levels[1]}.{deepest - i if layout.deepest_first else i}"
        yield from _level(prefix, body, i, blocks=body.blocks + 1, block=layout.block)
        if i:
            yield f"{prefix}.upsample"
    yield from ("decoder.norm_out", "decoder.conv_out")


def _level(prefix: str, body: ConvolutionalConfig, level: int, *, blocks: int, block: str) -> Iterator[str]:
    for j in range(blocks):
        yield f"{prefix}.{block}.{j}"
        if level in body.attention_levels:
            yield f"{prefix}.attn.{j}"


def shapes_of(tensors: Mapping[str, Tensor]) -> Shapes:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}
