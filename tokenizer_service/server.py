"""The tokenizer on Ray Serve: replicas that batch what callers send, and a handle that asks them.

The surprising rule: a replica never raises for a caller's fault. Ray keeps the trace of what a replica raises
and hands it on, so what is unfit is an answer. Weights are read by each replica itself, from where they
lie and with their sha256 checked; only pictures and codes travel.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import Awaitable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

import numpy as np
import ray
from numpy.typing import NDArray
from ray import serve
from ray.exceptions import RayActorError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle, DeploymentResponse

from infra import cluster
from infra.refs import Ref
from tokenizer_service.serving.door import Busy
from tokenizer_service.serving.looking import Pixels, Unfit
from tokenizer_service.serving.model import Coded, Drawn, Facts, Model, Shape, encoded

# B images, T codes of an image

T = TypeVar("T")

DEPLOYMENT = "Replica"
AHEAD = 2
"""Batches that a replica holds: one at work, and one that fills."""
LEAST = 16
"""Requests that it holds at least: with two, batches of one waited for Serve's router, not for the model."""
END_S = 5.0
"""For a replica to finish; the door has waited for all that it was asked."""
QUIET = {"log_level": "ERROR", "enable_access_log": False}


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
        batched: Any
        for batched in (self._coded, self._drawn):
            batched.set_max_batch_size(shape.max_batch)
            batched.set_batch_wait_timeout_s(shape.wait_s)

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
        with self._busy():
            return await self._model.codes(squares)

    @serve.batch
    async def _drawn(self, rows: list[NDArray[np.integer[Any]]]) -> list[Drawn]:
        with self._busy():
            return await self._model.drawn(rows)

    @contextlib.contextmanager
    def _busy(self) -> Iterator[None]:
        self._free.clear()
        try:
            yield
        finally:
            self._free.set()


@dataclass(frozen=True, slots=True)
class Asking:
    """The replicas, as the door asks them."""

    handle: DeploymentHandle[Replica]
    app: str
    controller: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1))
    """Asks it, and may wait without end: not in a thread that requests need."""

    async def encode(self, images: Sequence[bytes]) -> list[Coded] | Unfit:
        return await answered(self.handle.encode.remote(images))

    async def decode(self, codes_BT: NDArray[np.integer[Any]]) -> list[Drawn]:
        return await answered(self.handle.decode.remote(codes_BT))

    async def facts(self) -> Facts:
        return await answered(self.handle.facts.remote())

    async def alive(self) -> bool:
        """Whether a replica runs, by what the controller knows: no place in the queue is taken for it."""
        status = await asyncio.get_running_loop().run_in_executor(self.controller, serve.status)
        app = status.applications.get(self.app)
        states: Any = app.deployments[DEPLOYMENT].replica_states if app and app.deployments else {}
        return bool(states.get("RUNNING", 0))


async def answered(response: Awaitable[T]) -> T:
    """Whoever stops waiting takes the request back, so that no replica works for nobody."""
    try:
        return await response
    except asyncio.CancelledError:
        cast("DeploymentResponse[T]", response).cancel()  # type: ignore[no-untyped-call]  # Ray has no hint
        raise
    except (RayActorError, BackPressureError, DeploymentUnavailableError) as error:
        raise Busy(type(error).__name__) from error


@contextlib.contextmanager
def replicas(
    weights: Ref, shape: Shape, *, count: int, app: str, queued: int, address: str | None
) -> Iterator[Asking]:
    """Joins or starts Ray, and ends with all replicas of ``app`` gone; what else the cluster serves stays."""
    logging.getLogger("ray.serve").setLevel(logging.ERROR)  # its news are not the command's
    with cluster.joined(address):
        serve.start(proxy_location="Disabled", logging_config=QUIET)
        deployment = serve.deployment(
            name=DEPLOYMENT,
            num_replicas=count,
            ray_actor_options={"num_cpus": 1, "num_gpus": gpus(count)},
            max_ongoing_requests=max(LEAST, AHEAD * shape.max_batch),
            max_queued_requests=queued,
            graceful_shutdown_timeout_s=END_S,
            logging_config=QUIET,
        )(Replica)
        bound = deployment.bind(weights, shape)
        try:
            yield Asking(serve.run(bound, name=app, route_prefix=None, logging_config=QUIET), app)
        finally:
            serve.delete(app)


def gpus(count: int) -> float:
    """Of one of ``count`` replicas: as many as there are, shared by whole numbers; 0 without any.

    Raises ValueError where the cluster has no room for all: Serve would wait for it without end.
    """
    total = ray.cluster_resources()  # type: ignore[no-untyped-call]  # Ray has no hint here
    if count > total.get("CPU", 0):
        cpus = int(total.get("CPU", 0))
        raise ValueError(f"--replicas {count}: the cluster has {cpus} CPUs, one a replica; ask for fewer")
    found = total.get("GPU", 0)
    return 1 / math.ceil(count / found) if found else 0.0
