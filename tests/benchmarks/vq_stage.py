"""The step ``tokenize`` on Ray with two workers, against a plain loop in two processes, over 5,000 images.

The loop does what nobody can leave out: it reads the same tars, decodes all images of one, encodes them by
the same model in the same batches, and encodes the captions. It publishes nothing and looks nothing up. Both
are warm: each of Ray's workers has made a shard, and so has each bare process. ``images_s`` is what the loop
spends without captions, ``encode_s`` on decoded arrays alone. Images are stored at 256 px and encoded at 64,
by the model of the demo: beside a larger one all else hardly counts.

``python -m tests.benchmarks.vq_stage {ray,bare} CORPUS`` times one of them and prints JSON.
"""

from __future__ import annotations

import json
import multiprocessing
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from infra import cluster
from infra.artifact import Artifact, Made, Shard, find_shard, publish_artifact, publish_shard
from infra.corpus import Corpus, Version
from infra.options import EngineOptions
from infra.storage import Store
from infra.telemetry import Log
from pipeline import archive, build, encoding, numerics, rows, schema, tables, tokens
from pipeline.pool import OnRay
from pipeline.step import IMAGES, ROWS, Task
from pipeline.tokens import BPE, VQ, ImageConfig, TextConfig
from tests.benchmarks import photographs
from tokenizer_service import coding, images, jpegs, sizes, text, vq
from tokenizer_service.vq import VQConfig

NUM, SHARD, WARM = 5000, 500, 50
"""Images, images a shard, and images of each shard that warms a worker."""
WORKERS, ROUNDS = 2, 3
SIDE, STORED = 64, 256
"""Pixels that are encoded, and at most as stored."""
STEP = tokens.step(TextConfig(), ImageConfig(side=SIDE), coding.NUMERICS)
COLUMNS = pa.schema([*tokens.FORM_COLUMNS, schema.REVISION, schema.KEY, schema.OUTCOME])
WORDS = ("red", "apple", "table", "wooden", "kitchen", "light", "morning", "fruit")


def stage_rates() -> dict[str, Any]:
    """Images a second of both, in pairs; ``ratio`` is Ray's over the loop's, the median of the rounds."""
    folder = photographs.folder() / f"tokenize-{NUM}-{'real' if photographs.real() else 'drawn'}"
    pictures = [stored(data) for data in photographs.small()]
    for slot, size in slots().items():
        publish(Store.at(folder), slot, size, pictures)
    rounds = []
    for _ in range(ROUNDS):
        ray, bare = timed("ray", folder), timed("bare", folder)
        spent = (ray["wall_s"], bare["wall_s"], bare["images_s"], bare["encode_s"])
        rounds.append([NUM / seconds for seconds in spent])
    ours, bare_loop, pictures_alone, encode = np.median(rounds, axis=0).tolist()
    ratios = [one[0] / one[1] for one in rounds]
    return {
        "images": NUM,
        "stage_images_per_s": round(ours, 1),
        "loop_images_per_s": round(bare_loop, 1),
        "loop_without_captions_images_per_s": round(pictures_alone, 1),
        "encode_alone_images_per_s": round(encode, 1),
        "ratio": round(float(np.median(ratios)), 3),
        "ratio_of_each_round": [round(ratio, 3) for ratio in ratios],
    }


def timed(mode: str, folder: Path) -> dict[str, float]:
    command = [sys.executable, "-m", "tests.benchmarks.vq_stage", mode, str(folder)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def slots(*, warm: bool = True, timed: bool = True) -> dict[str, int]:
    """Images by slot."""
    warming = {f"warm-{number}": WARM for number in range(WORKERS if warm else 0)}
    return warming | {f"{number:02d}": SHARD for number in range(NUM // SHARD if timed else 0)}


def stored(data: bytes) -> bytes:
    """A photograph as ``ingest`` keeps it."""
    pixels_HWC = images.decode(data)
    height, width = pixels_HWC.shape[:2]
    return jpegs.encode(sizes.shrink(pixels_HWC, sizes.shrunk(width, height, STORED)), 95)


def publish(store: Store, slot: str, size: int, pictures: Sequence[bytes]) -> None:
    """What the steps before would have left; a picture is used as often as it takes."""
    if find_shard(store, "images", slot) is not None:
        return
    keys = [f"acme_{slot}-{number:03d}" for number in range(size)]
    table = tables.of_rows(map(row, keys), COLUMNS)
    tar = archive.write((key, pictures[hash_of(key) % len(pictures)], {}, "") for key in keys)
    for step, files in (("split", {ROWS: tables.to_parquet(table)}), ("images", {IMAGES: tar})):
        publish_shard(store, step, slot, Made(files=files, counts={"kept": size}))


def hash_of(key: str) -> int:
    return int.from_bytes(tokens.captions.digest(key)[:4])


def row(key: str) -> dict[str, Any]:
    words = [WORDS[hash_of(f"{key}{place}") % len(WORDS)] for place in range(6)]
    facts = {"uid": key.replace("_", ":"), "key": key, "revision": 0, "outcome": "kept"}
    return {
        **facts,
        "description": " ".join(words),
        "keywords": words[:3],
        "color": "red",
        "may_derive": True,
    }


def version_of(corpus: Corpus, sizes: Mapping[str, int]) -> Version:
    """A version that is built up to the tokenizers, which are drawn by lot."""
    bpe = text.fit([" ".join(WORDS)] * 2, entries=400)
    model = vq.new(VQConfig(), torch.Generator().manual_seed(0))
    models = {"bpe": {BPE: bpe.to_json().encode()}, "vq": {VQ: vq.save(model)}}
    shards: dict[str, dict[str, Shard]] = {
        name: {"all": publish_shard(corpus.store, name, "all", Made(files=files))}
        for name, files in models.items()
    }
    for name in ("split", "images"):
        found = {slot: find_shard(corpus.store, name, slot) for slot in sizes}
        shards[name] = {slot: shard for slot, shard in found.items() if shard is not None}
    key = f"{len(sizes):032x}"
    for name, those in shards.items():
        publish_artifact(corpus.store, Artifact(step=name, key=key, settings={}, inputs={}, shards=those))
    listed = dict.fromkeys(shards, key)
    fitted = {name: listed.pop(name) for name in models}
    return replace(corpus.head(), artifacts=listed, models=fitted)


def on_ray(folder: Path) -> dict[str, float]:
    """Seconds of the step, on workers that have made a small shard each."""
    for kind in ("shards", "artifacts"):
        shutil.rmtree(folder / kind / STEP.name, ignore_errors=True)
    corpus = Corpus(Store.at(folder))
    with cluster.joined(EngineOptions().cluster()):
        engine = OnRay()
        build.run(corpus, version_of(corpus, slots(timed=False)), [STEP], engine, Log())
        version = version_of(corpus, slots())
        clock = time.perf_counter()
        version = build.run(corpus, version, [STEP], engine, Log())
        wall = time.perf_counter() - clock
        engine.close()
    assert corpus.artifact(version, STEP.name).counts == {"kept": NUM + WORKERS * WARM}
    return {"wall_s": wall}


def bare(folder: Path) -> dict[str, float]:
    start = multiprocessing.get_context("spawn")
    ready, spent = start.Barrier(WORKERS + 1), start.Queue()
    ways = [start.Process(target=half, args=(folder, number, ready, spent)) for number in range(WORKERS)]
    for way in ways:
        way.start()
    ready.wait()
    clock = time.perf_counter()
    told = [spent.get() for _ in ways]
    wall = time.perf_counter() - clock
    for way in ways:
        way.join()
    return {"wall_s": wall} | {name: max(one[name] for one in told) for name in told[0]}


def half(folder: Path, number: int, ready: Any, spent: Any) -> None:
    """Every second shard; tells the seconds that were spent on images, and on encoding them alone."""
    numerics.use_threads(1)
    numerics.keep_memory()
    corpus = Corpus(Store.at(folder))
    version = version_of(corpus, slots())
    tasks = {task.slot: task for task in STEP.tasks(build.Built(corpus=corpus, version=version))}
    model = vq.load(tasks["00"].only("vq").read())
    words = text.from_json(tasks["00"].only("bpe").read().decode())
    loop(tasks[f"warm-{number}"], model, words)
    ready.wait()
    told = [loop(tasks[slot], model, words) for slot in list(slots(warm=False))[number::WORKERS]]
    spent.put({name: sum(one[name] for one in told) for name in told[0]})


def loop(task: Task, model: vq.VQ, words: text.TextTokenizer) -> dict[str, float]:
    began = time.perf_counter()
    table = rows.with_images(rows.kept(task.only("rows")), task.only("images"))
    square = partial(encoding.square, side=SIDE, preprocessing=model.config.preprocessing)
    pixels_BHWC = np.stack([square(image) for image in table[schema.IMAGE.name].to_pylist()])
    decoded = time.perf_counter()
    coding.encode_images(model, pixels_BHWC)
    ended = time.perf_counter()
    forms = table.select([column.name for column in tokens.FORM_COLUMNS])
    tokens.encode_texts(forms, model=words, config=STEP.settings)
    return {"images_s": ended - began, "encode_s": ended - decoded}


if __name__ == "__main__":
    mode, place = sys.argv[1:]
    sys.stdout.write("\n" + json.dumps({"ray": on_ray, "bare": bare}[mode](Path(place))) + "\n")
