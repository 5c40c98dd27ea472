"""Rates, shapes and a cluster put together: what every step would take, and where it would break.

One formula for each figure, here:

* CPU seconds = fixed_s x workers + shard_s x tasks + row_s x rows x (tokens asked / measured) + what the
  shape adds; rows are N but where a fit looks at some alone;
* seconds = CPU seconds / min(tasks, workers that fit by cores and by memory) + the driver's seconds; on GPUs
  the first are divided by the speed-up too, but for what is no work of a GPU; what threads of a task share is
  divided by EACH_THREAD x threads;
* the driver's seconds = listing_shard_s x shards, and as the shape has it so much for a row, 1 us for every
  file that a task names, 20 ms for every 32 that the driver reads;
* money = seconds x the price of the whole cluster, which is held from the first step to the last;
* bytes = N x (bytes of each file a row) + the fixed ones, with an artifact's manifest; of a model as many as
  it was measured to have;
* memory of a worker and of the driver = as ``shapes`` has it, and what manifests take.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from infra.artifact import ASKED_AT_ONCE
from pipeline.likeness.ahead import MOST
from pipeline.scale.cluster import Cluster
from pipeline.scale.rates import Rates, StepRate
from pipeline.scale.shapes import ASK_S, REF_BYTES, REF_S, SHAPES, SHARD_BYTES, Scene
from retrieval import layouts
from retrieval.layouts import Kind

MANIFEST_BOUND = 256 << 20
"""Of an artifact's manifest: every command reads it whole, and in Python it is five times as large."""
OBJECT_BOUND = 5_000_000_000
"""What S3 takes in one put, which is how a store writes."""
TASK_BOUND_S = 86_400.0
"""Of one task: a worker that dies loses so much."""
EACH_THREAD = 0.78
"""Of a core, that each of two threads is worth; of 16, which wait for memory together, it is unknown."""
LISTING_BOUND_S = 3_600.0
"""Of the driver, for the tasks of one step, while every worker waits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Break:
    """Where the code as it is does not carry so many images."""

    step: str
    what: str
    """``worker memory``, ``driver memory``, ``one task``, ``driver time``, ``manifest`` or ``object``."""
    needs: float
    bound: float
    because: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What a step takes."""

    step: str
    tasks: int
    cpu_s: float
    """Of workers, on cores of the machine that was measured."""
    on: str
    """``cpu``, or ``gpu``: then on devices whose speed was told."""
    workers: int
    """That are at work at once; 1 where not even one fits, since time is told all the same."""
    task_s: float
    """Of one task."""
    driver_s: float
    seconds: float
    money: float
    files: Mapping[str, float]
    """Bytes by file."""
    manifest_bytes: float
    objects: int
    worker_bytes: float
    disk_bytes: float
    """That each node comes to look into."""
    driver_bytes: float
    breaks: tuple[Break, ...]

    @property
    def bytes(self) -> float:
        return sum(self.files.values()) + self.manifest_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    scene: Scene
    cluster: Cluster
    rates: Rates
    steps: tuple[Need, ...]
    index_bytes: Mapping[Kind, float]
    """Of memory, all segments together, were every one of that kind."""
    index_kind: Kind
    """That the settings choose."""

    @property
    def total(self) -> dict[str, float]:
        """Sums over the steps; of memory the most."""
        added = ("tasks", "cpu_s", "driver_s", "seconds", "money", "bytes", "objects")
        sums: dict[str, float] = {name: sum(getattr(one, name) for one in self.steps) for name in added}
        most: dict[str, float] = {
            name: max(getattr(one, name) for one in self.steps)
            for name in ("worker_bytes", "disk_bytes", "driver_bytes")
        }
        return {**sums, **most}

    @property
    def breaks(self) -> list[Break]:
        return [one for step in self.steps for one in step.breaks]

    @property
    def counts_cpu(self) -> list[str]:
        """Steps that could run on GPUs, and are counted on CPUs since no rate of a GPU is known."""
        return [one.step for one in self.steps if SHAPES[one.step].on_gpu and one.on == "cpu"]


def forecast(scene: Scene, cluster: Cluster, rates: Rates) -> Forecast:
    config, num = scene.index, max(scene.images, 1)
    pieces = scene.layout(rates.width).segments
    kinds: tuple[Kind, ...] = ("flat", "ivf_flat", "ivf_pq")
    sizes: dict[Kind, float] = {
        kind: float(layouts.cut(num, pieces, rates.width, kind, config).bytes * pieces) for kind in kinds
    }
    return Forecast(
        scene=scene,
        cluster=cluster,
        rates=rates,
        steps=tuple(need(step, scene, cluster, rates) for step in rates.steps),
        index_bytes=sizes,
        index_kind=scene.layout(rates.width).kind,
    )


def need(
    step: str,
    scene: Scene,
    cluster: Cluster,
    rates: Rates,
    *,
    tasks: int | None = None,
    cpu_s: float | None = None,
) -> Need:
    """Of so many tasks, and so many CPU seconds, where these are known better than by rates."""
    rate, shape, num = rates.steps[step], SHAPES[step], scene.images
    if tasks is None:
        tasks = max(1, round(shape.tasks(scene, rates)))
    worker_bytes, refs = shape.worker(scene, rates), shape.refs(scene, rates)
    on, fit, speed = placed(step, rate, cluster, worker_bytes)
    workers = max(1, min(tasks, fit))
    beside_gpu_s = shared_s = 0.0
    if cpu_s is None:
        beside_gpu_s, shared_s = shape.beside_gpu_s(scene, rates), shape.threads_s(scene, rates)
        work = rate.row_s * shape.rows(scene, rates) * grown(step, scene, rates)
        cpu_s = rate.fixed_s * workers + rate.shard_s * tasks + work + shape.more_s(scene, rates)
    driver_s = rate.listing_shard_s * scene.shards + shape.driver_row_s * num
    driver_s += REF_S * refs + ASK_S / ASKED_AT_ONCE * shape.asks(scene, rates)
    threads = min(MOST, cluster.cpus // workers, *(one.cpus for one in cluster.nodes))
    at_once = threads * EACH_THREAD if threads > 1 else 1.0
    task_s = ((cpu_s - shared_s) / speed + shared_s / at_once + beside_gpu_s) / tasks
    seconds = task_s * tasks / workers + driver_s
    rows = min(num, rates.images[-1]) if shape.bounded else num * grown(step, scene, rates)
    files = {name: file.fixed + file.row * rows for name, file in rate.files.items()}
    files |= {name: size(scene, rates) for name, size in shape.sizes.items()}
    manifest_bytes = (rate.entry_bytes + shape.entry(scene, rates)) * tasks
    driver_bytes = SHARD_BYTES * (tasks + 3 * scene.shards) + shape.driver(scene, rates)
    driver_bytes += REF_BYTES * (shape.held or shape.refs)(scene, rates)
    return Need(
        step=step,
        tasks=tasks,
        cpu_s=cpu_s + beside_gpu_s,
        on=on,
        workers=workers,
        task_s=task_s,
        driver_s=driver_s,
        seconds=seconds,
        money=seconds / 3600 * cluster.price_per_hour,
        files=files,
        manifest_bytes=manifest_bytes,
        objects=tasks * (len(files) + 1) + 1,
        worker_bytes=worker_bytes,
        disk_bytes=shape.disk(scene, rates),
        driver_bytes=driver_bytes,
        breaks=over(
            step,
            {
                "worker memory": (worker_bytes, cluster.driver_bytes),
                "driver memory": (driver_bytes, cluster.driver_bytes),
                "one task": (task_s, TASK_BOUND_S),
                "driver time": (driver_s, LISTING_BOUND_S),
                "manifest": (manifest_bytes, MANIFEST_BOUND),
                "object": (shape.largest(scene, rates), OBJECT_BOUND),
            },
        ),
    )


def over(step: str, figures: Mapping[str, tuple[float, float]]) -> tuple[Break, ...]:
    """Figures that are over their bounds."""
    because = SHAPES[step].because or "it is of every shard"
    return tuple(
        Break(step=step, what=what, needs=needs, bound=bound, because=because)
        for what, (needs, bound) in figures.items()
        if needs > bound
    )


def grown(step: str, scene: Scene, rates: Rates) -> float:
    """Work and bytes of a row beside those that were measured, where they go with the tokens of an image."""
    return scene.tokens_per_image / rates.tokens_per_image if SHAPES[step].by_tokens else 1.0


def placed(step: str, rate: StepRate, cluster: Cluster, worker_bytes: float) -> tuple[str, int, float]:
    """On what, how many workers fit, and how many of the measured cores one of them is worth.

    A rate of a GPU is taken as it is for the cluster's; a rate of a CPU only by a speed-up that was told.
    """
    if SHAPES[step].on_gpu and cluster.gpus:
        if rate.device == "cuda":
            return "gpu", cluster.gpus, 1.0
        if cluster.gpu_speedup is not None:
            return "gpu", cluster.gpus, cluster.gpu_speedup
    if rate.device == "cuda":
        raise ValueError(
            f"step {step} was measured on a GPU and {cluster.name} has none; give rates that were measured "
            "on a CPU, or a cluster with GPUs"
        )
    return "cpu", cluster.workers(worker_bytes), 1.0
