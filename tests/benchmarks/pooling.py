"""What ``bench_cluster`` times, each in a process of its own, which prints JSON:
``python -m tests.benchmarks.pooling {pool,data} FOLDER SHARDS`` and ``… {images,tokens} FOLDER WORKERS``.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import resource
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import ray
import ray.data

from infra import cluster
from infra.artifact import Made
from infra.corpus import Corpus
from infra.options import CorpusOptions, EngineOptions
from infra.settings import Section
from infra.storage import Store
from infra.telemetry import Log
from pipeline import build, folding, plan, refs
from pipeline.engine import make
from pipeline.jobs import configured
from pipeline.pool import OnRay
from pipeline.scheduling import WorkersConfig
from pipeline.step import Report, Source, Step, Task, nothing_told
from tests.benchmarks import engines, vq_stage

WORKERS = 2
KINDS = {
    "ray::Worker": "workers",
    "ray::MapWorker": "workers",
    "infra.guarded.child": "workers",
    "tests.benchmarks": "driver",
}
"""In command lines; all else that we started is Ray's own: raylet, control service, agents."""


def numbered(source: Source, *, num: int) -> Sequence[Task]:
    read = (refs.Ref(source.store, "in", hashlib.sha256(b"in").hexdigest()),)
    return [Task(slot=f"{number:06d}", reads={"in": read}, facts={"number": number}) for number in range(num)]


def made(task: Task, _report: Report) -> Made:
    return Made(files={"out": task.only("in").read()}, counts={"kept": 1})


def small_step(name: str, num: int) -> Step:
    """Shards of two bytes: reading, publishing and the engine are all that they cost."""
    tasks = lambda source: numbered(source, num=num)  # noqa: E731  # must pickle by value
    return Step(name=name, settings=Section(), tasks=tasks, open=lambda: made)


@dataclass(slots=True)
class Spent:
    wall_s: float = 0.0
    cpu_s: Mapping[str, float] | None = None


@contextlib.contextmanager
def spending() -> Iterator[Spent]:
    """Wall clock and CPU seconds of the block, by kind of process."""
    spent, before, clock = Spent(), cpu_by_kind(), time.perf_counter()
    yield spent
    spent.wall_s = time.perf_counter() - clock
    spent.cpu_s = {kind: seconds - before.get(kind, 0.0) for kind, seconds in cpu_by_kind().items()}


def cpu_by_kind() -> dict[str, float]:
    found = dict.fromkeys(("workers", "driver", "ray"), 0.0)
    me = psutil.Process()
    for process in (me, *me.children(recursive=True)):
        with contextlib.suppress(psutil.Error):
            words = " ".join(process.cmdline())
            kind = next((kind for word, kind in KINDS.items() if word in words), "ray")
            used = process.cpu_times()
            found[kind] += (
                used.user + used.system + (used.children_user + used.children_system) * (kind == "workers")
            )
    return found


def told(spent: Spent, **facts: Any) -> dict[str, Any]:
    assert spent.cpu_s is not None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"wall_s": spent.wall_s, "cpu_s": dict(spent.cpu_s), "driver_peak_bytes": peak, **facts}


def pool(folder: Path, num: int) -> dict[str, Any]:
    """The engine: two workers, that have made a few shards before."""
    corpus = corpus_at(folder)
    source = build.Built(corpus=corpus, version=corpus.head())
    with cluster.joined(EngineOptions().cluster()), contextlib.closing(OnRay()) as engine:
        build.run_step(source, small_step("warm", 20), engine, Log())
        step = small_step("small", num)
        tasks = step.tasks(source)
        with Log().bar("small", total=num, unit="shards") as bar, spending() as spent:
            done = sum(1 for _ in engine.run(step, tasks, corpus.store, bar))
    assert done == num
    return told(spent)


class Maker:
    """What Ray Data calls for a block of one row."""

    def __init__(self, root: str, num: int) -> None:
        corpus = Corpus(Store.at(root))
        self.step = small_step("small", num)
        self.tasks = self.step.tasks(build.Built(corpus=corpus, version=corpus.head()))
        self.store = corpus.store

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        done = make(self.step, made, self.tasks[row["number"]], self.store, nothing_told)
        return {"shard": json.dumps(done.shard.json())}


def data(folder: Path, num: int) -> dict[str, Any]:
    """Ray Data: the same function by an actor pool of its own, a block a shard, since blocks are what it
    tries again.
    """
    corpus = corpus_at(folder)
    root = corpus.store.uri
    with cluster.joined(EngineOptions().cluster()):
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False

        def run(count: int) -> int:
            rows = ray.data.from_items([{"number": number} for number in range(count)])
            # Cut before the pool takes all CPUs: cutting waited for one of them.
            blocks = (
                rows.repartition(count)
                .materialize()
                .map(
                    Maker,
                    fn_constructor_args=(root, num),
                    compute=ray.data.ActorPoolStrategy(size=WORKERS),
                    num_cpus=1,
                )
            )
            return sum(1 for _ in blocks.iter_rows())

        run(20)
        shutil.rmtree(folder / "shards", ignore_errors=True)
        with spending() as spent:
            done = run(num)
    assert done == num
    return told(spent)


def corpus_at(folder: Path) -> Corpus:
    shutil.rmtree(folder, ignore_errors=True)
    corpus = Corpus(Store.at(folder))
    corpus.store.write("in", b"in")
    return corpus


def images(folder: Path, workers: int) -> dict[str, Any]:
    """The images step of an ingest, by so many workers, which are warm from the steps before."""
    out = folder / f"ingested-{workers}"
    shutil.rmtree(out, ignore_errors=True)
    options = CorpusOptions(corpus=str(out), overrides=engines.SETTINGS)
    corpus, config, judged = options.open(), configured(options), datetime.now(UTC)
    with (
        corpus.writing(purpose="benchmark"),
        cluster.joined(EngineOptions().cluster()),
        contextlib.closing(OnRay(WorkersConfig(most=workers))) as engine,
    ):
        version = folding.fold(corpus, corpus.head(), [str(folder / "delivery")])
        version = replace(version, as_of=judged.isoformat())
        *before, step = plan.ingest_steps(config, judged)
        version = build.run(corpus, version, before, engine, Log())
        with spending() as spent:
            version = build.run(corpus, version, [step], engine, Log())
    return told(spent, images=sum(corpus.artifact(version, "images").counts.values()))


def tokens(folder: Path, workers: int) -> dict[str, Any]:
    """The tokenize step, by so many workers, that have made a small shard each."""
    step = vq_stage.STEP
    for kind in ("shards", "artifacts"):
        shutil.rmtree(folder / kind / step.name, ignore_errors=True)
    corpus = Corpus(Store.at(folder))
    with (
        cluster.joined(EngineOptions().cluster()),
        contextlib.closing(OnRay(WorkersConfig(most=workers))) as engine,
    ):
        build.run(corpus, vq_stage.version_of(corpus, vq_stage.slots(timed=False)), [step], engine, Log())
        version = vq_stage.version_of(corpus, vq_stage.slots())
        with spending() as spent:
            build.run(corpus, version, [step], engine, Log())
    return told(spent, images=vq_stage.NUM)


if __name__ == "__main__":
    mode, place, number = sys.argv[1:]
    result = {"pool": pool, "data": data, "images": images, "tokens": tokens}[mode](Path(place), int(number))
    sys.stdout.write("\n" + json.dumps(result) + "\n")
