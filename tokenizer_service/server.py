"""The tokenizer on Ray Serve: replicas that batch what callers send, and a handle that asks them.

The surprising rule: a replica never raises for a caller's fault. Ray keeps the trace of what a replica raises
and hands it on, so what is unfit is an answer. Weights are read by each replica itself, from where they
lie and with their sha256 checked; only pictures and codes travel.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from ray import serve

from infra.refs import Ref
from infra.serving.replicas import Pool, Replicas, answered, batching, busy, running
from tokenizer_service.serving.looking import Pixels, Unfit
from tokenizer_service.serving.model import Coded, Drawn, Facts, Model, Shape, encoded

# B images, T codes of an image


class Replica:
    """One copy of the model in an actor of Ray Serve.

    Serve closes a batch after ``wait_s`` even while the model is at another, and one of three, padded, takes
    as long as one of 32: 29 ms of CPU a picture. So they wait outside until the model is free, and then enter
    together: 8 ms.
    """

    async def __init__(self, weights: Ref, shape: Shape) -> None:  # type: ignore[misc]  # Serve awaits it
        self._model = await Model.ready(weights.read(), shape)
        self._free = asyncio.Event()
        self._free.set()
        for batched in (self._coded, self._drawn):
            batching(batched, max_batch=shape.max_batch, wait_s=shape.wait_s)

    async def facts(self) -> Facts:
        return self._model.facts()

    async def encode(self, images: Sequence[bytes]) -> list[Coded] | Unfit:
        async def coded(square: Pixels) -> Coded:
            await self._free.wait()
            return await self._coded(square)

        return await encoded(images, self._model.lookers, coded)

    async def decode(self, codes_BT: NDArray[np.integer[Any]]) -> list[Drawn]:
        await self._free.wait()
        return list(await asyncio.gather(*map(self._drawn, codes_BT)))

    @serve.batch
    async def _coded(self, squares: list[Pixels]) -> list[Coded]:
        with busy(self._free):
            return await self._model.codes(squares)

    @serve.batch
    async def _drawn(self, rows: list[NDArray[np.integer[Any]]]) -> list[Drawn]:
        with busy(self._free):
            return await self._model.drawn(rows)


@dataclass(frozen=True, slots=True)
class Asking:
    """The replicas, as the door asks them."""

    pool: Replicas

    async def encode(self, images: Sequence[bytes]) -> list[Coded] | Unfit:
        found: list[Coded] | Unfit = await answered(self.pool.handle.encode.remote(images))
        return found

    async def decode(self, codes_BT: NDArray[np.integer[Any]]) -> list[Drawn]:
        found: list[Drawn] = await answered(self.pool.handle.decode.remote(codes_BT))
        return found

    async def facts(self) -> Facts:
        found: Facts = await answered(self.pool.handle.facts.remote())
        return found

    async def alive(self) -> bool:
        return await self.pool.alive()


@contextlib.contextmanager
def replicas(weights: Ref, shape: Shape, pool: Pool, *, app: str, address: str | None) -> Iterator[Asking]:
    """Joins or starts Ray, and ends with all replicas of ``app`` gone."""
    with running(Replica, (weights, shape), pool, app=app, address=address) as found:
        yield Asking(found)
