"""Pictures to codes and back as arrays: uint8 [B, H, W, 3] in, uint16 or uint32 codes [B, T] out.

Surprising rule: every batch has the same shape, the last one padded, since kernels differ between shapes; so
the codes of an image do not depend on what is encoded with it. On a CPU the batch is as small as its cache.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from infra.settings import Section
from tokenizer_service.vq import VQ

# B images, H height, W width, C channels, h x w grid, T = h x w codes
Pixels = NDArray[np.uint8]
Codes = NDArray[np.unsignedinteger]

ACTIVATION_BYTES = 16 << 20
"""Of the largest tensor in a CPU's batch: 16 images of 128 px in parts of 4 took four fifths of the time that
they took whole, and half of what they took with places last and a fresh tensor for every operation."""


class Numerics(Section):
    """What the codes depend on beside the weights: part of the key of every step that encodes."""

    dtype: Literal["float32", "bfloat16"] = "float32"
    """bfloat16 is autocast. On a CPU it wants instructions for it, AMX best: without any, a convolution took
    eight times as long as in float32."""
    batch_images: int = Field(default=32, ge=1)
    """Images a batch at most; the last batch is padded."""
    compile: bool = False
    """Through torch.compile, which needs a C++ compiler and takes minutes: for long runs."""


NUMERICS = Numerics()


def code_dtype(model: VQ) -> type[np.unsignedinteger]:
    """The smallest that holds every code."""
    return np.uint16 if model.config.codebook_size <= 1 << 16 else np.uint32


def to_floats(images_BHWC: Pixels | Tensor) -> Tensor:
    """uint8 [B, H, W, 3] to floats [B, 3, H, W] in [-1, 1]: the nearest float32 to u / 127.5 - 1, which is
    what the published tokenizers compute in float64.
    """
    images = torch.as_tensor(images_BHWC)
    return (images.permute(0, 3, 1, 2).float() * 2 - 255) / 255


def to_pixels(images_BCHW: Tensor) -> Pixels:
    """Floats, clipped to [-1, 1], to uint8 [B, H, W, 3]."""
    levels_BCHW = ((images_BCHW.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return levels_BCHW.permute(0, 2, 3, 1).contiguous().cpu().numpy()


@torch.inference_mode()
def encode_images(model: VQ, images_BHWC: Pixels, *, numerics: Numerics = NUMERICS) -> Codes:
    """Codes [B, T] in raster order, on the device where the weights are."""
    f, (_, height, width, channels) = model.config.downsample, images_BHWC.shape
    if images_BHWC.dtype != np.uint8 or channels != 3 or height % f or width % f or not height * width:
        raise ValueError(
            f"images must be uint8 [B, H, W, 3] with sides that are multiples of {f}, got "
            f"{images_BHWC.dtype} {images_BHWC.shape}; set the image side to {max(f, height // f * f)}"
        )
    embed, found = _ready(model.encoder, numerics), []
    for batch_BHWC in _batches(images_BHWC, batch_images(model, height * width, numerics)):
        with _autocast(model, numerics):
            vectors_BDhw = embed(to_floats(_moved(batch_BHWC, model.device)))
        # They stay on the device: asked for one by one, each would wait for the one before.
        found.append(model.quantizer.codes(vectors_BDhw.float()).flatten(1).int())
    if not found:
        return np.zeros((0, height // f * (width // f)), code_dtype(model))
    codes_BT: NDArray[np.int32] = torch.cat(found).cpu().numpy()
    return codes_BT[: len(images_BHWC)].astype(code_dtype(model))


@torch.inference_mode()
def decode_codes(model: VQ, codes_BT: NDArray[np.integer], *, numerics: Numerics = NUMERICS) -> Pixels:
    """Square images [B, side, side, 3] of codes in raster order, batched as in :func:`encode_images`."""
    grid, size = math.isqrt(codes_BT.shape[1]), model.config.codebook_size
    if grid**2 != codes_BT.shape[1]:
        raise ValueError(f"{codes_BT.shape[1]} codes are no square grid; give all the codes of square images")
    if codes_BT.size and (codes_BT.min() < 0 or codes_BT.max() >= size):
        raise ValueError(f"codes must be in [0, {size}), got [{codes_BT.min()}, {codes_BT.max()}]")
    side = grid * model.config.downsample
    draw, found = _ready(model.decoder, numerics), []
    for batch_BT in _batches(codes_BT.astype(np.int64), batch_images(model, side * side, numerics)):
        vectors_BDhw = model.quantizer.vectors(_moved(batch_BT, model.device).view(-1, grid, grid))
        with _autocast(model, numerics):
            found.append(to_pixels(draw(vectors_BDhw).float()))
    images_BHWC = np.concatenate(found) if found else np.zeros((0, side, side, 3), np.uint8)
    return images_BHWC[: len(codes_BT)]


def batch_images(model: VQ, pixels: int, numerics: Numerics) -> int:
    """Images of so many pixels that go through the model at once."""
    if model.device.type != "cpu":
        return numerics.batch_images
    image_bytes = 4 * model.config.body.floats_per_pixel * pixels
    return max(1, min(numerics.batch_images, int(ACTIVATION_BYTES / image_bytes)))


def _ready(part: nn.Module, numerics: Numerics) -> Callable[[Tensor], Tensor]:
    return _compiled(part) if numerics.compile else part


@functools.lru_cache(maxsize=4)
def _compiled(part: nn.Module) -> Callable[[Tensor], Tensor]:
    """Once for each encoder and decoder; for each shape of a batch anew."""
    compiled: Callable[[Tensor], Tensor] = torch.compile(part, dynamic=False)
    return compiled


def _autocast(model: VQ, numerics: Numerics) -> torch.autocast:
    half = numerics.dtype == "bfloat16"
    return torch.autocast(model.device.type, dtype=torch.bfloat16, enabled=half)


def _moved(batch: NDArray[Any], device: torch.device) -> Tensor:
    """On the device; to a GPU while it still works on what came before."""
    tensor = torch.from_numpy(batch)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def _batches(rows_BX: NDArray[Any], size: int) -> Iterator[NDArray[Any]]:
    """Of exactly ``size`` rows; the last is padded with zeros."""
    for start in range(0, len(rows_BX), size):
        batch = rows_BX[start : start + size]
        padding = [(0, size - len(batch))] + [(0, 0)] * (batch.ndim - 1)
        yield np.pad(batch, padding)
