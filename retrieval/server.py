"""The search on Ray Serve: replicas that hold the index and its encoder, and batch what callers ask.

The surprising rule: a replica knows ids and vectors, and nobody's rights. Which ids may answer comes with
every search, and the door looks again at what comes back.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from ray import serve

from infra.serving.replicas import Pool, Replicas, answered, running
from retrieval.searching import Searcher
from retrieval.serving.desk import Asked, Cancelled, Desk, Facts, Found, Ranked, Seen, Shape, searched

Opening = Callable[[int], Searcher]
"""Opens the index where it lies; told the threads of a search. It travels to each replica."""


class Replica:
    """One desk in an actor of Ray Serve.

    Serve closes a batch after ``wait_s`` even while the desk is at another: so searches wait outside until it
    is free, and then enter together.
    """

    async def __init__(self, opening: Opening, shape: Shape) -> None:  # type: ignore[misc]  # Serve awaits it
        self._desk = await Desk.ready(opening, shape)
        self._free = asyncio.Event()
        self._free.set()
        batched: Any = self._batch
        batched.set_max_batch_size(shape.max_batch)
        batched.set_batch_wait_timeout_s(shape.wait_s)

    async def facts(self) -> Facts:
        return self._desk.facts()

    async def search(self, asked: Asked) -> Found:
        return await searched(self._desk, asked, self._ranked)

    async def _ranked(self, seen: Seen) -> Ranked | Cancelled:
        await self._free.wait()
        return await self._batch(seen)

    @serve.batch
    async def _batch(self, batch: list[Seen]) -> list[Ranked | Cancelled]:
        self._free.clear()
        try:
            return await self._desk.ranked(batch)
        finally:
            self._free.set()


@dataclass(frozen=True, slots=True)
class Asking:
    """The replicas, as the door asks them."""

    pool: Replicas

    async def search(self, asked: Asked) -> Found:
        found: Found = await answered(self.pool.handle.search.remote(asked))
        return found

    async def facts(self) -> Facts:
        found: Facts = await answered(self.pool.handle.facts.remote())
        return found

    async def alive(self) -> bool:
        return await self.pool.alive()


@contextlib.contextmanager
def replicas(
    opening: Opening, shape: Shape, pool: Pool, *, app: str, address: str | None
) -> Iterator[Asking]:
    """Joins or starts Ray, and ends with all replicas of ``app`` gone."""
    with running(Replica, (opening, shape), pool, app=app, address=address) as found:
        yield Asking(found)
