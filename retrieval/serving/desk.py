"""One copy of the index and of its encoder, and threads around them: for files, pictures and searches.

The surprising rule: pictures have a thread, and batches, of their own. One takes the encoder 70 ms of a core,
a search 5: in one queue, whoever asks by words would wait for whoever asks by pictures. What comes together
shares passes over the index where it may, and each search is answered as it would be alone.

Legend: B searches, D embedding.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import torch

from retrieval.index import Within
from retrieval.searching import Searcher, mixed
from retrieval.segments import Floats, Ids
from retrieval.serving.asking import (
    Answer,
    Asked,
    Cancelled,
    Facts,
    Forgotten,
    Like,
    Ranked,
    Ready,
    Shape,
    Sought,
)
from retrieval.serving.queries import Given, Picture, Words
from retrieval.serving.subsets import Among, ids_of
from tokenizer_service.serving.looking import Lookers, Pixels, Unfit

TEXTS = 4096
"""Texts whose vectors are kept: 6 MB of 384 numbers each. A text costs 4 ms of the offline encoder."""
SUBSETS = 64
"""Sets of ids that are kept as the index has them: 8 MB of a million members."""
PREPROCESSING = "hamming"
"""How squares are made for the encoder, as the corpus made them."""


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
        self._within: OrderedDict[bytes, Within] = OrderedDict()
        self._lookers = Lookers(shape.lookers, searcher.side, PREPROCESSING)
        self._encoding, self._searching = (
            ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(shape.threads,))
            for _ in range(2)
        )

    @classmethod
    async def ready(cls, opening: Callable[[int], Searcher], shape: Shape) -> Desk:
        """Opened, and warm. ``opening`` is told the threads of a search."""
        searcher = await asyncio.to_thread(opening, shape.threads)
        found = cls(searcher, shape)
        await found.pictured([np.zeros((searcher.side, searcher.side, 3), np.uint8)])
        await asyncio.get_running_loop().run_in_executor(found._searching, searcher.texts, ["a"])
        return found

    def facts(self) -> Facts:
        encoder, index = self.searcher.encoder, self.searcher.index
        return Facts(
            encoder=encoder.name,
            fingerprint=encoder.fingerprint,
            width=index.width,
            vectors=len(index.live_ids),
        )

    async def square(self, file: bytes) -> Pixels | Unfit:
        """What the encoder is shown of a picture, made in a process that may die of it."""
        return await self._lookers.square(file)

    async def pictured(self, squares: Sequence[Pixels]) -> list[Floats]:
        """The vectors of one batch."""
        loop = asyncio.get_running_loop()
        return list(await loop.run_in_executor(self._encoding, self.searcher.images, np.stack(squares)))

    async def ranked(self, batch: Sequence[Ready]) -> list[Answer]:
        return await asyncio.get_running_loop().run_in_executor(self._searching, self.answers, batch)

    def answers(self, batch: Sequence[Ready]) -> list[Answer]:
        """Of one batch, in its order; for the one thread that searches."""
        queries_BD = self._queries(batch)
        found: list[Answer] = [Cancelled()] * len(batch)
        alike: dict[tuple[bytes, int], list[int]] = {}  # by the name of a set of ids
        for place, one in enumerate(batch):
            if queries_BD[place].any():
                fetch = one.asked.k + len(one.asked.without)
                alike.setdefault((one.asked.among.name, fetch), []).append(place)
        for (_, fetch), places in alike.items():
            within = self._among([batch[place].asked.among for place in places])
            if within is None:
                found = [Forgotten() if place in places else one for place, one in enumerate(found)]
                continue
            near = self.searcher.index.search(queries_BD[places], fetch, within)
            for row, place in enumerate(places):
                told = len(batch) if place == 0 else 0
                found[place] = best(batch[place].asked, near.ids[row], near.scores[row], batch=told)
        return found

    def _among(self, same: Sequence[Among]) -> Within | None:
        """Of one name: as it is remembered, or made of the bits that one of them brings."""
        name = same[0].name
        bits = next((one.bits for one in same if one.bits is not None), None)
        if name not in self._within and bits is not None:
            self._within[name] = self.searcher.index.within(ids_of(bits))
        if name in self._within:
            self._within.move_to_end(name)
        while len(self._within) > SUBSETS:
            self._within.popitem(last=False)
        return self._within.get(name)

    async def directed(self, parts: Sequence[Sought]) -> list[Floats | None]:
        """The vector of each part; None for a member that is not in this index."""
        return await asyncio.get_running_loop().run_in_executor(self._searching, self._vectors, parts)

    def _queries(self, batch: Sequence[Ready]) -> Floats:
        """[B, D]; zeros where nothing is asked for in the end."""
        found = iter(self._vectors([part for one in batch for part in one.parts]))
        parts = [[next(found) for _ in one.parts] for one in batch]
        pairs = zip(parts, batch, strict=True)
        return np.stack([mixed(np.stack(mine), one.asked.weights) for mine, one in pairs])  # type: ignore[arg-type]

    def _vectors(self, parts: Sequence[Sought]) -> list[Floats | None]:
        texts = self._texts.vectors([part.text for part in parts if isinstance(part, Words)])

        def vector(part: Sought) -> Floats | None:
            match part:
                case Words():
                    return texts[part.text]
                case Given():
                    return part.vector_D
                case Like() if self.searcher.index.holds(part.id):
                    (found_D,) = self.searcher.index.vectors(np.array([part.id], np.int64))
                    return np.asarray(found_D, np.float32)
            return None

        return [*map(vector, parts)]

    def close(self) -> None:
        self._lookers.close()
        self._encoding.shutdown()
        self._searching.shutdown()


def best(asked: Asked, ids: Ids, scores: Floats, *, batch: int) -> Ranked:
    """The best k that were not to be left out."""
    kept = np.flatnonzero(~np.isin(ids, asked.without))[: asked.k]
    return Ranked(ids=ids[kept], scores=scores[kept], batch=batch)


async def searched(
    desk: Desk,
    asked: Asked,
    *,
    pictured: Callable[[Pixels], Awaitable[Floats]],
    ranked: Callable[[Ready], Awaitable[Answer]],
) -> Answer | Unfit:
    """One search: a picture becomes a vector before it waits for others."""
    parts = await looked_at(desk, asked.parts, pictured=pictured)
    return parts if isinstance(parts, Unfit) else await ranked(Ready(asked=asked, parts=parts))


async def looked_at(
    desk: Desk, parts: Sequence[Sought | Picture], *, pictured: Callable[[Pixels], Awaitable[Floats]]
) -> tuple[Sought, ...] | Unfit:
    """The parts, with a vector in place of each picture."""
    found: list[Sought] = []
    for part in parts:
        if isinstance(part, Picture):
            square = await desk.square(part.file)
            if isinstance(square, Unfit):
                return square
            found.append(Given(await pictured(square)))
        else:
            found.append(part)
    return tuple(found)
