"""The search under load on loopback: does it hold, how long is the wait, and does a revocation hold at once.

``pardalis index serve`` of a corpus that was put together, PARDALIS_BENCH_MEMBERS of them, answers a closed
loop: CALLERS connections, each with one request under way, for SECONDS. Of ten requests four ask by words
(half of them never asked before), two by words within filters, two by an asset, one by a picture and one by a
vector, that of the asset which is revoked in the middle: the file of revocations grows by a line. From then
on every answer is looked through for it. The callers share the machine with the service.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import psutil

from pipeline.contract import template
from tests.benchmarks import assembled, photographs

TOKEN = "token-of-the-benchmark"  # noqa: S105  # made up
CALLERS = 16
SECONDS = float(os.environ.get("PARDALIS_BENCH_SECONDS", "60"))
MEMBERS = int(os.environ.get("PARDALIS_BENCH_MEMBERS", "100000"))
WARM_S = SECONDS / 10
PATIENCE_S = 900
TAKES_EFFECT_S = 1.0
TARGET = 3 * 123
"""Of the licence that the token sees, as every third."""
KINDS = ("text", "new text", "filtered", "uid", "image", "vector")
MIX = ("text", "new text", "filtered", "uid", "vector", "text", "new text", "filtered", "uid", "image")


@dataclass(slots=True)
class Load:
    """What the callers saw."""

    waits_s: dict[str, list[float]] = field(default_factory=lambda: {kind: [] for kind in KINDS})
    statuses: Counter[str] = field(default_factory=Counter)
    held: list[tuple[float, float]] = field(default_factory=list)
    """(when it was asked for, when it came), of answers with the target."""
    clean: list[tuple[float, float]] = field(default_factory=list)
    """The same of answers to its own vector without it."""
    revoked: float = 0.0

    def told(self) -> dict[str, Any]:
        every = [wait for waits in self.waits_s.values() for wait in waits]
        first_clean = min((came for _, came in self.clean), default=float("inf"))
        return {
            "requests": len(every),
            "errors": sum(number for status, number in self.statuses.items() if status != "200"),
            "requests_per_s": round(len(every) / SECONDS, 1),
            **quantiles(every),
            "by_kind": {
                kind: {"requests": len(waits), **quantiles(waits)} for kind, waits in self.waits_s.items()
            },
            "with_the_asset_before": sum(came < self.revoked for _, came in self.held),
            "last_with_it_after_s": round(max((came for _, came in self.held), default=0) - self.revoked, 3),
            "first_without_it_after_s": round(first_clean - self.revoked, 3),
            "with_it_once_it_was_out": sum(asked > first_clean for asked, _ in self.held),
        }


def quantiles(waits_s: list[float]) -> dict[str, float]:
    p50, p99 = (1000 * np.percentile(waits_s or [0.0], (50, 99))).tolist()
    return {"p50_ms": round(p50, 1), "p99_ms": round(p99, 1)}


@contextmanager
def service(folder: Path, corpus: str) -> Iterator[tuple[str, psutil.Process]]:
    """Its address, and its process."""
    (folder / "tokens").write_text(f"{TOKEN}\n")
    (folder / "revoked.jsonl").write_text("")
    words = ["--corpus", corpus, "--token-file", str(folder / "tokens"), "--port", "0", "--json"]
    words += ["--revocations", str(folder / "revoked.jsonl"), "--rate", "1000000"]
    out = folder / "out"
    with out.open("w") as sink, (folder / "err").open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "infra.cli", "index", "serve", *words], stdout=sink, stderr=errors
        )
    try:
        until = time.monotonic() + PATIENCE_S
        while not out.read_text().endswith("}\n"):
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError((folder / "err").read_text())
            time.sleep(0.2)
        yield json.loads(out.read_text())["address"], psutil.Process(process.pid)
    finally:
        process.terminate()
        assert process.wait(PATIENCE_S) == 0


def bodies(vector: list[float]) -> Iterator[tuple[str, bytes]]:
    """Kinds and bodies of requests, without end."""
    pictures = [base64.b64encode(picture).decode() for picture in photographs.small()]
    for number in itertools.count():
        phrase = f"{assembled.COLORS[number % 7]} {assembled.THINGS[number % 11]}"
        where = {"category": [f"k{number % 40}"], "orientation": ["portrait"], "since": "2015-01-01"}
        asked: dict[str, dict[str, Any]] = {
            "text": {"text": phrase},
            "new text": {"text": f"{phrase} number {number}"},
            "filtered": {"text": phrase, "where": where},
            "uid": {"uid": f"acme:a{3 * (7 * number % (MEMBERS // 3)):07d}"},
            "image": {"image": pictures[number % len(pictures)]},
            "vector": {"vector": vector, "k": 10},
        }
        kind = MIX[number % len(MIX)]
        yield kind, json.dumps(asked[kind]).encode()


async def loaded(url: str, seconds: float, asked: Iterator[tuple[str, bytes]], revoke: Any) -> Load:
    """A closed loop for so long; ``revoke`` is called in the middle."""
    load, until, target = Load(), time.monotonic() + seconds, f"acme:a{TARGET:07d}".encode()
    head = f"POST /search HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n"
    head += "Content-Type: application/json\r\n"

    async def caller() -> None:
        reader, writer = await asyncio.open_connection(*url.removeprefix("http://").split(":"))
        while (sent := time.monotonic()) < until:
            kind, body = next(asked)
            writer.write(head.encode() + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
            status, answer = await answered(reader)
            came = time.monotonic()
            load.statuses[status] += 1
            load.waits_s[kind].append(came - sent)
            if target in answer:
                load.held.append((sent, came))
            elif kind == "vector" and load.revoked:
                load.clean.append((sent, came))
        writer.close()
        await writer.wait_closed()

    async def taken_back() -> None:
        await asyncio.sleep(seconds / 2)
        load.revoked = time.monotonic()
        revoke()

    await asyncio.gather(taken_back(), *(caller() for _ in range(CALLERS)))
    return load


async def answered(reader: asyncio.StreamReader) -> tuple[str, bytes]:
    """The status and the body of an answer."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    length = int(head.partition("content-length:")[2].split()[0])
    return head.split()[1], await reader.readexactly(length)


def revocation() -> str:
    changes = {
        "revocation_id": "bench",
        "targets": [f"a{TARGET:07d}"],
        "effective_at": "2026-01-01T00:00:00Z",
    }
    return json.dumps(template()["revocation"] | changes) + "\n"


def memory_mb(process: psutil.Process) -> dict[str, int]:
    """Of the door, and of the replica."""
    replicas = [one for one in process.children(recursive=True) if "ServeReplica" in " ".join(one.cmdline())]
    return {
        "door": process.memory_info().rss >> 20,
        "replica": sum(one.memory_info().rss for one in replicas) >> 20,
    }


def thumbnails(url: str, num: int) -> dict[str, float]:
    """One after the other, none asked for before."""

    async def asked() -> list[float]:
        reader, writer = await asyncio.open_connection(*url.removeprefix("http://").split(":"))
        waits = []
        for number in range(num):
            uid = quote(f"acme:a{TARGET + 3 + 3 * number:07d}", safe="")
            began = time.monotonic()
            writer.write(
                f"GET /thumbnails/{uid} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n\r\n".encode()
            )
            status, _ = await answered(reader)
            assert status == "200", status
            waits.append(time.monotonic() - began)
        writer.close()
        await writer.wait_closed()
        return waits

    return quantiles(asyncio.run(asked()))


def run() -> dict[str, Any]:
    corpus = assembled.corpus(photographs.folder(), MEMBERS)
    with tempfile.TemporaryDirectory() as name:
        folder, began = Path(name), time.monotonic()
        with service(folder, corpus.store.uri) as (url, process):
            ready_s = time.monotonic() - began
            asked, file = bodies(assembled.vectors(MEMBERS)[TARGET].tolist()), folder / "revoked.jsonl"
            asyncio.run(loaded(url, WARM_S, asked, lambda: None))
            load = asyncio.run(loaded(url, SECONDS, asked, lambda: file.write_text(revocation()))).told()
            small, memory = thumbnails(url, 200), memory_mb(process)
    assert not load["errors"], f"{load['errors']} requests were not answered 200"
    assert not load["with_it_once_it_was_out"], "an answer held what another had shown to be revoked"
    assert load["with_the_asset_before"], (
        "what is revoked was in no answer, so nothing is shown by its absence"
    )
    assert load["first_without_it_after_s"] < math.inf, "the revocation never took effect"
    assert load["last_with_it_after_s"] < TAKES_EFFECT_S, "an answer held it too long"
    return {
        "unit": "ms at p99",
        "ours": load["p99_ms"],
        "peer": None,
        "peer_name": None,
        "ratio": None,
        "details": {
            "seconds": SECONDS,
            "callers": CALLERS,
            "members": MEMBERS,
            "ready_s": round(ready_s, 1),
            "memory_mb": memory,
            "under_load": load,
            "thumbnails": small,
        },
    }
