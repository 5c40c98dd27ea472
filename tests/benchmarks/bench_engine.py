"""The images step on Ray with two workers, against the same function in two bare processes; and whether time
and memory stay flat from 2,000 to 50,000 images.

Photographs of 400 px (``photographs``) in tars of 500. Ray's workers are warm, since they made the steps
before; each bare process has made one shard. ``ratio`` is images per second of wall clock, Ray's over the
bare ones', in paired runs, half of them before the long one and half after it, since the machine's own pace
drifts; what an image costs is their median. Memory is the peak of proportional set sizes: of driver, workers
and decoders, and of Ray's own daemons.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from infra.storage import Store
from pipeline import template
from pipeline.contract import License
from pipeline.deliveries.writer import Document, Heading, write_delivery
from tests.benchmarks import photographs

FEW, MANY, SHARD = 2000, 50_000, 500


def delivery(num: int) -> Path:
    """That many assets over the same photographs, made once."""
    folder = photographs.folder() / f"delivery-{num}"
    if (folder / "delivery.json").exists():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    heading = Heading(
        provider="acme",
        delivery_id="acme-000000",
        sequence=0,
        kind="full",
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
    )
    licenses = [License.model_validate(template.LICENSE)]
    write_delivery(Store.at(folder), heading, licenses=licenses, samples=samples(num), shard_samples=SHARD)
    return folder


def samples(num: int) -> Iterator[tuple[Document, bytes]]:
    sources = [(data, facts(data)) for data in photographs.small()]
    for number in range(num):
        data, file = sources[number % len(sources)]
        document = {**template.ASSET, "provider": "acme", "asset_id": f"{number:07d}", "file": file}
        yield document, data


def facts(data: bytes) -> dict[str, Any]:
    with Image.open(io.BytesIO(data)) as picture:
        width, height = picture.size
    digest = hashlib.sha256(data).hexdigest()
    return {"sha256": digest, "bytes": len(data), "mime": "image/jpeg", "width": width, "height": height}


def run_once(mode: str, num: int) -> dict[str, Any]:
    out = photographs.folder() / f"corpus-{num}"
    if mode == "ray":
        shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, "-m", "tests.benchmarks.engines", mode, str(delivery(num)), str(out)]
    done = subprocess.run(
        command,
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=Path.cwd(),
        env={**os.environ},
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def told(num: int, ray: dict[str, Any]) -> dict[str, Any]:
    assert ray["rows"] == num
    step = ray["images"]
    return {
        "images": num,
        "images_per_s": round(num / step["wall_s"], 1),
        "cpu_ms_an_image": round(1000 * step["cpu_s"] / num, 2),
        "peak_mib": {name: round(size / 2**20) for name, size in step["peak_bytes"].items()},
    }


def pair(num: int) -> tuple[dict[str, Any], dict[str, Any]]:
    return run_once("ray", num), run_once("bare", num)


def run() -> dict[str, Any]:
    pairs = [pair(FEW), pair(FEW)]
    many_ray, many_bare = pair(MANY)
    pairs += [pair(FEW), pair(FEW)]
    rounds = [(FEW / ray["images"]["wall_s"], FEW / bare["wall_s"]) for ray, bare in pairs]
    ours, peer = (float(np.median([one[place] for one in rounds])) for place in (0, 1))
    costs = [told(FEW, ray)["cpu_ms_an_image"] for ray, _ in pairs]
    few = {**told(FEW, pairs[0][0]), "cpu_ms_an_image": float(np.median(costs))}
    many = told(MANY, many_ray)
    return {
        "unit": "images per second",
        "ours": round(ours, 1),
        "peer": round(peer, 1),
        "peer_name": "the step's function in two processes",
        "ratio": round(float(np.median([one[0] / one[1] for one in rounds])), 3),
        "details": {
            "ratio_of_each_round": [round(one[0] / one[1], 3) for one in rounds],
            "ratio_at_50000": round(many_bare["wall_s"] / many_ray["images"]["wall_s"], 3),
            "few": few,
            "few_cpu_ms_of_each_round": costs,
            "many": many,
            "memory_growth": round(many["peak_mib"]["ours"] / few["peak_mib"]["ours"], 3),
            "cost_growth": round(many["cpu_ms_an_image"] / few["cpu_ms_an_image"], 3),
            "photographs": "real, 400 px" if photographs.real() else "drawn, 400 px",
        },
    }
