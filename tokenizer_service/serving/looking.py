"""A caller's picture as the model's square, made in a process that may die of it.

The surprising rule: what is no picture is an answer and not an error, since the next caller's waits in the
same process. This module is what the process imports, and so without torch; :class:`Lookers` stands outside.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infra.guarded.isolated import Answer, Died, Isolated, Limits
from tokenizer_service import images, sizes

# H height, W width
Pixels = NDArray[np.uint8]

MAX_PIXELS = 50_000_000
"""Of a caller's picture. Ingest takes 120 MP, which cost 7 s and 924 MiB each."""
MEMORY_BYTES = 832 << 20
"""Address space of a picture: 50 MP of WebP with transparency take over 704 MiB, and fit in 800."""
CPU_S = 10
WALL_S = 40.0
MAX_CHARS = 200
PUBLISHED = "tokenizer_service.serving.resampling:look"
"""For models that see squares otherwise; it imports torch, which takes seconds and 200 MB a process."""
KINDS = ("format", "broken", "pixels", "small")


@dataclass(frozen=True, slots=True, kw_only=True)
class Unfit:
    """A picture that has no codes."""

    kind: str
    """``format``: no JPEG, PNG or WebP; ``broken``, ``pixels`` (too many), ``small``, ``died``."""
    why: str
    place: int = 0
    """Among the pictures of its request."""


def look(image: bytes, settings: Mapping[str, Any]) -> Answer:
    """What :func:`square_of` reads, made in the process, for models that see squares as ours do."""
    return seen(image, settings, sizes.fit_square)


def seen(image: bytes, settings: Mapping[str, Any], fit: Callable[[Pixels, int], Pixels]) -> Answer:
    """The square that the corpus's own images get, or why there is none."""
    side = settings["side"]
    try:
        header = images.probe(image)
        if header.width * header.height > settings["max_pixels"]:
            told = f"{header.width}x{header.height} pixels, at most {settings['max_pixels']} are decoded"
            return {"unfit": "pixels", "why": told}, []
        pixels_HWC = images.decode(image)
    except images.OtherFormat as error:
        return {"unfit": "format", "why": str(error)}, []
    except images.Undecodable as error:
        return {"unfit": "broken", "why": str(error)}, []
    height, width, _ = pixels_HWC.shape
    if min(height, width) * sizes.MAX_ENLARGEMENT < side:
        return {"unfit": "small", "why": f"{width}x{height} pixels are too few for {side} px a side"}, []
    return {}, [fit(pixels_HWC, side).tobytes()]


def square_of(told: Answer, side: int) -> Pixels | Unfit:
    """Checked as far as it can be: as many bytes as the square has."""
    match told:
        case {"unfit": str(kind), "why": str(why)}, [] if kind in KINDS:
            return Unfit(kind=kind, why=why[:MAX_CHARS])
        case {}, [raw] if len(raw) == 3 * side * side:
            return np.frombuffer(raw, np.uint8).reshape(side, side, 3)
    raise Died("no answer in form")


class Lookers:
    """Some threads, each with such a process of its own. ``resize`` is that of the model's preprocessing."""

    def __init__(self, count: int, side: int, resize: str) -> None:
        self._side = side
        self._resize = resize
        self._own = threading.local()
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="looker", initializer=self._begin)

    def _begin(self) -> None:
        ours = self._resize == "hamming"
        limits = Limits(
            memory_bytes=MEMORY_BYTES if ours else 2 * MEMORY_BYTES,
            cpu_s=CPU_S,
            wall_s=WALL_S,
            answer_bytes=3 * self._side**2,
            deaths=1,  # 200 KB may be the scans of 10 s: once is enough for whoever sends them
        )
        settings = {"side": self._side, "max_pixels": MAX_PIXELS, "resize": self._resize}
        function = f"{__name__}:look" if ours else PUBLISHED
        self._own.child = Isolated(function=function, settings=settings, limits=limits)

    def _square(self, image: bytes) -> Pixels | Unfit:
        child: Isolated = self._own.child
        try:
            return square_of(child.call(image), self._side)
        except Died as died:
            child.close()  # nonsense did not end it, and the next picture is another caller's
            return Unfit(kind="died", why=f"its decoder ended by {died.how}")

    async def square(self, image: bytes) -> Pixels | Unfit:
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._square, image)

    def close(self) -> None:
        self._threads.shutdown(cancel_futures=True)
