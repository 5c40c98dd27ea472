"""Packed rows read: CPU seconds of ours, litdata's (both loaders), mosaicml-streaming's and webdataset's.

The same rows of uint16, 60,000 of 1,040 and 20,000 of 4,224, from a warm page cache, shuffled in a window
of 1,024 rows, as int64 batches of 64; in one process and by two workers; every epoch in a process of its own,
readers in turns, ROUNDS times. litdata and mosaicml-streaming have venvs of their own. ``copies`` is a loop
of ``np.array(memmap[i])``, without batches, widening or order on disk.

Then the start of a stream of ten million rows, from its constructor to the first batch, at its beginning and
at 90 % of an epoch; and the same blocks from an S3 server on loopback, against ranged reads by boto3.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from infra import s3
from infra.storage import Store
from infra.telemetry import say
from tests import seaweed
from tests.benchmarks import photographs, stream_reading

ROUNDS = int(os.environ.get("PARDALIS_ROUNDS", "3"))
CASES = ((60_000, 1040), (20_000, 4224))
PEERS = {
    "litdata": ("litdata==0.2.76", "numpy"),
    "litdata_tokens": ("litdata==0.2.76", "numpy"),
    "mosaic": ("mosaicml-streaming==0.13.0", "numpy<2.2"),
}
"""Those that need a venv, and what is in it; torch is taken from ours."""
HOMES = {"litdata": "litdata", "litdata_tokens": "litdata", "mosaic": "mosaic"}
READERS = ("pardalis", "pardalis_256", "copies", "litdata", "litdata_tokens", "mosaic", "webdataset")
OURS = "pardalis"
MANY = 10_000_000
CONNECTIONS = (1, 4, 8)


def run() -> dict[str, Any]:
    home = photographs.folder() / "stream"
    home.mkdir(exist_ok=True)
    cases = {f"{num} x {width}": compared(home, num, width) for num, width in CASES}
    started = start_and_resume(home / "60000-1040" / "pardalis")
    say(f"start: {json.dumps(started)}")
    from_s3 = {
        f"{num} x {width}": s3_against_boto3(home / f"{num}-{width}" / "pardalis") for num, width in CASES
    }
    first = cases[f"{CASES[0][0]} x {CASES[0][1]}"]["workers 0"]
    return {
        "unit": "rows of 1,040 tokens a CPU second, one process",
        "ours": first["rows_per_cpu_s"][OURS],
        "peer": first["rows_per_cpu_s"][first["better_litdata"]],
        "peer_name": first["better_litdata"],
        "ratio": first["over_litdata"],
        "details": {"epochs": cases, "start": started, "s3": from_s3},
    }


def compared(home: Path, num: int, width: int) -> dict[str, Any]:
    folder = home / f"{num}-{width}"
    made(home, folder, num, width)
    told: dict[str, Any] = {}
    for workers in (0, 2):
        names = [name for name in READERS if workers == 0 or name != "copies"]
        rounds = [
            {name: called(home, name, "read", folder / base(name), workers) for name in names}
            for _ in range(ROUNDS)
        ]
        for one in rounds:
            same(one, num)
        told[f"workers {workers}"] = summary(rounds)
        say(f"{num} x {width}, {workers} workers: {json.dumps(told[f'workers {workers}'])}")
    return told


def base(name: str) -> str:
    """Whose files a reader reads."""
    return name.removesuffix("_256")


def same(one: dict[str, Any], num: int) -> None:
    """Every reader gave every row once: as many, with the same sum of first tokens."""
    told = {name: (found["rows"], found["first_tokens"]) for name, found in one.items()}
    if len(set(told.values())) != 1 or one[OURS]["rows"] != num:
        raise AssertionError(f"readers gave other rows: {told}, of {num}")


def summary(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    rates = [{name: found["rows"] / found["cpu_s"] for name, found in one.items()} for one in rounds]
    median = {name: round(statistics.median(one[name] for one in rates)) for name in rates[0]}
    better = max(("litdata", "litdata_tokens"), key=lambda name: median[name])

    def over(name: str, mine: str = OURS) -> float:
        return round(statistics.median(one[mine] / one[name] for one in rates), 3)

    told = {
        "rows_per_cpu_s": median,
        "better_litdata": better,
        "over_litdata": over(better),
        "over_mosaic": over("mosaic"),
        "over_webdataset": over("webdataset"),
        "of_256_lanes_over_litdata": over(better, "pardalis_256"),
        "wall_s": {
            name: round(statistics.median(one[name]["wall_s"] for one in rounds), 2) for name in median
        },
    }
    if "copies" in median:
        told["of_row_copies"] = over("copies")
        told["of_256_lanes_of_row_copies"] = over("copies", "pardalis_256")
    return told


def made(home: Path, folder: Path, num: int, width: int) -> None:
    source = folder / "source.npy"
    if not source.exists():
        folder.mkdir(parents=True, exist_ok=True)
        rows = np.random.default_rng(num).integers(0, 1 << 16, (num, width), dtype=np.uint16)
        np.save(folder / "part.npy", rows)
        (folder / "part.npy").rename(source)
    for name in READERS:
        target = folder / base(name)
        if not (target / "ready").exists():
            shutil.rmtree(target, ignore_errors=True)
            called(home, base(name), "write", source, target)
            (target / "ready").touch()


def called(home: Path, name: str, verb: str, *rest: object) -> dict[str, Any]:
    python = theirs(home, name) if name in PEERS else sys.executable
    words = [python, stream_reading.__file__, verb, name, *map(str, rest)]
    ours = {"PYTHONPATH": str(Path(__file__).parents[2])} if name not in PEERS else {}
    done = subprocess.run(words, check=True, stdout=subprocess.PIPE, env={**os.environ, **ours})
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def theirs(home: Path, name: str) -> str:
    """A venv with the peer's own pins; what it lacks, torch above all, is looked for in ours."""
    place = home.parent / f"venv-{HOMES[name]}"
    python = place / "bin" / "python"
    if not (place / "ready").exists():
        venv.create(place, with_pip=True, clear=True)
        (site,) = place.glob("lib/python3*/site-packages")
        (site / "ours.pth").write_text(str(Path(np.__file__).parents[1]) + "\n")
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *PEERS[name]], check=True)
        (place / "ready").touch()
    return str(python)


START = """
import json, sys, time
from pathlib import Path
import numpy, torch
from pipeline.blocks import Shard
from trainer.order import StreamSection
from trainer.stream import PackedStream, tokens
folder, many = Path(sys.argv[1]), int(sys.argv[2])
infos = json.loads((folder / "infos.json").read_text())
packs = [Shard.file(folder / name, info) for name, info in sorted(infos.items())]
packs = packs * -(-many // sum(shard.info["rows"] for shard in packs))
told = {"rows": sum(shard.info["rows"] for shard in packs)}
for name in ("start", "resume"):
    section = StreamSection(seed=7, rows_per_step=64)
    state = None
    if name == "resume":
        steps = told["rows"] * 9 // 10 // 64
        state = json.dumps(PackedStream(packs, stream=section, view=tokens).state_after(steps))
    began = time.perf_counter()
    stream = PackedStream(packs, stream=section, view=tokens)
    if state:
        stream.load_state_dict(json.loads(state))
    next(iter(stream))
    told[name + "_s"] = round(time.perf_counter() - began, 3)
print(json.dumps(told))
"""


def start_and_resume(folder: Path) -> dict[str, Any]:
    """A manifest of ten million rows: the same files again and again. Medians of processes of their own."""
    found = []
    for _ in range(ROUNDS):
        words = [sys.executable, "-c", START, str(folder), str(MANY)]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
        done = subprocess.run(words, check=True, stdout=subprocess.PIPE, env=environment)
        found.append(json.loads(done.stdout.splitlines()[-1]))
    return {key: statistics.median(one[key] for one in found) for key in found[0]}


READ_S3 = """
import json, sys, time
import numpy, torch
from infra.pieces import PiecesSection
from infra.storage import Store
from pipeline.blocks import Shard
from trainer.order import StreamSection
from trainer.stream import PackedStream, tokens
store = Store.at(sys.argv[1])
infos = json.loads(store.read("infos.json"))
packs = [Shard(store=store, name=name, info=info) for name, info in sorted(infos.items())]
rows = sum(shard.info["rows"] for shard in packs)
began = time.perf_counter()
stream = PackedStream(packs, stream=StreamSection(seed=7, rows_per_step=64), view=tokens, epochs=1)
told = sum(len(batch) for batch in stream)
wall = time.perf_counter() - began
assert told == rows, (told, rows)
size = sum(block["bytes"] for info in infos.values() for block in info["blocks"])
print(json.dumps({"mb_per_s": size / wall / 1e6, "bytes": size}))
"""


def s3_against_boto3(folder: Path) -> dict[str, Any]:
    infos = json.loads((folder / "infos.json").read_text())
    with tempfile.TemporaryDirectory() as scratch, seaweed.serving(Path(scratch)) as server:
        os.environ.update(server.environment)
        s3.forget()
        store = Store.at(f"s3://{seaweed.BUCKET}/packs")
        for name in [*infos, "infos.json"]:
            store.write(name, (folder / name).read_bytes())
        ranges = [(name, b["offset"], b["bytes"]) for name, info in infos.items() for b in info["blocks"]]
        rounds = []
        for _ in range(ROUNDS):
            one = {f"boto3 {threads}": plain(store, ranges, threads) for threads in CONNECTIONS}
            with tempfile.TemporaryDirectory() as cache:
                environment = {
                    **os.environ,
                    "PYTHONPATH": str(Path(__file__).parents[2]),
                    "XDG_CACHE_HOME": cache,
                }
                words = [sys.executable, "-c", READ_S3, store.uri]
                done = subprocess.run(words, check=True, stdout=subprocess.PIPE, env=environment)
            one["ours"] = json.loads(done.stdout.splitlines()[-1])["mb_per_s"]
            rounds.append(one)
        shares = [one["ours"] / max(value for key, value in one.items() if key != "ours") for one in rounds]
    told = {key: round(statistics.median(one[key] for one in rounds), 1) for key in rounds[0]}
    found = {
        "mb_per_s": told,
        "of_best": round(statistics.median(shares), 3),
        "shares": [round(s, 3) for s in shares],
    }
    say(f"s3: {json.dumps(found)}")
    return found


def plain(store: Store, ranges: list[tuple[str, int, int]], threads: int) -> float:
    began = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        size = sum(pool.map(lambda one: len(store.range(*one)), ranges))
    return size / (time.perf_counter() - began) / 1e6
