"""The tokenizer's service under load on loopback: does it hold, how long is the wait, what do batches bring.

``pardalis tokenizer serve`` of a random model of the small preset encodes JPEGs of 400 px for a closed loop:
CALLERS connections, each with one picture under way. First SECONDS of that for the waits (p50, p99) and the
errors; then rounds of ROUND_S seconds in turns, against the same service with batches of one picture.
``ratio`` is the median over rounds. The callers share the machine with the service.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.benchmarks import photographs
from tokenizer_service import vq

TOKEN = "token-of-the-benchmark"  # noqa: S105  # made up
PRESET, SIDE = "small-64-f8", 64
CALLERS, MAX_BATCH = 32, 32
SECONDS = float(os.environ.get("PARDALIS_BENCH_SECONDS", "60"))
ROUNDS, ROUND_S, WARM_S = 5, SECONDS / 4, SECONDS / 20
PATIENCE_S = 180


@dataclass(slots=True)
class Load:
    """What the callers saw."""

    waits_s: list[float] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)

    def told(self, seconds: float) -> dict[str, Any]:
        p50, p99 = np.percentile(self.waits_s, (50, 99)).tolist()
        return {
            "images": len(self.waits_s),
            "errors": sum(number for status, number in self.statuses.items() if status != "200"),
            "images_per_s": round(len(self.waits_s) / seconds, 1),
            "p50_ms": round(1000 * p50, 1),
            "p99_ms": round(1000 * p99, 1),
        }


@contextmanager
def service(folder: Path, *, max_batch: int, wait_ms: float) -> Iterator[str]:
    """Its address."""
    file = folder / "model.safetensors"
    file.write_bytes(vq.save(vq.new(vq.PRESETS[PRESET], torch.Generator().manual_seed(0))))
    out = folder / f"out-{max_batch}"
    words = ["--model", str(file), "--side", str(SIDE), "--port", "0", "--rate", "1000000", "--json"]
    words += ["--max-batch", str(max_batch), "--wait-ms", str(wait_ms)]
    with out.open("w") as sink, (folder / f"err-{max_batch}").open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "infra.cli", "tokenizer", "serve", *words],
            stdout=sink,
            stderr=errors,
            env={**os.environ, "PARDALIS_SERVICE_TOKEN": TOKEN},
        )
    try:
        until = time.monotonic() + PATIENCE_S
        while not out.read_text().endswith("}\n"):
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError((folder / f"err-{max_batch}").read_text())
            time.sleep(0.2)
        yield json.loads(out.read_text())["address"]
    finally:
        process.terminate()
        assert process.wait(PATIENCE_S) == 0


def loaded(url: str, images: list[bytes], seconds: float) -> Load:
    """A closed loop for so long; every caller sends the next picture when the last is answered."""
    load, until = Load(), time.monotonic() + seconds

    async def caller(number: int) -> None:
        reader, writer = await asyncio.open_connection(*url.removeprefix("http://").split(":"))
        while (began := time.monotonic()) < until:
            image = images[number % len(images)]
            head = f"POST /encode HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n"
            head += f"Content-Type: image/jpeg\r\nContent-Length: {len(image)}\r\n\r\n"
            writer.write(head.encode() + image)
            load.statuses[await answered(reader)] += 1
            load.waits_s.append(time.monotonic() - began)
            number += CALLERS
        writer.close()
        await writer.wait_closed()

    async def everyone() -> None:
        await asyncio.gather(*map(caller, range(CALLERS)))

    asyncio.run(everyone())
    return load


async def answered(reader: asyncio.StreamReader) -> str:
    """The status of an answer, which is read to its end."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    length = int(head.partition("content-length:")[2].split()[0])
    await reader.readexactly(length)
    return head.split()[1]


def run() -> dict[str, Any]:
    images = photographs.small()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as running:
        batched = running.enter_context(service(Path(folder), max_batch=MAX_BATCH, wait_ms=5))
        single = running.enter_context(service(Path(folder), max_batch=1, wait_ms=0))
        for url in (batched, single):
            loaded(url, images, WARM_S)
        whole = loaded(batched, images, SECONDS).told(SECONDS)
        rounds = []
        for _ in range(ROUNDS):
            pair = [loaded(url, images, ROUND_S).told(ROUND_S) for url in (batched, single)]
            rounds.append((pair[0]["images_per_s"], pair[1]["images_per_s"], pair))
    errors = whole["errors"] + sum(one["errors"] for *_, pair in rounds for one in pair)
    assert not errors, f"{errors} requests were not answered 200"
    ours, peer = (float(np.median([one[place] for one in rounds])) for place in (0, 1))
    return {
        "unit": "images per second over HTTP",
        "ours": round(ours, 1),
        "peer": round(peer, 1),
        "peer_name": "the same service with batches of one",
        "ratio": round(float(np.median([one[0] / one[1] for one in rounds])), 3),
        "details": {
            "seconds": SECONDS,
            "callers": CALLERS,
            "max_batch": MAX_BATCH,
            "preset": PRESET,
            "side": SIDE,
            "device": "cuda" if torch.cuda.is_available() else "cpu",
            "under_load": whole,
            "ratio_of_each_round": [round(one[0] / one[1], 3) for one in rounds],
            "photographs": "real, 400 px" if photographs.real() else "drawn, 400 px",
        },
    }
