"""Replicas on Ray Serve: on a cluster that is joined or started, and gone at the end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
from collections.abc import Awaitable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

import ray
from ray import serve
from ray.exceptions import RayActorError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle, DeploymentResponse

from infra import cluster
from infra.serving.door import Busy

T = TypeVar("T")

DEPLOYMENT = "Replica"
AHEAD = 2
"""Batches that a replica holds: one at work, and one that fills."""
LEAST = 16
"""Requests that it holds at least: with two, batches of one waited for Serve's router, not for the model."""
END_S = 5.0
"""For a replica to finish; the door has waited for all that it was asked."""
QUIET = {"log_level": "ERROR", "enable_access_log": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """How many replicas, and how much each of them holds."""

    count: int
    max_batch: int
    queued: int
    """Requests that wait for one."""
    cpus: int = 1
    """Of a replica."""
    memory: int = 0
    """Bytes of a replica, so that several stand on machines that hold them."""
    beside: int = 1
    """Pools of this kind that share the cluster, this one among them."""


@dataclass(frozen=True, slots=True)
class Replicas:
    """Those of one service that run."""

    handle: DeploymentHandle[Any]
    app: str
    controller: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1))
    """Asks it, and may wait without end: not in a thread that requests need."""

    async def alive(self) -> bool:
        """Whether a replica runs, by what the controller knows: no place in the queue is taken for it."""
        status = await asyncio.get_running_loop().run_in_executor(self.controller, serve.status)
        app = status.applications.get(self.app)
        states: Any = app.deployments[DEPLOYMENT].replica_states if app and app.deployments else {}
        return bool(states.get("RUNNING", 0))


def batching(batched: Any, *, max_batch: int, wait_s: float) -> None:
    """Set what ``serve.batch`` is told only when a replica starts."""
    batched.set_max_batch_size(max_batch)
    batched.set_batch_wait_timeout_s(wait_s)


@contextlib.contextmanager
def busy(free: asyncio.Event) -> Iterator[None]:
    """While a batch is at work, whoever waits for ``free`` stays outside, and then enters with the others."""
    free.clear()
    try:
        yield
    finally:
        free.set()


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
def running(
    kind: type, arguments: Sequence[Any], pool: Pool, *, app: str, address: str | None
) -> Iterator[Replicas]:
    """Joins or starts Ray, and ends with all replicas of ``app`` gone; what else the cluster serves stays."""
    logging.getLogger("ray.serve").setLevel(logging.ERROR)  # its news are not the command's
    # Ray that is started here runs its workers at niceness 15, behind all else on the machine; somebody waits
    # for these.
    os.environ.setdefault("RAY_worker_niceness", "0")
    with cluster.joined(address):
        serve.start(proxy_location="Disabled", logging_config=QUIET)
        deployment = serve.deployment(
            name=DEPLOYMENT,
            num_replicas=pool.count,
            ray_actor_options={"num_cpus": pool.cpus, "num_gpus": gpus(pool), "memory": pool.memory},
            max_ongoing_requests=max(LEAST, AHEAD * pool.max_batch),
            max_queued_requests=pool.queued,
            graceful_shutdown_timeout_s=END_S,
            logging_config=QUIET,
        )(kind)
        bound = deployment.bind(*arguments)
        try:
            yield Replicas(serve.run(bound, name=app, route_prefix=None, logging_config=QUIET), app)
        finally:
            serve.delete(app)


def gpus(pool: Pool) -> float:
    """Of one replica: as many as there are, shared by whole numbers; 0 without any.

    Raises ValueError where the cluster has no room for all: Serve would wait for it without end.
    """
    total = ray.cluster_resources()  # type: ignore[no-untyped-call]  # Ray has no hint here
    count = pool.count * pool.beside
    if count * pool.cpus > total.get("CPU", 0):
        cpus, each = int(total.get("CPU", 0)), "one" if pool.cpus == 1 else str(pool.cpus)
        shards = f" of {pool.beside} shards" if pool.beside > 1 else ""
        raise ValueError(
            f"--replicas {pool.count}{shards}: the cluster has {cpus} CPUs, {each} a replica; ask for fewer"
        )
    if pool.count * pool.memory > (room := total.get("memory", 0)):
        raise ValueError(
            f"--replicas {pool.count}: the cluster has {room / 2**30:.1f} GiB of memory, and one takes "
            f"{pool.memory / 2**30:.1f}; ask for fewer, or join a larger cluster (--address)"
        )
    found = total.get("GPU", 0)
    return 1 / math.ceil(count / found) if found else 0.0
