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
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3
import numpy as np
from botocore.config import Config

from infra import s3
from infra.storage import Store
from infra.telemetry import say
from pipeline import exporting
from pipeline.blocks import Blocks, Shard
from tests import seaweed
from tests.benchmarks import peers, photographs, stream_reading

ROUNDS = int(os.environ.get("PARDALIS_ROUNDS", "3"))
CASES = ((60_000, 1040), (20_000, 4224))
PEERS = {
    "litdata": ("litdata==0.2.76", "numpy"),
    "litdata_tokens": ("litdata==0.2.76", "numpy"),
    "mosaic": ("mosaicml-streaming==0.13.0", "numpy<2.2"),
}
"""Those that need a venv, and what is in it; torch is taken from ours."""
HOMES = {"litdata": "litdata", "litdata_tokens": "litdata", "mosaic": "mosaic"}
READERS = (
    "pardalis",
    "pardalis_256",
    "pardalis_plain",
    "copies",
    "litdata",
    "litdata_tokens",
    "mosaic",
    "webdataset",
    "webdataset_npy",
)
OURS = "pardalis"
MANY = 10_000_000
CONNECTIONS = (1, 4, 8)
COPIES = 4
"""Times that every shard lies in the store: 0.5 and 0.7 GB, a start of 50 ms is a quarter of 0.17 GB."""


def run() -> dict[str, Any]:
    home = photographs.folder() / "stream"
    home.mkdir(exist_ok=True)
    cases = {f"{num} x {width}": compared(home, num, width) for num, width in CASES}
    copies = {f"{num} x {width}": exported(home, home / f"{num}-{width}") for num, width in CASES}
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
        "details": {"epochs": cases, "exports_read": copies, "start": started, "s3": from_s3},
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


def exported(home: Path, folder: Path) -> dict[str, str]:
    """Copies by ``packs export``, read by the libraries that they are for: every row, the same tokens."""
    infos = json.loads((folder / "pardalis" / "infos.json").read_text())
    blocks = Blocks(
        [Shard.file(folder / "pardalis" / name, info) for name, info in sorted(infos.items())], keep=1
    )
    wanted = called(home, OURS, "read", folder / "pardalis", 0)
    told = {}
    for kind, reader in (("mds", "mosaic"), ("litdata", "litdata_tokens")):
        target = folder / f"exported-{kind}"
        shutil.rmtree(target, ignore_errors=True)
        (target / "data").mkdir(parents=True)
        (target / "width").write_text(str(blocks.block(0).tokens_RT.shape[1]))
        facts = []
        for number in range(len(blocks)):
            name, data, fact = exporting.FORMATS[kind](blocks.block(number), number)
            (target / "data" / name).write_bytes(data)
            facts.append(fact)
        (target / "data" / exporting.INDEX).write_text(json.dumps(exporting.INDEXES[kind](facts)))
        found = called(home, reader, "read", target, 0)
        if (found["rows"], found["first_tokens"]) != (wanted["rows"], wanted["first_tokens"]):
            raise AssertionError(f"{reader} reads another copy: {found}, where the packs hold {wanted}")
        told[kind] = f"{found['rows']} rows, by {reader}"
    return told


def base(name: str) -> str:
    """Whose files a reader reads."""
    return name.removesuffix("_256").removesuffix("_plain")


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
        "over_webdataset_npy": over("webdataset_npy"),
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
    words = [stream_reading.__file__, verb, name, *rest]
    found: dict[str, Any] = peers.told_by(python, *words, **({} if name in PEERS else OUR_CODE))
    return found


OUR_CODE = {"PYTHONPATH": str(Path(__file__).parents[2])}


def theirs(home: Path, name: str) -> str:
    return peers.python(home.parent / f"venv-{HOMES[name]}", PEERS[name])


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
for name in sys.argv[3:]:
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
        one = {}
        for name in ("start", "resume"):
            one |= peers.told_by(sys.executable, "-c", START, folder, MANY, name, **OUR_CODE)
        found.append(one)
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
section = StreamSection(seed=7, rows_per_step=64, lanes=int(sys.argv[3]))
began = time.perf_counter()
pieces = PiecesSection(cache_mib=int(sys.argv[2]))
stream = PackedStream(packs, stream=section, view=tokens, epochs=1, pieces=pieces)
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
        infos = {f"{copy}-{name}": info for copy in range(COPIES) for name, info in infos.items()}
        store.write("infos.json", json.dumps(infos).encode())
        for name in infos:
            store.write(name, (folder / name.partition("-")[2]).read_bytes())
        ranges = [(name, b["offset"], b["bytes"]) for name, info in infos.items() for b in info["blocks"]]
        rounds = []
        for _ in range(ROUNDS):
            one = {f"boto3 {threads}": plain(ranges, threads) for threads in CONNECTIONS}
            rounds.append({**one, **{name: streamed(store, *how) for name, how in STREAMED.items()}})
    told = {key: round(statistics.median(one[key] for one in rounds), 1) for key in rounds[0]}
    best = [max(value for key, value in one.items() if key.startswith("boto3")) for one in rounds]
    found: dict[str, Any] = {"mb_per_s": told}
    for name in STREAMED:
        shares = [one[name] / most for one, most in zip(rounds, best, strict=True)]
        found[name] = {
            "of_best": round(statistics.median(shares), 3),
            "rounds": [round(s, 3) for s in shares],
        }
    say(f"s3: {json.dumps(found)}")
    return found


STREAMED = {"in memory": (0, 1), "kept on disk": (16_384, 1), "kept on disk, 256 lanes": (16_384, 256)}
"""``cache_mib``, and lanes: one has the other readers' window; of 256, a batch needs 64 blocks."""


def streamed(store: Store, cache_mib: int, lanes: int) -> float:
    """MB/s of an epoch, from the constructor to the last batch, in a process with an empty cache."""
    with tempfile.TemporaryDirectory() as cache:
        words = [sys.executable, "-c", READ_S3, store.uri, cache_mib, lanes]
        return float(peers.told_by(*words, **OUR_CODE, XDG_CACHE_HOME=cache)["mb_per_s"])


def plain(ranges: list[tuple[str, int, int]], threads: int) -> float:
    """MB/s of ranged reads by boto3, whose client is made before the clock runs."""
    client = boto3.client("s3", config=Config(s3={"addressing_style": "path"}, max_pool_connections=32))

    def read(one: tuple[str, int, int]) -> int:
        name, offset, size = one
        asked = f"bytes={offset}-{offset + size - 1}"
        answer = client.get_object(Bucket=seaweed.BUCKET, Key=f"packs/{name}", Range=asked)
        return len(answer["Body"].read())

    began = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        size = sum(pool.map(read, ranges))
    return size / (time.perf_counter() - began) / 1e6
