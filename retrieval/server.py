"""The search on Ray Serve: replicas that hold the index, or a shard of it, and its encoder, and batch what
callers ask.

The surprising rule: a replica knows ids and vectors, and nobody's rights. Which ids may answer comes with
every search, and the door looks again at what comes back.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from ray import serve

from infra.serving.replicas import Pool, Replicas, answered, batching, busy, running
from retrieval.searching import Searcher
from retrieval.segments import Floats
from retrieval.serving.asking import Answer, Asked, Facts, Forgotten, Found, Ready, Shape, Sought
from retrieval.serving.desk import Desk, looked_at, searched
from retrieval.serving.queries import Picture
from retrieval.serving.shards import Sharded, Told
from tokenizer_service.serving.looking import Pixels, Unfit

NAMES = 4096
"""Of sets of ids that are remembered to have been sent."""
Opening = Callable[[int], Searcher]
"""Opens the index where it lies; told the threads of a search. It travels to each replica."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """An index, or a shard of one."""

    opening: Opening
    memory: int
    """Bytes that it takes, as far as it is not read from disk."""


class Replica:
    """One desk in an actor of Ray Serve.

    Serve closes a batch after ``wait_s`` even while the desk is at another: so pictures and searches wait
    outside until their thread is free, and then enter together.
    """

    async def __init__(self, opening: Opening, shape: Shape) -> None:  # type: ignore[misc]  # Serve awaits it
        self._desk = await Desk.ready(opening, shape)
        self._may_encode, self._may_search = asyncio.Event(), asyncio.Event()
        for free, batched in ((self._may_encode, self._encode), (self._may_search, self._rank)):
            free.set()
            batching(batched, max_batch=shape.max_batch, wait_s=shape.wait_s)

    async def facts(self) -> Facts:
        return self._desk.facts()

    async def search(self, asked: Asked) -> Answer | Unfit:
        return await searched(self._desk, asked, pictured=self._pictured, ranked=self._ranked)

    async def directed(self, parts: Sequence[Sought | Picture]) -> Sequence[Floats | None] | Unfit:
        found = await looked_at(self._desk, parts, pictured=self._pictured)
        return found if isinstance(found, Unfit) else await self._desk.directed(found)

    async def _pictured(self, square: Pixels) -> Floats:
        await self._may_encode.wait()
        return await self._encode(square)

    async def _ranked(self, ready: Ready) -> Answer:
        await self._may_search.wait()
        return await self._rank(ready)

    @serve.batch
    async def _encode(self, squares: list[Pixels]) -> list[Floats]:
        with busy(self._may_encode):
            return await self._desk.pictured(squares)

    @serve.batch
    async def _rank(self, batch: list[Ready]) -> list[Answer]:
        with busy(self._may_search):
            return await self._desk.ranked(batch)


@dataclass(frozen=True, slots=True)
class Asking:
    """The replicas, as the door asks them. Sets of ids are named, and sent to whom does not know the name."""

    pool: Replicas
    _sent: set[bytes] = field(default_factory=set)

    async def search(self, asked: Asked) -> Found:
        name = asked.among.name
        asked_first = replace(asked, among=asked.among.named) if name in self._sent else asked
        found = await self._searched(asked_first)
        if isinstance(found, Forgotten):
            found = await self._searched(asked)
        if len(self._sent) > NAMES:
            self._sent.clear()
        self._sent.add(name)
        assert not isinstance(found, Forgotten)  # noqa: S101  # it was sent whole
        return found

    async def _searched(self, asked: Asked) -> Answer | Unfit:
        found: Answer | Unfit = await answered(self.pool.handle.search.remote(asked))
        return found

    async def directed(self, parts: Sequence[Sought | Picture]) -> Sequence[Floats | None] | Unfit:
        found: Sequence[Floats | None] | Unfit = await answered(self.pool.handle.directed.remote(parts))
        return found

    async def facts(self) -> Facts:
        found: Facts = await answered(self.pool.handle.facts.remote())
        return found

    async def alive(self) -> bool:
        return await self.pool.alive()


@contextlib.contextmanager
def replicas(
    parts: Sequence[Part], shape: Shape, pool: Pool, *, app: str, address: str | None
) -> Iterator[Told]:
    """A pool for each part, which is a shard. Joins or starts Ray, and ends with all of them gone."""
    with contextlib.ExitStack() as stack:
        shards = []
        for number, part in enumerate(parts):
            mine = replace(pool, memory=part.memory, beside=len(parts))
            arguments, name = (part.opening, shape), named(app, number)
            shards.append(
                Asking(stack.enter_context(running(Replica, arguments, mine, app=name, address=address)))
            )
        yield shards[0] if len(shards) == 1 else Sharded(shards)


def named(app: str, shard: int) -> str:
    return f"{app}-{shard}" if shard else app
