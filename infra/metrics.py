"""Every metric that this project has, each once; and those of a job that writes a corpus.

A job's are plain Prometheus metrics of the process that drives it, in a registry of its own. They are not
Ray's (``ray.util.metrics``): these exist on a cluster alone, hold each value once more in an agent on every
node, and would have this module, and whoever counts, import Ray. The driver knows of every shard, so one
process tells all of a job, and the names are the same inline, on one node and on many. What only a worker
sees, its attempts at the store, is told for the driver alone.

To set one costs a microsecond; nobody reads them before :func:`served`::

    from infra import metrics

    metrics.jobs.workers.labels(step.name).set(len(pool))
    metrics.jobs.shards_waiting.labels(step.name).set(schedule.waiting)
    metrics.jobs.worker_deaths.labels(step.name).inc()
    metrics.jobs.stragglers.labels(step.name).inc()
    metrics.jobs.storage_retries.labels("write").inc()
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

ADDRESS = "PARDALIS_METRICS"
"""[HOST:]PORT at which a job tells its metrics while it runs; nowhere without it."""
HERE = "127.0.0.1"
SHARD_SECONDS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0)


@dataclass(frozen=True, slots=True)
class Metric:
    name: str
    """As it is created; Prometheus adds ``_total`` to counters."""
    kind: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    unit: str
    meaning: str

    @property
    def shown(self) -> str:
        return f"{self.name}_total" if self.kind == "counter" else self.name


SERVICES = (
    Metric("pardalis_requests", "counter", ("route", "status"), "requests", "Answered, by HTTP status."),
    Metric(
        "pardalis_request_seconds",
        "histogram",
        ("route",),
        "seconds",
        "From a request's headers to its answer.",
    ),
)
SEARCH = (
    Metric("pardalis_batch_queries", "histogram", (), "searches", "Searches that were asked together."),
    Metric(
        "pardalis_eligible_assets",
        "histogram",
        (),
        "assets",
        "What the caller's purpose and the filters leave to a search.",
    ),
    Metric("pardalis_returned_assets", "histogram", (), "assets", "Assets in an answer."),
    Metric(
        "pardalis_withheld_assets",
        "counter",
        (),
        "assets",
        "Revoked while the search that found them ran.",
    ),
    Metric("pardalis_corpus_version", "gauge", (), "number", "Version that is searched."),
    Metric("pardalis_revoked_assets", "gauge", (), "assets", "Assets of the version that are revoked."),
    Metric(
        "pardalis_revocations_errors",
        "gauge",
        (),
        "sources",
        "Sources of revocations that cannot be read now.",
    ),
)
TOKENIZER = (
    Metric("pardalis_batch_images", "histogram", ("route",), "images", "In a batch, without padding."),
    Metric("pardalis_images", "counter", ("route",), "images", "Images served."),
    Metric("pardalis_queue_images", "gauge", (), "images", "Accepted and not yet answered."),
    Metric("pardalis_images_per_second", "gauge", (), "images per second", "Over the last 10 s."),
)
JOBS = (
    Metric(
        "pardalis_shards",
        "counter",
        ("step", "how"),
        "shards",
        "Settled by this job: `made`, or `found` where an earlier one had made them.",
    ),
    Metric("pardalis_rows", "counter", ("step", "outcome"), "rows", "Rows of the shards made, by outcome."),
    Metric("pardalis_shard_seconds", "histogram", ("step",), "seconds", "What its worker took for a shard."),
    Metric("pardalis_shards_waiting", "gauge", ("step",), "shards", "To be made, and begun by no worker."),
    Metric("pardalis_workers", "gauge", ("step",), "workers", "In the pool; none of the engine `inline`."),
    Metric("pardalis_worker_deaths", "counter", ("step",), "workers", "Died or fell silent with a shard."),
    Metric(
        "pardalis_stragglers",
        "counter",
        ("step",),
        "shards",
        "So slow that an idle worker began the same.",
    ),
    Metric("pardalis_written_bytes", "counter", ("step",), "bytes", "Files of the shards made."),
    Metric(
        "pardalis_storage_retries",
        "counter",
        ("operation",),
        "attempts",
        "Operations that this process asked the store once more for.",
    ),
    Metric(
        "pardalis_plan_done_ratio",
        "gauge",
        (),
        "0 to 1",
        "Of the work of all steps that is known; NaN before any is.",
    ),
    Metric(
        "pardalis_plan_left_seconds",
        "gauge",
        (),
        "seconds",
        "Until the last step is done; NaN where nothing is known, and at least that where some step is not.",
    ),
)
CATALOG = {
    "Services (every one, at `/metrics`)": SERVICES,
    "Search (`pardalis index serve`)": SEARCH,
    "Tokenizer (`pardalis tokenizer serve`)": TOKENIZER,
    "Jobs (commands that write a corpus)": JOBS,
}
"""By where they are told."""


class Jobs:
    """Those of a job. A process has one, :data:`jobs`."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.shards = self._counter("pardalis_shards")
        self.rows = self._counter("pardalis_rows")
        told = of_jobs("pardalis_shard_seconds")
        self.shard_seconds = Histogram(
            told.name, told.meaning, told.labels, buckets=SHARD_SECONDS, registry=self.registry
        )
        self.shards_waiting = self._gauge("pardalis_shards_waiting")
        self.workers = self._gauge("pardalis_workers")
        self.worker_deaths = self._counter("pardalis_worker_deaths")
        self.stragglers = self._counter("pardalis_stragglers")
        self.written_bytes = self._counter("pardalis_written_bytes")
        self.storage_retries = self._counter("pardalis_storage_retries")
        self.plan_done_ratio = self._gauge("pardalis_plan_done_ratio")
        self.plan_left_seconds = self._gauge("pardalis_plan_left_seconds")
        self.plan_done_ratio.set(float("nan"))
        self.plan_left_seconds.set(float("nan"))

    def _counter(self, name: str) -> Counter:
        told = of_jobs(name)
        return Counter(name, told.meaning, told.labels, registry=self.registry)

    def _gauge(self, name: str) -> Gauge:
        told = of_jobs(name)
        return Gauge(name, told.meaning, told.labels, registry=self.registry)


def of_jobs(name: str) -> Metric:
    return next(metric for metric in JOBS if metric.name == name)


jobs = Jobs()


@contextlib.contextmanager
def served(address: str | None = None) -> Iterator[str | None]:
    """Tell them over HTTP while the block runs, at ``address`` or ``$PARDALIS_METRICS``; yields where.

    Only this machine can ask unless a host is named: 0.0.0.0:9400 is for a network that lets nobody else in.
    """
    told = address or os.environ.get(ADDRESS)
    if not told:
        yield None
        return
    host, _, port = told.rpartition(":")
    if not (port.isascii() and port.isdigit() and int(port) < 1 << 16):
        raise ValueError(
            f"{ADDRESS}={told!r} is no [HOST:]PORT; write 9400, or 0.0.0.0:9400 to be asked by all"
        )
    try:
        server, thread = start_http_server(int(port), addr=host.strip("[]") or HERE, registry=jobs.registry)
    except OSError as error:
        raise ValueError(f"{ADDRESS}={told}: {error.strerror}; choose another port") from error
    try:
        yield f"http://{host or HERE}:{server.server_port}/metrics"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def page() -> str:
    """``infra/deploy/observability/metrics.md``."""
    lines = [
        "# Metrics",
        "",
        "Rendered by `python -m infra.metrics > infra/deploy/observability/metrics.md`.",
        "A counter is shown as Prometheus names it; a histogram has `_bucket`, `_sum` and `_count`.",
        f"A job tells its metrics at `${ADDRESS}` (`[HOST:]PORT`, host 127.0.0.1 unless one is named)",
        "while it runs, from the process that drives it.",
    ]
    for where, metrics in CATALOG.items():
        lines += ["", f"## {where}", "", "| name | kind | labels | unit | meaning |", "|---|---|---|---|---|"]
        for one in metrics:
            labels = ", ".join(f"`{label}`" for label in one.labels)
            lines.append(f"| `{one.shown}` | {one.kind} | {labels} | {one.unit} | {one.meaning} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    import sys

    sys.stdout.write(page())
