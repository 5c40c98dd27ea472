"""An index that no machine holds whole: every shard is asked, and their best are ranked together.

The surprising rule: what is asked is made a vector first, by one shard, and all are handed the vector. A
picture is decoded once however many shards there are, and what an asset is like is known only where it lies.
A shard that does not answer fails the search: nobody is told the best of a part as the best of all.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Coroutine, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeVar

import numpy as np

from retrieval.judging import best
from retrieval.segments import Floats
from retrieval.serving.asking import Asked, Cancelled, Facts, Found, Ranked, Searching, Sought
from retrieval.serving.queries import Given, Picture
from tokenizer_service.serving.looking import Unfit

T = TypeVar("T")


class Told(Searching, Protocol):
    """What searches, and says what it is."""

    async def facts(self) -> Facts: ...


class Shard(Told, Protocol):
    async def directed(self, parts: Sequence[Sought | Picture]) -> Sequence[Floats | None] | Unfit:
        """The vector of each part; None for an asset that lies elsewhere."""


@dataclass(frozen=True, slots=True)
class Sharded:
    shards: Sequence[Shard]
    _turns: Iterator[int] = field(default_factory=itertools.count)
    """Whose turn it is to look at what is asked."""

    async def search(self, asked: Asked) -> Found:
        parts = await self._directed(asked.parts)
        if isinstance(parts, Unfit):
            return parts
        directed = replace(asked, parts=parts)
        return merged(await together([shard.search(directed) for shard in self.shards]), asked.k)

    async def alive(self) -> bool:
        return all(await together([shard.alive() for shard in self.shards]))

    async def facts(self) -> Facts:
        found = await together([shard.facts() for shard in self.shards])
        return replace(found[0], vectors=sum(one.vectors for one in found))

    async def _directed(self, parts: Sequence[Sought | Picture]) -> tuple[Given, ...] | Unfit:
        """By one shard, and by each of the others what those before it do not hold."""
        found: dict[int, Given] = {}
        first = next(self._turns) % len(self.shards)
        for shard in (*self.shards[first:], *self.shards[:first]):
            missing = [place for place in range(len(parts)) if place not in found]
            if not missing:
                break
            vectors = await shard.directed([parts[place] for place in missing])
            if isinstance(vectors, Unfit):
                return vectors
            known = zip(missing, vectors, strict=True)
            found |= {place: Given(vector_D) for place, vector_D in known if vector_D is not None}
        return tuple(found[place] for place in range(len(parts)))


async def together(asked: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """All that they answer. Where one fails the others are cancelled: they would work for nobody."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one) for one in asked]
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from None
    return [task.result() for task in tasks]


def merged(found: Sequence[Found], k: int) -> Found:
    """As one index would have answered: the best of all, equal scores by id."""
    ranked = [one for one in found if isinstance(one, Ranked)]
    if len(ranked) < len(found):  # all were asked the same
        return next(one for one in found if isinstance(one, Cancelled | Unfit))
    ids_1C = np.concatenate([one.ids for one in ranked])[None]
    scores_1C = np.concatenate([one.scores for one in ranked])[None]
    near = best(scores_1C, ids_1C, k)
    return Ranked(ids=near.ids[0], scores=near.scores[0], batch=ranked[0].batch)
