"""A forecast as JSON, as lines of text, as CSV for a spreadsheet, and as a page."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipeline import pages
from pipeline.scale.model import Forecast, Need
from pipeline.scale.shapes import GIB, SHAPES
from pipeline.scheduling import WorkersConfig

HERE = Path(__file__).parent
UNSAID = WorkersConfig()
RESERVED, DEADLINE_S = UNSAID.memory_gib * GIB, UNSAID.deadline_s
WIDTH = 520
"""Pixels of the longest bar."""
COLUMNS = (
    *("step", "tasks", "on", "workers", "cpu_s", "driver_s", "seconds", "money"),
    *("bytes", "manifest_bytes", "objects", "worker_bytes", "disk_bytes", "driver_bytes"),
)


def row(one: Need) -> dict[str, Any]:
    return {name: getattr(one, name) for name in COLUMNS}


def facts(found: Forecast) -> dict[str, Any]:
    cluster, rates = found.cluster, found.rates
    return {
        "scene": asdict(found.scene)
        | {"index": found.scene.index.model_dump(mode="json")}
        | {"neighbors": found.scene.neighbors.model_dump(mode="json")},
        "cluster": cluster.model_dump(mode="json"),
        "rates": rates.model_dump(mode="json", exclude={"steps"}),
        "steps": [row(one) | {"files": dict(one.files)} for one in found.steps],
        "total": found.total,
        "index": {"kind": found.index_kind, "bytes_in_memory": dict(found.index_bytes)},
        "breaks": [asdict(one) for one in found.breaks],
        "counted_on_cpus": found.counts_cpu,
        "notes": notes(found),
    }


def notes(found: Forecast) -> list[str]:
    """What a reader has to know of the figures."""
    rates, cluster = found.rates, found.cluster
    images = ", ".join(f"{num:,}" for num in rates.images)
    said = [
        f"rates of {rates.machine}, {rates.measured_on}, commit {rates.commit}, {images} images: {rates.of}",
        f"every one of {found.scene.images:,} images is counted as kept by every step",
    ]
    if rates.error:
        said.append(f"held against larger runs, these rates say {rates.error}")
    if large := {one.step: one.worker_bytes / GIB for one in found.steps if one.worker_bytes > RESERVED}:
        told = ", ".join(f"{step} = {math.ceil(gib)}" for step, gib in large.items())
        said.append(
            f"workers of these steps need more than the {RESERVED / GIB:g} GiB that one reserves: say "
            f"pipeline.workers.large = {{{told}}}"
        )
    longest = max(found.steps, key=lambda one: one.task_s)
    if longest.task_s > DEADLINE_S:
        said.append(
            f"one task of {longest.step} takes {duration(longest.task_s)}, and a worker that opens no file "
            f"for {duration(DEADLINE_S)} is killed: raise pipeline.workers.deadline_s"
        )
    said += [
        f"{one.step}: looks into {amount(one.disk_bytes)} of {SHAPES[one.step].disk_of}, a node keeps "
        f"{amount(cluster.disk_bytes)}: fetched again and again"
        for one in found.steps
        if one.disk_bytes > cluster.disk_bytes
    ]
    if found.counts_cpu:
        said.append(
            f"counted on CPUs, since no rate of a GPU is known: {', '.join(found.counts_cpu)}; measure the "
            "rates on a GPU, or tell --gpu-speedup"
        )
    if any(one.on == "gpu" for one in found.steps) and cluster.gpu_speedup is not None:
        said.append(f"a GPU counted as {cluster.gpu_speedup:g} cores: {cluster.gpu_speedup_source}")
    if cluster.price_per_hour:
        said.append(f"prices of {cluster.prices_on}, in {cluster.currency}, for the whole cluster throughout")
    return said


def amount(value: float) -> str:
    """Bytes, in the unit that takes at most four digits.

    >>> amount(0), amount(1536), amount(3.4e12)
    ('0 B', '1.5 KiB', '3.1 TiB')
    """
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.4g} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:,.1f} TiB"


def duration(seconds: float) -> str:
    """In the unit that reads best.

    >>> duration(3.14), duration(7200), duration(864000), duration(3.2e9)
    ('3.1 s', '2.0 h', '10.0 d', '101.5 years')
    """
    for most, unit, name in ((120, 1, "s"), (7200, 60, "min"), (172_800, 3600, "h"), (6.3e7, 86_400, "d")):
        if seconds < most:
            return f"{seconds / unit:.1f} {name}"
    return f"{seconds / 31_536_000:,.1f} years"


def of_break(value: float, what: str) -> str:
    return duration(value) if what in ("one task", "driver time") else amount(value)


def lines(found: Forecast) -> str:
    cluster = found.cluster
    head = (
        f"{found.scene.images:,} images in {found.scene.shards:,} shards on {cluster.name}: {cluster.cpus:,} "
        f"cores, {cluster.gpus:,} GPUs"
    )
    told = [head, f"{'step':<10}{'tasks':>9}  {'on':<4}{'cpu':>15}{'driver':>13}{'time':>15}{'bytes':>15}"]
    told[-1] += f"{'worker':>15}{'driver':>15}{'money':>16}"
    told += [
        f"{one['step']:<10}{one['tasks']:>9,.0f}  {one['on']:<4}{duration(one['cpu_s']):>15}"
        f"{duration(one['driver_s']):>13}{duration(one['seconds']):>15}{amount(one['bytes']):>15}"
        f"{amount(one['worker_bytes']):>15}{amount(one['driver_bytes']):>15}{one['money']:>16,.0f}"
        for one in (*map(row, found.steps), {"step": "total", "on": "", **found.total})
    ]
    sizes = ", ".join(f"{kind} {amount(size)}" for kind, size in found.index_bytes.items())
    told.append(f"index in memory by kind: {sizes}; chosen {found.index_kind}")
    for step in found.steps:
        over = (
            f"{one.what} {of_break(one.needs, one.what)} over {of_break(one.bound, one.what)}"
            for one in step.breaks
        )
        if step.breaks:
            told.append(f"breaks: {step.step}: {', '.join(over)}: {step.breaks[0].because}")
    return "\n".join([*told, *(f"note: {note}" for note in notes(found))])


def as_csv(found: Forecast) -> str:
    """A line a step, then the sums, then every file of every step."""
    sink = io.StringIO()
    table = csv.DictWriter(sink, COLUMNS, lineterminator="\n")
    table.writeheader()
    table.writerows(row(one) for one in found.steps)
    table.writerow({"step": "total", **found.total})
    listed = csv.writer(sink, lineterminator="\n")
    listed.writerow(["step", "file", "bytes"])
    listed.writerows((one.step, name, size) for one in found.steps for name, size in one.files.items())
    return sink.getvalue()


def write(found: Forecast, out: Path) -> None:
    """As CSV, or as a page, by the file's ending."""
    if out.suffix.lower() == ".csv":
        out.write_text(as_csv(found))
        return
    out.write_text(pages.rendered_from(HERE, "plan.html", shown(found)))


def shown(found: Forecast) -> Mapping[str, Any]:
    plots = [
        bars("Time", {one.step: one.seconds for one in found.steps}, duration),
        bars("Bytes written and kept", {one.step: one.bytes for one in found.steps}, amount),
        bars("Memory of a worker", {one.step: one.worker_bytes for one in found.steps}, amount),
    ]
    table = [*map(row, found.steps), {"step": "total", "on": "", "workers": "", **found.total}]
    return {
        "images": found.scene.images,
        "shards": found.scene.shards,
        "cluster": found.cluster,
        "plots": plots,
        "table": table,
        "files": [(one.step, name, amount(size)) for one in found.steps for name, size in one.files.items()],
        "index": {kind: amount(size) for kind, size in found.index_bytes.items()},
        "kind": found.index_kind,
        "breaks": [
            (one.step, one.what, of_break(one.needs, one.what), of_break(one.bound, one.what), one.because)
            for one in found.breaks
        ],
        "notes": notes(found),
        "duration": duration,
        "amount": amount,
    }


def bars(title: str, values: Mapping[str, float], told: Callable[[float], str]) -> dict[str, Any]:
    """Logarithmic: steps lie six orders of magnitude apart."""
    least, most = min(values.values()), max(values.values())
    span = math.log(max(most, 1e-9) / max(least, 1e-9)) or 1.0
    widths = {
        name: WIDTH * math.log(max(value, 1e-9) / max(least, 1e-9)) / span for name, value in values.items()
    }
    found = [
        {"name": name, "width": f"{widths[name]:.1f}", "told": told(value)} for name, value in values.items()
    ]
    return {"title": f"{title}, logarithmic", "bars": found}
