"""The VQ autoencoder: an image [side, side, 3] as a grid of codebook indices, and back.

Convolutions all the way, so one model takes any image whose sides are multiples of ``downsample``. The code
of a place is the nearest of ``codebook_size`` unit vectors in ``code_dim`` dimensions (ViT-VQGAN, arXiv
2110.04627, section 3.2: few dimensions and l2 normalisation keep the codebook in use).

Surprising rule: by default a code sees its own square alone, so an empty square has one code. With kernels of
3 and GroupNorm in the encoder, empty squares carried 8.1 bits a code about the rest of the picture, which a
transformer then has to guess. The decoder, which nobody has to predict, looks everywhere.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
from collections.abc import Callable, Iterator
from functools import partial
from typing import Annotated, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from safetensors import SafetensorError
from safetensors import torch as safetensors
from torch import Tensor, nn
from torch.nn import functional

from infra.settings import Section

# B images, C channels, H height, W width, D code dimensions, K codebook size, h x w grid, T = h x w codes
Pixels = NDArray[np.uint8]
Codes = NDArray[np.uint16]

GROUPS = 8
Width = Annotated[int, Field(ge=GROUPS, multiple_of=GROUPS)]


class VQConfig(Section):
    """Shape of the model. The defaults are those of 64 px images at f8: 64 codes an image."""

    codebook_size: int = Field(1024, ge=2, le=65_536)
    code_dim: int = Field(16, ge=2)
    """Dimensions in which the nearest code is looked up."""
    stem: int = Field(4, ge=1)
    """The first layer folds squares of this many pixels a side into channels, and the last unfolds them."""
    widths: Annotated[tuple[Width, ...], Field(strict=False, min_length=1)] = (48, 128)
    """Channels of each level, multiples of 8; every level after the first halves the sides."""
    encoder_kernel: Literal[1, 3] = 1
    """With 1, a code sees its own square alone: 0.4 dB less on 1,769 emoji, but a small transformer needed
    316 bits for the codes of a held-out image, against 443 with 3."""
    encoder_blocks: int = Field(1, ge=0)
    """Residual blocks a level."""
    decoder_blocks: int = Field(2, ge=0)
    attention_blocks: int = Field(0, ge=0)
    """Self-attention over the grid, at the decoder's entrance."""

    @property
    def downsample(self) -> int:
        """Pixels a side of the square that one code stands for."""
        return self.stem << (len(self.widths) - 1)


class Numerics(Section):
    """What the codes depend on beside the weights: part of the key of every step that encodes."""

    dtype: Literal["float32", "bfloat16"] = "float32"
    """bfloat16 is autocast. On CPUs without AMX it is slower than float32 here: 150 against 230 GFLOP/s."""
    batch_images: int = Field(default=32, ge=1)
    """Images a batch; the last batch is padded, since kernels differ between batch shapes."""


NUMERICS = Numerics()


class VQ(nn.Module):
    """Weights drawn or loaded by :func:`new` and :func:`load`; images are floats in [-1, 1]."""

    def __init__(self, config: VQConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = _encoder(config)
        self.decoder = _decoder(config)
        self.register_buffer("codebook_KD", torch.empty(config.codebook_size, config.code_dim))
        self.codebook_KD: Tensor

    def embed(self, images_BCHW: Tensor) -> Tensor:
        """Unit vectors [B, D, h, w], before the nearest code is taken."""
        return functional.normalize(self.encoder(images_BCHW).float(), dim=1)

    def nearest(self, vectors_ND: Tensor) -> Tensor:
        """Index [N] of the code with the largest cosine, compared in float32 whatever autocast says."""
        with torch.autocast(vectors_ND.device.type, enabled=False):
            return (vectors_ND @ self.codebook_KD.T).argmax(dim=1)

    def encode(self, images_BCHW: Tensor) -> Tensor:
        """Codes [B, h, w]."""
        vectors_BDhw = self.embed(images_BCHW)
        B, _, h, w = vectors_BDhw.shape
        return self.nearest(rows(vectors_BDhw)).view(B, h, w)

    def decode(self, codes_Bhw: Tensor) -> Tensor:
        """Images [B, 3, H, W], not clipped."""
        return self.draw(self.codebook_KD[codes_Bhw].permute(0, 3, 1, 2))

    def draw(self, vectors_BDhw: Tensor) -> Tensor:
        """Images [B, 3, H, W] of unit vectors, quantised or not."""
        images_BCHW: Tensor = self.decoder(vectors_BDhw)
        return images_BCHW.float()


def rows(vectors_BDhw: Tensor) -> Tensor:
    """[B x h x w, D] in raster order."""
    return vectors_BDhw.permute(0, 2, 3, 1).reshape(-1, vectors_BDhw.shape[1])


class ChannelNorm(nn.Module):
    """Root mean square over the channels of each place: what is elsewhere in the image has no say."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels, 1, 1))
        self.bias = nn.Parameter(torch.empty(channels, 1, 1))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        scale = torch.rsqrt(x_BCHW.float().square().mean(dim=1, keepdim=True) + 1e-6)
        return x_BCHW * scale * self.weight + self.bias


_group_norm = partial(nn.GroupNorm, GROUPS)


class Residual(nn.Module):
    """norm, SiLU, convolution, twice, added to the input."""

    def __init__(self, channels: int, kernel: int, norm: Callable[[int], nn.Module]) -> None:
        super().__init__()
        self.norm1, self.norm2 = norm(channels), norm(channels)
        self.first = nn.Conv2d(channels, channels, kernel, padding="same")
        self.last = nn.Conv2d(channels, channels, kernel, padding="same")

    def forward(self, x_BCHW: Tensor) -> Tensor:
        inner_BCHW = self.first(functional.silu(self.norm1(x_BCHW)))
        change_BCHW: Tensor = self.last(functional.silu(self.norm2(inner_BCHW)))
        return x_BCHW + change_BCHW


class Attention(nn.Module):
    """One head of self-attention over all places, added to the input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = _group_norm(channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.last = nn.Conv2d(channels, channels, 1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        q, k, v = (part.flatten(2).transpose(1, 2) for part in self.qkv(self.norm(x_BCHW)).chunk(3, dim=1))
        seen_BTC = functional.scaled_dot_product_attention(q, k, v)
        change_BCHW: Tensor = self.last(seen_BTC.transpose(1, 2).reshape(x_BCHW.shape))
        return x_BCHW + change_BCHW


def _encoder(config: VQConfig) -> nn.Sequential:
    """Kernels of ``encoder_kernel`` above the grid; at the grid itself each place is by itself."""
    widths, kernel = config.widths, config.encoder_kernel
    fold = nn.Conv2d(3 * config.stem**2, widths[0], kernel, padding="same")
    layers: list[nn.Module] = [nn.PixelUnshuffle(config.stem), fold]
    for level, width in enumerate(widths):
        if level:
            layers += [nn.PixelUnshuffle(2), nn.Conv2d(4 * widths[level - 1], width, 1)]
        size = 1 if level == len(widths) - 1 else kernel
        layers += [Residual(width, size, ChannelNorm) for _ in range(config.encoder_blocks)]
    return nn.Sequential(
        *layers, ChannelNorm(widths[-1]), nn.SiLU(), nn.Conv2d(widths[-1], config.code_dim, 1)
    )


def _decoder(config: VQConfig) -> nn.Sequential:
    widths = config.widths
    layers: list[nn.Module] = [nn.Conv2d(config.code_dim, widths[-1], 3, padding="same")]
    layers += [Attention(widths[-1]) for _ in range(config.attention_blocks)]
    for level in reversed(range(len(widths))):
        layers += [Residual(widths[level], 3, _group_norm) for _ in range(config.decoder_blocks)]
        if level:
            layers += [nn.Conv2d(widths[level], 4 * widths[level - 1], 1), nn.PixelShuffle(2)]
    unfold = nn.Conv2d(widths[0], 3 * config.stem**2, 3, padding="same")
    return nn.Sequential(*layers, _group_norm(widths[0]), nn.SiLU(), unfold, nn.PixelShuffle(config.stem))


def new(config: VQConfig, generator: torch.Generator) -> VQ:
    """Weights drawn from ``generator``; residual branches begin at zero."""
    with torch.device("meta"):
        model = VQ(config)
    model.to_empty(device="cpu")
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            bound = (module.in_channels * module.kernel_size[0] * module.kernel_size[1]) ** -0.5
            nn.init.uniform_(module.weight, -bound, bound, generator=generator)
            nn.init.zeros_(module.bias)  # type: ignore[arg-type]  # every convolution here has a bias
        elif isinstance(module, ChannelNorm | nn.GroupNorm):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
    for module in model.modules():
        if isinstance(module, Residual | Attention):
            nn.init.zeros_(module.last.weight)
    drawn_KD = torch.randn(config.codebook_size, config.code_dim, generator=generator)
    model.codebook_KD.copy_(functional.normalize(drawn_KD, dim=1))
    return model


def save(model: VQ) -> bytes:
    """A safetensors file with the configuration as JSON in its metadata; equal models give equal bytes."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    return bytes(safetensors.save(tensors, metadata={"config": model.config.model_dump_json()}))


def load(data: bytes) -> VQ:
    """The model that :func:`save` wrote, ready to encode."""
    try:
        tensors = safetensors.load(data)
        (length,) = struct.unpack("<Q", data[:8])
        config = VQConfig.model_validate_json(json.loads(data[8 : 8 + length])["__metadata__"]["config"])
    except (SafetensorError, KeyError, ValueError) as error:
        raise ValueError(f"not an image tokenizer written by vq.save: {error}; fit it again") from error
    with torch.device("meta"):
        model = VQ(config)
    model.load_state_dict(tensors, assign=True)
    return model.eval().requires_grad_(requires_grad=False)


def fingerprint(model: VQ) -> str:
    """sha256 of the saved bytes, in hex."""
    return hashlib.sha256(save(model)).hexdigest()


def to_floats(images_BHWC: Pixels) -> Tensor:
    """uint8 [B, H, W, 3] to floats [B, 3, H, W] in [-1, 1]."""
    return torch.from_numpy(images_BHWC).permute(0, 3, 1, 2).float() / 127.5 - 1


def to_pixels(images_BCHW: Tensor) -> Pixels:
    """Floats, clipped to [-1, 1], to uint8 [B, H, W, 3]."""
    levels_BCHW = ((images_BCHW.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return levels_BCHW.permute(0, 2, 3, 1).contiguous().cpu().numpy()


@torch.inference_mode()
def encode_images(model: VQ, images_BHWC: Pixels, *, numerics: Numerics = NUMERICS) -> Codes:
    """Codes [B, T] in raster order, on the device where the weights are.

    Every batch has ``numerics.batch_images`` images, the last one padded, so the codes of an image do not
    depend on what is encoded with it.
    """
    f, (_, height, width, channels) = model.config.downsample, images_BHWC.shape
    if images_BHWC.dtype != np.uint8 or channels != 3 or height % f or width % f or not height * width:
        raise ValueError(
            f"images must be uint8 [B, H, W, 3] with sides that are multiples of {f}, got "
            f"{images_BHWC.dtype} {images_BHWC.shape}; set the image side to {max(f, height // f * f)}"
        )
    codes_BT = np.zeros((len(images_BHWC), height // f * (width // f)), np.uint16)
    for here, batch_BHWC in _batches(images_BHWC, numerics.batch_images):
        with _autocast(model, numerics):
            codes_Bhw = model.encode(to_floats(batch_BHWC).to(model.codebook_KD.device))
        codes_BT[here] = codes_Bhw.flatten(1).cpu().numpy()[: len(codes_BT[here])]
    return codes_BT


@torch.inference_mode()
def decode_codes(model: VQ, codes_BT: NDArray[np.integer], *, numerics: Numerics = NUMERICS) -> Pixels:
    """Square images [B, side, side, 3] of codes in raster order, batched as in :func:`encode_images`."""
    grid, size = math.isqrt(codes_BT.shape[1]), model.config.codebook_size
    if grid**2 != codes_BT.shape[1]:
        raise ValueError(f"{codes_BT.shape[1]} codes are no square grid; give all the codes of square images")
    if codes_BT.size and (codes_BT.min() < 0 or codes_BT.max() >= size):
        raise ValueError(f"codes must be in [0, {size}), got [{codes_BT.min()}, {codes_BT.max()}]")
    side = grid * model.config.downsample
    images_BHWC = np.zeros((len(codes_BT), side, side, 3), np.uint8)
    for here, batch_BT in _batches(codes_BT.astype(np.int64), numerics.batch_images):
        codes_Bhw = torch.from_numpy(batch_BT).view(-1, grid, grid).to(model.codebook_KD.device)
        with _autocast(model, numerics):
            drawn_BHWC = to_pixels(model.decode(codes_Bhw))
        images_BHWC[here] = drawn_BHWC[: len(images_BHWC[here])]
    return images_BHWC


def _autocast(model: VQ, numerics: Numerics) -> torch.autocast:
    half = numerics.dtype == "bfloat16"
    return torch.autocast(model.codebook_KD.device.type, dtype=torch.bfloat16, enabled=half)


def _batches(rows_BX: NDArray[Any], size: int) -> Iterator[tuple[slice, NDArray[Any]]]:
    """Slices of exactly ``size`` rows, and where they belong; the last is padded with zeros."""
    for start in range(0, len(rows_BX), size):
        batch = rows_BX[start : start + size]
        padding = [(0, size - len(batch))] + [(0, 0)] * (batch.ndim - 1)
        yield slice(start, start + size), np.pad(batch, padding)
