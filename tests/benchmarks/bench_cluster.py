"""What the engine costs a shard, beside Ray Data; and what an image costs with two workers and with one.

10,000 shards of two bytes, each read, made and published (PARDALIS_SHARDS): all that is left is the engine
and the store. Ray Data runs the same function by a pool of as many actors, a block a shard, since a block is
what it tries again; both pools are warm. ``ratio`` is Ray Data's seconds over ours, of paired rounds.

An image's cost is the CPU seconds of workers and their decoders, by one worker and by two, in the images step
of an ingest and in tokenize; the driver's and Ray's own are told apart. Two workers share caches and memory
bandwidth, so they cost a little more.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from infra.storage import Store
from tests.benchmarks import bench_engine, photographs, vq_stage

SHARDS = int(os.environ.get("PARDALIS_SHARDS", "10000"))
ROUNDS = int(os.environ.get("PARDALIS_ROUNDS", "3"))
IMAGES = 4000


def run_once(mode: str, folder: Path, number: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.benchmarks.pooling", mode, str(folder), str(number)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def run() -> dict[str, Any]:
    rounds = []
    for _ in range(ROUNDS):
        one = [run_once(mode, photographs.folder() / "pooling", SHARDS) for mode in ("pool", "data")]
        rounds.append(one)
    ours, peer = (
        statistics.median(1000 * one[place]["wall_s"] / SHARDS for one in rounds) for place in (0, 1)
    )
    return {
        "unit": "ms a shard",
        "ours": round(ours, 2),
        "peer": round(peer, 2),
        "peer_name": "Ray Data, an actor pool over one block a shard",
        "ratio": round(statistics.median(peer["wall_s"] / ours["wall_s"] for ours, peer in rounds), 3),
        "details": {
            "shards": SHARDS,
            "pool": [shard_costs(one) for one, _ in rounds],
            "ray_data": [shard_costs(one) for _, one in rounds],
            "images": of_an_image("images", ingested()),
            "tokens": of_an_image("tokens", tokenized()),
            "photographs": "real, 400 px" if photographs.real() else "drawn, 400 px",
        },
    }


def shard_costs(found: dict[str, Any]) -> dict[str, Any]:
    """Milliseconds a shard, of the wall clock and of each kind of process."""
    cpu = {kind: round(1000 * seconds / SHARDS, 2) for kind, seconds in found["cpu_s"].items()}
    peak = round(found["driver_peak_bytes"] / 2**20)
    return {"wall_ms": round(1000 * found["wall_s"] / SHARDS, 2), "cpu_ms": cpu, "driver_peak_mib": peak}


def of_an_image(mode: str, folder: Path) -> dict[str, Any]:
    """CPU milliseconds of an image by one worker and by two, in turns; the ratio of each round."""
    rounds = [[per_image(run_once(mode, folder, workers)) for workers in (1, 2)] for _ in range(ROUNDS)]
    ratios = [two["workers"] / one["workers"] for one, two in rounds]
    return {
        "one_worker_cpu_ms": [one for one, _ in rounds],
        "two_workers_cpu_ms": [two for _, two in rounds],
        "ratio_of_each_round": [round(ratio, 3) for ratio in ratios],
        "ratio": round(statistics.median(ratios), 3),
    }


def per_image(found: dict[str, Any]) -> dict[str, float]:
    return {kind: round(1000 * seconds / found["images"], 3) for kind, seconds in found["cpu_s"].items()}


def ingested() -> Path:
    folder = photographs.folder() / "pooled"
    folder.mkdir(exist_ok=True)
    if not (folder / "delivery").exists():
        (folder / "delivery").symlink_to(bench_engine.delivery(IMAGES))
    return folder


def tokenized() -> Path:
    folder = photographs.folder() / f"tokenize-{vq_stage.NUM}-{'real' if photographs.real() else 'drawn'}"
    pictures = [vq_stage.stored(data) for data in photographs.small()]
    for slot, size in vq_stage.slots().items():
        vq_stage.publish(Store.at(folder), slot, size, pictures)
    return folder
