"""The scale model's error: rates fitted to small runs of real pictures, held against larger ones.

Runs end to end of PARDALIS_SCALE_FIT images (default 200 and 800; the smaller once more in ten times as
many shards, which tells what a shard costs), whose rates predict one of PARDALIS_SCALE_WHOLE (10,000), and
ingest alone of PARDALIS_SCALE_INGEST (100,000). Crops of photographs, so duplicates are not looked for; what
dedup takes then is no measure of it, and its formula stands on ``make bench NAME=dedup``. Beside them the
control plane alone, with drawn manifests of PARDALIS_SCALE_SHARDS shards (340, 3,400 and 34,000).

The two large runs go beside each other, each on one core: CPU seconds are compared, never seconds. The rates
are written to ``scale-rates.json`` in PARDALIS_BENCH: what ``pardalis plan --rates`` reads.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np

from pipeline.scale.cluster import Cluster, Nodes
from pipeline.scale.model import forecast
from pipeline.scale.rates import FileRate, Rates, StepRate, line
from pipeline.scale.shapes import Scene
from tests.benchmarks import control_plane, photographs, scaling
from tests.benchmarks.__main__ import commit

SHARD_ROWS = 1000
FIT = tuple(map(int, os.environ.get("PARDALIS_SCALE_FIT", "200,800").split(",")))
WHOLE = int(os.environ.get("PARDALIS_SCALE_WHOLE", "10000"))
INGEST = int(os.environ.get("PARDALIS_SCALE_INGEST", "100000"))
SHARDS = tuple(map(int, os.environ.get("PARDALIS_SCALE_SHARDS", "340,3400,34000").split(",")))
Facts = dict[str, Any]
NO_LISTING = {"cpu_s": 0.0}
"""Of those that list by members: the control plane is measured without them."""


def started(num: int, shard_rows: int, last: str) -> subprocess.Popen[str]:
    out = photographs.folder() / f"scale-corpus-{num}-{shard_rows}-{last}"
    words = [sys.executable, "-m", "tests.benchmarks.scaling", str(num), str(shard_rows), last, str(out)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def ended(process: subprocess.Popen[str]) -> Facts:
    told, _ = process.communicate()
    if process.returncode:
        raise RuntimeError(f"{' '.join(process.args)} exited with {process.returncode}; run it to see why")
    found: Facts = json.loads(told.splitlines()[-1])
    return found


def multiply_add_seconds() -> float:
    """Of one core; the processes measured have one thread each too."""
    code = (
        "import threadpoolctl, numpy, time; threadpoolctl.threadpool_limits(1);"
        "a = numpy.ones((2048, 384), numpy.float32); b = numpy.ones((384, 4096), numpy.float32); a @ b;"
        "t = time.process_time(); [a @ b for _ in range(8)];"
        "print((time.process_time() - t) / (8 * 2048 * 384 * 4096))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, text=True)
    return float(done.stdout)


def fitted(small: Sequence[Facts], split: Facts, steered: Facts) -> Rates:
    """``split``: the smallest once more, in smaller shards. ``steered``: the control plane of many shards."""
    first = small[0]
    steps = {}
    for name in (name for name, run in first["steps"].items() if run["tasks"]):  # nothing was fetched
        runs = [one["steps"][name] for one in small]
        more = split["steps"][name]["tasks"] - runs[0]["tasks"]
        shard_s = max(0.0, split["steps"][name]["cpu_s"] - runs[0]["cpu_s"]) / more if more else 0.0
        rows = [one["num"] for one in small]
        fixed_s, row_s = line(rows, [max(1e-6, one["cpu_s"] - shard_s * one["tasks"]) for one in runs])
        files = {file: line(rows, [max(1, one["files"][file]) for one in runs]) for file in runs[-1]["files"]}
        steps[name] = StepRate(
            fixed_s=fixed_s,
            shard_s=round(shard_s, 6),
            row_s=row_s,
            listing_shard_s=round(steered["steps"].get(name, NO_LISTING)["cpu_s"] / steered["shards"][-1], 9),
            files={
                file: FileRate(fixed=round(fixed), row=round(row, 3)) for file, (fixed, row) in files.items()
            },
            entry_bytes=round(runs[-1]["entry_bytes"] / max(1, runs[-1]["tasks"])),
        )
    return Rates(
        machine=f"{os.cpu_count()} x {platform.processor() or platform.machine()}",
        commit=commit(),
        measured_on=datetime.now(UTC).date(),
        of=f"{scaling.OF}; photographs {'real' if photographs.real() else 'drawn'}",
        images=tuple(one["num"] for one in small),
        tokens_per_image=scaling.TOKENS,
        width=384,
        multiply_add_s=multiply_add_seconds(),
        listed_row_s=small[-1]["listed_row_s"],
        steps=steps,
    )


def compared(rates: Rates, large: Facts) -> Facts:
    """Predicted over measured, of each step and of all together: CPU seconds and bytes."""
    settings = scaling.config()
    scene = Scene(
        images=large["num"],
        shard_rows=SHARD_ROWS,
        tokens_per_image=scaling.TOKENS,
        side=settings.tokenizer.image.side,
        fit_images=settings.tokenizer.image.max_images,
        targets_per_group=settings.pipeline.examples.targets_per_group,
        rows=settings.pipeline.examples.rows,
        index=settings.retrieval.index,
        neighbors=settings.retrieval.neighbors,
    )
    here = Cluster(name="one core", nodes=(Nodes(count=1, cpus=1, memory_gib=1e6),))
    needs = {one.step: one for one in forecast(scene, here, rates).steps}
    found: Facts = {}
    sums = np.zeros(4)
    for name, run in ((name, run) for name, run in large["steps"].items() if name in needs):
        told = np.array([needs[name].cpu_s + needs[name].driver_s, sum(needs[name].files.values())])
        was = np.array([run["cpu_s"], sum(run["files"].values())])
        sums += np.concatenate([told, was])
        found[name] = {
            "cpu_s": round(float(was[0]), 2),
            "predicted_cpu_s": round(float(told[0]), 2),
            "cpu_ratio": round(float(told[0] / max(was[0], 1e-9)), 3),
            "bytes_ratio": round(float(told[1] / was[1]), 3) if was[1] else None,
        }
    return {
        "images": large["num"],
        "wall_s": round(large["wall_s"], 1),
        "cpu_s": round(float(sums[2]), 1),
        "cpu_ratio": round(float(sums[0] / sums[2]), 3),
        "bytes_ratio": round(float(sums[1] / sums[3]), 3),
        "steps": found,
    }


def run() -> Facts:
    small = [ended(started(num, SHARD_ROWS, "pack")) for num in FIT]
    split = ended(started(FIT[0], max(1, FIT[0] // 10), "pack"))
    steered = control_plane.grown(SHARDS)
    rates = fitted(small, split, steered)
    whole, ingest = started(WHOLE, SHARD_ROWS, "pack"), started(INGEST, SHARD_ROWS, "images")
    found = {"whole": compared(rates, ended(whole)), "ingest": compared(rates, ended(ingest))}
    told = [
        f"{one['cpu_ratio']:.2f} of the CPU seconds and {one['bytes_ratio']:.2f} of the bytes of {num:,} "
        f"images {what}"
        for one, num, what in (
            (found["whole"], WHOLE, "end to end"),
            (found["ingest"], INGEST, "through ingest"),
        )
    ]
    rates = rates.model_copy(update={"error": ", ".join(told)})
    where = photographs.folder() / "scale-rates.json"
    where.write_text(json.dumps(rates.model_dump(mode="json"), indent=1) + "\n")
    return {
        "unit": f"predicted over measured CPU seconds of {WHOLE} images end to end",
        "ours": found["whole"]["cpu_ratio"],
        "peer": None,
        "peer_name": None,
        "ratio": None,
        "details": {
            "fitted_to": list(FIT),
            "of": rates.of,
            **found,
            "control_plane": steered,
        },
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(run(), indent=1) + "\n")
