"""One copy of the weights, and the threads around it: several look at pictures, one multiplies.

The surprising rule: every batch has one shape, the last rows of it padding, however few came. Kernels
differ between shapes, so this alone makes a picture's codes those that ``coding.encode_images`` gives it,
whoever else is in the batch.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from tokenizer_service import coding, vq
from tokenizer_service.coding import Numerics
from tokenizer_service.serving.looking import Lookers, Pixels, Unfit
from tokenizer_service.vq import VQ

# B images, H height, W width, T codes of an image

T = TypeVar("T")

THREADS = 1
"""That multiply, as the corpus's own step has it: sums depend on the number. Replicas take more cores."""
PNG_LEVEL = 3
"""Of zlib: a quarter of the time of 6, for files 5 % larger."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What a service serves, fixed while it runs."""

    side: int
    """Pixels a side of the square that is encoded."""
    max_batch: int
    """Images a batch; each is padded to as many."""
    wait_s: float
    """That a picture waits for others."""
    lookers: int
    """Processes that decode pictures, a replica."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of the products, as of :class:`coding.Numerics`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What codes mean: sent with them."""

    side: int
    grid: int
    """Codes a side; an image has ``grid`` x ``grid``, in raster order."""
    codebook_size: int
    fingerprint: str

    @property
    def codes(self) -> int:
        return self.grid**2

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of raw codes: little-endian, two bytes where that is enough."""
        return np.dtype("<u2" if self.codebook_size <= 65_536 else "<u4")


@dataclass(frozen=True, slots=True, kw_only=True)
class Coded:
    codes_T: NDArray[np.integer[Any]]
    batch: int
    """Images of its batch, told by the first of them; 0 by the others, so that batches can be counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    png: bytes
    batch: int
    """As of :class:`Coded`."""


class Coder(Protocol):
    """What the door asks: this process's model, or replicas on a cluster."""

    async def encode(self, images: Sequence[bytes]) -> list[Coded] | Unfit: ...

    async def decode(self, codes_BT: NDArray[np.integer[Any]]) -> list[Drawn]: ...

    async def alive(self) -> bool: ...


class Model:
    """Made by :meth:`ready`."""

    def __init__(self, model: VQ, shape: Shape) -> None:
        self.model = model
        self.shape = shape
        self.lookers = Lookers(shape.lookers, shape.side, model.config.preprocessing.resize)
        self._numerics = Numerics(batch_images=shape.max_batch, dtype=shape.dtype)
        self._multiplying = ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(THREADS,))
        self._drawing = ThreadPoolExecutor(shape.lookers)

    @classmethod
    async def ready(cls, weights: bytes, shape: Shape) -> Model:
        """Loaded, and warm: a picture has been encoded and drawn again."""
        found = cls(vq.load(weights).to("cuda" if torch.cuda.is_available() else "cpu"), shape)
        blank = png(np.zeros((shape.side, shape.side, 3), np.uint8))
        squares = await asyncio.gather(*[found.lookers.square(blank) for _ in range(shape.lookers)])
        (coded,) = await found.codes([square for square in squares if not isinstance(square, Unfit)][:1])
        await found.drawn([coded.codes_T])
        return found

    def facts(self) -> Facts:
        f = self.model.config.downsample
        return Facts(
            side=self.shape.side,
            grid=self.shape.side // f,
            codebook_size=self.model.config.codebook_size,
            fingerprint=vq.fingerprint(self.model),
        )

    async def codes(self, squares: Sequence[Pixels]) -> list[Coded]:
        """Of one batch, at most ``max_batch`` squares."""
        codes_BT = await self._multiply(
            lambda: coding.encode_images(self.model, np.stack(squares), numerics=self._numerics)
        )
        return [Coded(codes_T=codes_T, batch=of_first(row, codes_BT)) for row, codes_T in enumerate(codes_BT)]

    async def drawn(self, rows: Sequence[NDArray[np.integer[Any]]]) -> list[Drawn]:
        """Of one batch, at most ``max_batch`` rows of codes."""
        pixels_BHWC = await self._multiply(
            lambda: coding.decode_codes(self.model, np.stack(rows), numerics=self._numerics)
        )
        run, drawing = asyncio.get_running_loop().run_in_executor, self._drawing
        files = await asyncio.gather(*[run(drawing, png, pixels_HWC) for pixels_HWC in pixels_BHWC])
        return [Drawn(png=file, batch=of_first(row, files)) for row, file in enumerate(files)]

    async def _multiply(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._multiplying, work)

    def close(self) -> None:
        self.lookers.close()
        self._multiplying.shutdown()
        self._drawing.shutdown()


def of_first(row: int, batch: Any) -> int:
    return len(batch) if row == 0 else 0


async def encoded(
    images: Sequence[bytes], lookers: Lookers, code: Callable[[Pixels], Awaitable[Coded]]
) -> list[Coded] | Unfit:
    """One request's images: none goes to the model unless all are fit."""
    squares: list[Pixels] = []
    for place, seen in enumerate(await asyncio.gather(*map(lookers.square, images))):
        if isinstance(seen, Unfit):
            return replace(seen, place=place)
        squares.append(seen)
    return list(await asyncio.gather(*map(code, squares)))


def png(pixels_HWC: Pixels) -> bytes:
    sink = io.BytesIO()
    Image.fromarray(pixels_HWC).save(sink, "PNG", compress_level=PNG_LEVEL)
    return sink.getvalue()
