"""One copy of the index and of its encoder, and the threads around them: some look at pictures, one works.

The surprising rule: a batch is no unit of meaning. Searches that came together share matrix products and
passes over the index where they may, and each is answered as it would be alone.

Legend: B searches, D embedding.
"""

from __future__ import annotations

import asyncio
import functools
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch

from retrieval.index import Index, Within
from retrieval.searching import Floats, Searcher, mixed
from retrieval.segments import Ids
from retrieval.serving.catalogue import ids_of
from retrieval.serving.queries import Given, Picture, Words
from tokenizer_service.serving.looking import Lookers, Pixels, Unfit

TEXTS = 4096
"""Texts whose vectors are kept: 6 MB of 384 numbers each. A text costs 4 ms of the offline encoder."""
SUBSETS = 64
"""Sets of ids that are kept as the index has them: 8 MB of a million members."""
PREPROCESSING = "hamming"
"""How squares are made for the encoder, as the corpus made them."""


@dataclass(frozen=True, slots=True)
class Like:
    """A member of the index, by id."""

    id: int


@dataclass(frozen=True, slots=True, eq=False)
class Square:
    """A picture that was looked at: what the encoder is shown."""

    pixels_HWC: Pixels


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Asked:
    """One search, as a replica is asked it."""

    parts: tuple[Words | Picture | Given | Like, ...]
    weights: tuple[float, ...]
    k: int
    among: bytes
    """Which ids may answer: a bitmap, as of ``catalogue.Subset``."""
    without: tuple[int, ...] = ()
    """Ids among them that may not."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Seen:
    """The same once its picture was looked at."""

    asked: Asked
    parts: tuple[Words | Square | Given | Like, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ranked:
    """Best first."""

    ids: Ids
    scores: Floats
    batch: int
    """Searches of its batch, told by the first of them; 0 by the others, so that batches can be counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancelled:
    """The parts of a mix left no direction to look in."""


Found = Ranked | Unfit | Cancelled


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What answers: told with them."""

    encoder: str
    fingerprint: str
    width: int
    """D."""
    vectors: int


class Searching(Protocol):
    """What the door asks: this process's desk, or replicas on a cluster."""

    async def search(self, asked: Asked) -> Found: ...

    async def alive(self) -> bool: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What a service serves with, fixed while it runs."""

    max_batch: int
    """Searches a batch."""
    wait_s: float
    """That a search waits for others."""
    lookers: int
    """Processes that decode pictures, a replica."""
    threads: int
    """That multiply, a replica."""


@dataclass(slots=True)
class Texts:
    """The vectors of the latest texts. Asked by one thread."""

    searcher: Searcher
    _kept: OrderedDict[str, Floats] = field(default_factory=OrderedDict)

    def vectors(self, texts: Sequence[str]) -> dict[str, Floats]:
        """By text; a text that is there twice is encoded once."""
        missing = [text for text in dict.fromkeys(texts) if text not in self._kept]
        if missing:
            self._kept |= zip(missing, self.searcher.texts(missing), strict=True)
        found = {text: self._kept[text] for text in texts}
        for text in found:
            self._kept.move_to_end(text)
        while len(self._kept) > TEXTS:
            self._kept.popitem(last=False)
        return found


class Desk:
    """Made by :meth:`ready`."""

    def __init__(self, searcher: Searcher, shape: Shape) -> None:
        self.searcher = searcher
        self.shape = shape
        self._texts = Texts(searcher)
        self._within = remembered(searcher.index)
        self._lookers = Lookers(shape.lookers, searcher.side, PREPROCESSING)
        self._working = ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(shape.threads,))

    @classmethod
    async def ready(cls, opening: Callable[[int], Searcher], shape: Shape) -> Desk:
        """Opened, and warm. ``opening`` is told the threads of a search."""
        found = cls(await asyncio.to_thread(opening, shape.threads), shape)
        await asyncio.get_running_loop().run_in_executor(found._working, found._warm)  # its own
        return found

    def _warm(self) -> None:
        side = self.searcher.side
        self.searcher.texts(["a"])
        self.searcher.images(np.zeros((1, side, side, 3), np.uint8))

    def facts(self) -> Facts:
        encoder, index = self.searcher.encoder, self.searcher.index
        return Facts(
            encoder=encoder.name,
            fingerprint=encoder.fingerprint,
            width=index.width,
            vectors=len(index.live_ids),
        )

    async def seen(self, asked: Asked) -> Seen | Unfit:
        """With its picture looked at, in a process that may die of it."""
        parts: list[Words | Square | Given | Like] = []
        for part in asked.parts:
            if isinstance(part, Picture):
                square = await self._lookers.square(part.file)
                if isinstance(square, Unfit):
                    return square
                parts.append(Square(square))
            else:
                parts.append(part)
        return Seen(asked=asked, parts=tuple(parts))

    async def ranked(self, batch: Sequence[Seen]) -> list[Ranked | Cancelled]:
        return await asyncio.get_running_loop().run_in_executor(self._working, self.answers, batch)

    def answers(self, batch: Sequence[Seen]) -> list[Ranked | Cancelled]:
        """Of one batch, in its order; for the one thread that works."""
        queries_BD = self._queries(batch)
        found: list[Ranked | Cancelled] = [Cancelled()] * len(batch)
        alike: dict[tuple[bytes, int], list[int]] = {}
        for place, seen in enumerate(batch):
            if queries_BD[place].any():
                fetch = seen.asked.k + len(seen.asked.without)
                alike.setdefault((seen.asked.among, fetch), []).append(place)
        for (among, fetch), places in alike.items():
            near = self.searcher.index.search(queries_BD[places], fetch, self._within(among))
            for row, place in enumerate(places):
                told = len(batch) if place == 0 else 0
                found[place] = ranked(batch[place].asked, near.ids[row], near.scores[row], batch=told)
        return found

    def _queries(self, batch: Sequence[Seen]) -> Floats:
        """[B, D]; zeros where nothing is asked for in the end."""
        words = [part.text for seen in batch for part in seen.parts if isinstance(part, Words)]
        squares = [part.pixels_HWC for seen in batch for part in seen.parts if isinstance(part, Square)]
        texts = self._texts.vectors(words)
        pictures = iter([*self.searcher.images(np.stack(squares))] if squares else ())

        def vector(part: Words | Square | Given | Like) -> Floats:
            match part:
                case Words():
                    return texts[part.text]
                case Square():
                    return next(pictures)
                case Given():
                    return part.vector_D
                case Like():
                    (found_D,) = self.searcher.index.vectors(np.array([part.id], np.int64))
                    return np.asarray(found_D, np.float32)

        return np.stack([mixed(np.stack([*map(vector, seen.parts)]), seen.asked.weights) for seen in batch])

    def close(self) -> None:
        self._lookers.close()
        self._working.shutdown()


def remembered(index: Index) -> Callable[[bytes], Within]:
    """Sets of ids by their bitmaps, the latest of them kept."""

    @functools.lru_cache(maxsize=SUBSETS)
    def found(bits: bytes) -> Within:
        return index.within(ids_of(bits))

    return found


def ranked(asked: Asked, ids: Ids, scores: Floats, *, batch: int) -> Ranked:
    """The best k that were not to be left out."""
    kept = np.flatnonzero(~np.isin(ids, asked.without))[: asked.k]
    return Ranked(ids=ids[kept], scores=scores[kept], batch=batch)


async def searched(desk: Desk, asked: Asked, rank: Callable[[Seen], Awaitable[Ranked | Cancelled]]) -> Found:
    """One search: its picture is looked at before it waits for others."""
    seen = await desk.seen(asked)
    return seen if isinstance(seen, Unfit) else await rank(seen)
