"""The VQ autoencoder: an image [H, W, 3] as a grid of codebook indices, and back; and its file.

A body (:mod:`tokenizer_service.bodies`) makes a grid of vectors, a quantiser
(:mod:`tokenizer_service.quantizers`) makes a code of each.

Surprising rule: a file is the model's identity, byte for byte, so all that is said about the weights, their
licence above all, stands in one entry of its metadata: safetensors writes several in any order.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable
from typing import Any, Literal, Self

import torch
from pydantic import Field, model_validator
from safetensors import SafetensorError
from safetensors import torch as safetensors
from torch import Tensor, nn

from infra.settings import Section
from tokenizer_service import bodies, codebooks, fsq, softmaxes
from tokenizer_service.bodies import (
    Attention,
    BodyConfig,
    ChannelNorm,
    ConvolutionalConfig,
    FoldedConfig,
    Residual,
)
from tokenizer_service.quantizers import (
    MAX_CODES,
    FSQConfig,
    IBQConfig,
    Quantizer,
    QuantizerConfig,
    SimVQConfig,
    UnitConfig,
)

# B images, C channels, H height, W width, D code dimensions, K codebook size, h x w grid

METADATA = "tokenizer"


class Preprocessing(Section):
    """How the images of the training were made squares; what is encoded later has to be made the same way."""

    resize: Literal["hamming", "linear", "bicubic", "lanczos"] = "hamming"
    """``hamming`` is our own; ``linear`` is that of taming-transformers, ``bicubic``, after halvings, that of
    LlamaGen, ``lanczos`` Chameleon's. All of them bring the short side to the square's and cut the centre,
    and make -1 of 0 and 1 of 255."""
    side: int | None = None
    """Pixels a side of those squares, where it is known. Others can be encoded too, less well."""


class Weights(Section):
    """Where weights that were not fitted here come from, and on what terms."""

    license: str
    """An SPDX identifier, or the name of the terms."""
    noncommercial: bool
    layout: str
    """Whose names and shapes the file had. Not its own name: a copy under another gives the same model."""
    sha256: str
    """Of the file that was read."""


class VQConfig(Section):
    """Shape of the model. The defaults are those of 64 px images at f8: 64 codes an image."""

    codebook_size: int = Field(1024, ge=2, le=MAX_CODES)
    quantizer: QuantizerConfig = UnitConfig()
    body: BodyConfig = FoldedConfig()
    preprocessing: Preprocessing = Preprocessing()

    @property
    def downsample(self) -> int:
        """Pixels a side of the square that one code stands for."""
        return self.body.downsample

    @model_validator(mode="after")
    def _levels_spell_the_codebook(self) -> Self:
        if isinstance(self.quantizer, FSQConfig) and self.quantizer.size != self.codebook_size:
            raise ValueError(
                f"quantizer.levels {self.quantizer.levels} make {self.quantizer.size} codes, not "
                f"{self.codebook_size}; set codebook_size to {self.quantizer.size}"
            )
        return self


def trained_at(config: VQConfig, side: int) -> VQConfig:
    """The same model, saying which squares it has been fitted on."""
    told = config.preprocessing.model_copy(update={"side": side})
    return config.model_copy(update={"preprocessing": told})


class VQ(nn.Module):
    """Weights drawn or loaded by :func:`new` and :func:`load`; images are floats in [-1, 1]."""

    def __init__(self, config: VQConfig, weights: Weights | None = None) -> None:
        super().__init__()
        self.config = config
        self.weights = weights
        """None for weights that were fitted here, from nothing."""
        self.encoder = bodies.encoder(config.body, config.quantizer.dim)
        self.quantizer = QUANTIZERS[config.quantizer.kind](config.quantizer, config.codebook_size)
        self.decoder = bodies.decoder(config.body, config.quantizer.dim)

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    def embed(self, images_BCHW: Tensor) -> Tensor:
        """Vectors [B, D, h, w], as the quantiser takes them."""
        vectors_BDhw: Tensor = self.encoder(images_BCHW)
        return vectors_BDhw.float()

    def encode(self, images_BCHW: Tensor) -> Tensor:
        """Codes [B, h, w]."""
        return self.quantizer.codes(self.embed(images_BCHW))

    def decode(self, codes_Bhw: Tensor) -> Tensor:
        """Images [B, 3, H, W], not clipped."""
        return self.draw(self.quantizer.vectors(codes_Bhw))

    def draw(self, vectors_BDhw: Tensor) -> Tensor:
        """Images [B, 3, H, W] of the quantiser's vectors."""
        images_BCHW: Tensor = self.decoder(vectors_BDhw)
        return images_BCHW.float()


def _unit(config: UnitConfig, size: int) -> Quantizer:
    kind = codebooks.Unit if config.codebook == "averaged" else codebooks.LearntUnit
    return kind(config, size)


QUANTIZERS: dict[str, Callable[[Any, int], Quantizer]] = {
    "unit": _unit,
    "ema": codebooks.EMA,
    "lookup": codebooks.Lookup,
    "simvq": codebooks.SimVQ,
    "ibq": softmaxes.IBQ,
    "gumbel": softmaxes.Gumbel,
    "fsq": fsq.FSQ,
}
"""By the ``kind`` of their configuration."""


PRESETS = {
    "small-64-f8": VQConfig(),
    "cm3leon-256-f8": VQConfig(
        codebook_size=8192,
        quantizer=UnitConfig(dim=8, codebook="learnt"),
        body=ConvolutionalConfig(multipliers=(1, 2, 2, 4), attention_levels=(3,)),
    ),
    "llamagen-f8": VQConfig(
        codebook_size=16_384,
        quantizer=UnitConfig(dim=8, codebook="learnt"),
        body=ConvolutionalConfig(multipliers=(1, 2, 2, 4), attention_levels=(3,)),
        preprocessing=Preprocessing(resize="bicubic"),
    ),
    "llamagen-f16": VQConfig(
        codebook_size=16_384,
        quantizer=UnitConfig(dim=8, codebook="learnt"),
        body=ConvolutionalConfig(),
        preprocessing=Preprocessing(resize="bicubic"),
    ),
    "ibq-f16": VQConfig(codebook_size=262_144, quantizer=IBQConfig(), body=ConvolutionalConfig()),
    "simvq-small-f8": VQConfig(codebook_size=8192, quantizer=SimVQConfig()),
    "fsq-small-f8": VQConfig(quantizer=FSQConfig()),
}
"""``cm3leon-256-f8`` is the paper's setting: 256 px as 1,024 codes of 8,192 (arXiv 2309.02591, part 2.1)."""


def new(config: VQConfig, generator: torch.Generator) -> VQ:
    """Weights drawn from ``generator``; residual branches begin at zero."""
    with torch.device("meta"):
        model = VQ(config)
    model.to_empty(device="cpu")
    _fill(model.encoder, generator)
    _fill(model.decoder, generator)
    for module in model.modules():
        if isinstance(module, Residual | Attention):
            nn.init.zeros_(module.last.weight)
    model.quantizer.initialize(generator)
    model.quantizer.forget()
    return _laid_out(model)


def _fill(body: nn.Module, generator: torch.Generator) -> None:
    for module in body.modules():
        if isinstance(module, nn.Conv2d):
            bound = (module.in_channels * module.kernel_size[0] * module.kernel_size[1]) ** -0.5
            nn.init.uniform_(module.weight, -bound, bound, generator=generator)
            nn.init.zeros_(module.bias)  # type: ignore[arg-type]  # every convolution here has a bias
        elif isinstance(module, ChannelNorm | nn.GroupNorm):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)


def _laid_out(model: VQ) -> VQ:
    """Kernels of convolutions over places with their channels last, and so all that comes out of them: a
    convolution of 128 channels at 256 px ran at 72 GFLOP/s a core, against 53 with places last.
    """
    if isinstance(model.config.body, ConvolutionalConfig):
        model.encoder.to(memory_format=torch.channels_last)
        model.decoder.to(memory_format=torch.channels_last)
    return model


def save(model: VQ) -> bytes:
    """A safetensors file with the configuration as JSON in its metadata; equal models give equal bytes."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    told: dict[str, Any] = {"config": model.config.model_dump(mode="json")}
    if model.weights is not None:
        told["weights"] = model.weights.model_dump(mode="json")
    return bytes(safetensors.save(tensors, metadata={METADATA: json.dumps(told)}))


def load(data: bytes) -> VQ:
    """The model that :func:`save` wrote, ready to encode."""
    try:
        tensors = safetensors.load(data)
        (length,) = struct.unpack("<Q", data[:8])
        told = json.loads(json.loads(data[8 : 8 + length])["__metadata__"][METADATA])
        config = VQConfig.model_validate_json(json.dumps(told["config"]))
        weights = Weights.model_validate(told["weights"]) if "weights" in told else None
    except (SafetensorError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"not an image tokenizer written by vq.save: {error}; fit it again") from error
    return filled(config, weights, tensors)


def filled(config: VQConfig, weights: Weights | None, tensors: dict[str, Tensor]) -> VQ:
    """A model of these tensors, by name, ready to encode. ValueError names the one that is wrong."""
    with torch.device("meta"):
        model = VQ(config, weights)
    wanted = model.state_dict()
    if differ := sorted(wanted.keys() ^ tensors.keys()):
        raise ValueError(f"{differ[0]} is missing, or has no place in the model; take another file")
    for name, tensor in tensors.items():
        if tensor.shape != wanted[name].shape or tensor.dtype != torch.float32:
            found = f"{tensor.dtype} {tuple(tensor.shape)}"
            raise ValueError(
                f"{name} is {found}, not torch.float32 {tuple(wanted[name].shape)}; fit it again"
            )
        if not tensor.isfinite().all():
            raise ValueError(f"{name} has values that are no numbers; take the checkpoint before")
    model.load_state_dict(tensors, assign=True)
    model.quantizer.forget()
    return _laid_out(model).eval().requires_grad_(requires_grad=False)


def fingerprint(model: VQ) -> str:
    """sha256 of the saved bytes, in hex."""
    return hashlib.sha256(save(model)).hexdigest()
