"""What ``bench_engine`` times, each in a process of its own, which prints JSON:
``python -m tests.benchmarks.engines {ray,bare} DELIVERY CORPUS``.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from infra import cluster
from infra.corpus import Version
from infra.options import CorpusOptions, EngineOptions
from infra.telemetry import Log
from pipeline import build, folding, numerics, plan
from pipeline.jobs import configured
from pipeline.pool import OnRay
from pipeline.step import Step, Task

WORKERS = 2
SETTINGS = ["pipeline.ingest.max_side = 256", "pipeline.filters.max_aspect = 2"]
SAMPLED_S = 1.0
OURS = ("ray::Worker", "infra.guarded.child", "tests.benchmarks.engines")
"""In the command lines of the processes whose memory is ours; Ray's own daemons are counted apart."""


@dataclass(slots=True)
class Watch:
    """Peak memory of this process and all that it started: proportional set sizes, so that what processes
    share counts once.
    """

    peak: dict[str, int] = field(default_factory=lambda: {"ours": 0, "ray": 0})

    def look(self) -> None:
        now = {"ours": 0, "ray": 0}
        me = psutil.Process()
        for process in (me, *me.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                mine = any(word in " ".join(process.cmdline()) for word in OURS)
                now["ours" if mine else "ray"] += process.memory_full_info().pss
        self.peak = {name: max(size, now[name]) for name, size in self.peak.items()}

    @contextlib.contextmanager
    def watching(self) -> Iterator[Watch]:
        done = threading.Event()

        def run() -> None:
            while not done.wait(SAMPLED_S):
                self.look()

        thread = threading.Thread(target=run)
        thread.start()
        yield self
        done.set()
        thread.join()


def cpu_seconds() -> float:
    """Of this process and all that it started, those included that have ended and were waited for."""
    total, me = 0.0, psutil.Process()
    for process in (me, *me.children(recursive=True)):
        with contextlib.suppress(psutil.Error):
            used = process.cpu_times()
            total += used.user + used.system + used.children_user + used.children_system
    return total


def on_ray(delivery: Path, out: Path) -> dict[str, Any]:
    """Ingest on a local Ray of two CPUs: seconds and memory of the images step, whose workers are warm."""
    options = CorpusOptions(corpus=str(out), overrides=SETTINGS)
    corpus, config, judged = options.open(), configured(options), datetime.now(UTC)
    found: dict[str, Any] = {}
    with corpus.writing(purpose="benchmark") as lease, cluster.joined(EngineOptions().cluster()):
        engine = OnRay()
        version = folding.fold(corpus, corpus.head(), [str(delivery)])
        version = replace(version, as_of=judged.isoformat())
        for step in plan.ingest_steps(config, judged):
            with Watch().watching() as watch:
                cpu, clock = cpu_seconds(), time.perf_counter()
                version = build.run(corpus, version, [step], engine, Log())
                spent = {"wall_s": time.perf_counter() - clock, "cpu_s": cpu_seconds() - cpu}
            found[step.name] = {**spent, "peak_bytes": watch.peak}
        engine.close()
        corpus.publish(lease, corpus.head(), version)
    found["rows"] = corpus.artifact(version, "images").counts.get("kept", 0)
    return found


def bare(_delivery: Path, out: Path) -> dict[str, Any]:
    """The very function of the images step, over the same shards, in two processes without an engine: nothing
    is scheduled, published or looked up.
    """
    start = multiprocessing.get_context("spawn")
    ready = start.Barrier(WORKERS + 1)
    ways = [start.Process(target=half, args=(out, number, ready)) for number in range(WORKERS)]
    for way in ways:
        way.start()
    ready.wait()
    cpu, clock = cpu_seconds(), time.perf_counter()
    for way in ways:
        way.join()
    return {"wall_s": time.perf_counter() - clock, "cpu_s": cpu_seconds() - cpu}


def half(out: Path, number: int, ready: Any) -> None:
    step, tasks = images_step(out)
    numerics.use_threads(1)
    numerics.keep_memory()
    do = step.open()
    do(tasks[0], lambda *_: None)  # as warm as the engine's workers are
    ready.wait()
    for task in tasks[number::WORKERS]:
        do(task, lambda *_: None)


def images_step(out: Path) -> tuple[Step, Sequence[Task]]:
    options = CorpusOptions(corpus=str(out), overrides=SETTINGS)
    corpus = options.open()
    version: Version = corpus.newest()
    step = plan.ingest_steps(configured(options), datetime.fromisoformat(version.as_of))[-1]
    return step, step.tasks(build.Built(corpus=corpus, version=version))


if __name__ == "__main__":
    mode, delivery, out = sys.argv[1:]
    told = {"ray": on_ray, "bare": bare}[mode](Path(delivery), Path(out))
    sys.stdout.write("\n" + json.dumps(told) + "\n")
