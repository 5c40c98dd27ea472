"""What ``bench_scale`` measures, a corpus a process, which prints JSON:
``python -m tests.benchmarks.scaling NUM SHARD_ROWS LAST OUT``.

Pictures are crops of photographs (``photographs``), each another one, so duplicates are not looked for: the
crops of one photograph would be found. Captions are drawn.
"""

from __future__ import annotations

import gc
import hashlib
import io
import json
import re
import resource
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from infra.artifact import pretty
from infra.corpus import Corpus, Version
from infra.storage import Store
from infra.telemetry import Log
from pipeline import build, examples, folding, indexing, plan, reading, refs
from pipeline import config as configs
from pipeline.build import Built
from pipeline.config import Config
from pipeline.contract import Asset
from pipeline.deliveries.writer import Heading, write_delivery
from pipeline.engine import Inline
from pipeline.neighbors import NEIGHBORS
from pipeline.outcomes import KEPT
from pipeline.step import Step
from tests.benchmarks import drawn_corpus, photographs
from tests.benchmarks.drawn_corpus import AS_OF, PROVIDER

SETTINGS = """
[pipeline.ingest]
max_side = 256
[pipeline.filters]
min_side = 112
max_aspect = 2
[pipeline.duplicates]
max_hamming = 0
variants = false
max_difference = 0
[pipeline.examples]
neighbors = [0.25, 0.25, 0.25, 0.25]
[pipeline.examples.rows]
context = 540
block_rows = 32
[tokenizer.text]
entries = 2048
[tokenizer.image]
side = 64
max_images = 1000
[tokenizer.image.fit]
steps = 4
batch_images = 8
[retrieval.index]
kind = "ivf_flat"
recall = 0.5
"""
TOKENS = 64
"""Of an image of 64 px."""
OF = (
    "crops of photographs of 400 px to 256 px, captions drawn; offline encoder; 64 tokens an image; "
    "near duplicates not looked for; one core"
)
LEAST = 0.6


def config() -> Config:
    return configs.of(reading.told(reading.parsed(SETTINGS, "bench_scale"), "bench_scale"))


def samples(num: int) -> Iterator[tuple[Asset, bytes]]:
    """Crops from three fifths to all of each side."""
    sources = photographs.small()
    pictures: dict[int, Image.Image] = {}
    for number in range(num):
        of = number % len(sources)
        if of not in pictures:
            with Image.open(io.BytesIO(sources[of])) as opened:
                pictures[of] = opened.convert("RGB")
        image = crop(pictures[of], number)
        asset = drawn_corpus.asset(number)
        with Image.open(io.BytesIO(image)) as opened:
            size = dict(zip(("width", "height"), opened.size, strict=True))
        file = {"sha256": hashlib.sha256(image).hexdigest(), "bytes": len(image), **size}
        yield asset.model_copy(update={"file": asset.file.model_copy(update=file)}), image


def crop(picture: Image.Image, number: int) -> bytes:
    lot = np.random.default_rng([7, number])
    share, left, top = lot.uniform(LEAST, 1), *lot.uniform(0, 1, 2)
    width, height = (round(side * share) for side in picture.size)
    x, y = round(left * (picture.width - width)), round(top * (picture.height - height))
    sink = io.BytesIO()
    picture.crop((x, y, x + width, y + height)).save(sink, "JPEG", quality=90)
    return sink.getvalue()


def delivered(num: int, shard_rows: int) -> str:
    """The same bytes in every run; made once."""
    place = photographs.folder() / f"scale-{'real' if photographs.real() else 'drawn'}-{num}-{shard_rows}"
    if not (place / "delivery.json").exists():
        shutil.rmtree(place, ignore_errors=True)
        heading = Heading(provider=PROVIDER, delivery_id="crops", sequence=0, kind="full", created_at=AS_OF)
        write_delivery(
            Store.at(place),
            heading,
            licenses=[drawn_corpus.license_()],
            samples=samples(num),
            shard_samples=shard_rows,
        )
    return str(place)


def cpu_seconds(of: int) -> float:
    used = resource.getrusage(of)
    return used.ru_utime + used.ru_stime


def spent(work: Callable[[], Any]) -> tuple[float, Any]:
    """CPU of this process, and of its children: the decoder, whose time counts once it has ended."""
    own, others = cpu_seconds(resource.RUSAGE_SELF), cpu_seconds(resource.RUSAGE_CHILDREN)
    found = work()
    own = cpu_seconds(resource.RUSAGE_SELF) - own
    gc.collect()  # ends the decoder; its own 0.2 s are no part of the work
    return own + cpu_seconds(resource.RUSAGE_CHILDREN) - others, found


def measured(num: int, shard_rows: int, last: str, out: Path) -> dict[str, Any]:
    """Of every step up to the last: CPU seconds, listing included, tasks, rows, bytes by file."""
    uri = delivered(num, shard_rows)
    shutil.rmtree(out, ignore_errors=True)
    corpus, settings, found = Corpus(Store.at(out)), config(), {}
    began = time.perf_counter()
    with corpus.writing(purpose="benchmark"):
        folded_s, version = spent(lambda: folding.fold(corpus, corpus.head(), [uri]))
        version = replace(version, as_of=AS_OF.isoformat())
        steps = [*plan.ingest_steps(settings, AS_OF), *plan.build_steps(settings)]
        for step in steps[: [step.name for step in steps].index(last) + 1]:
            version, found[step.name] = one(corpus, version, step)
    found["records"]["cpu_s"] += folded_s
    facts: dict[str, Any] = {"num": num, "steps": found, "wall_s": time.perf_counter() - began}
    if "neighbors" in version.artifacts:
        facts["listed_row_s"] = listed_row_seconds(corpus, version)
    return facts


def one(corpus: Corpus, version: Version, step: Step) -> tuple[Version, dict[str, Any]]:
    registered_s = 0.0
    if step.name == "codes":
        registered_s, version = spent(lambda: indexing.register(corpus, version))
    source = Built(corpus=corpus, version=version)
    run_s, after = spent(lambda: build.run(corpus, version, [step], Inline(), Log()))
    artifact = corpus.artifact(after, step.name)
    files: dict[str, int] = {}
    for shard in artifact.shards.values():
        for name, file in shard.files.items():
            told = re.sub(r"\d+(-\d+)*", "*", name)
            files[told] = files.get(told, 0) + file.size
    came = sum(artifact.counts.values())
    if step.inputs:
        came = source.artifact(step.inputs[0]).counts.get(KEPT, came)
    return after, {
        "cpu_s": registered_s + run_s,
        "tasks": len(artifact.shards),
        "rows": came,
        "files": files,
        "entry_bytes": sum(len(pretty(one.json())) for one in artifact.shards.values()),
    }


def listed_row_seconds(corpus: Corpus, version: Version) -> float:
    """Reading neighbors as packing does."""
    shards = corpus.artifact(version, "neighbors").shards
    files = refs.each(corpus.store, shards.values(), NEIGHBORS)
    seconds, targets = spent(lambda: examples.of_pool(files, tuple(shards)))
    return seconds / max(targets.num_rows, 1)


if __name__ == "__main__":
    num, shard_rows, last, out = sys.argv[1:]
    told = measured(int(num), int(shard_rows), last, Path(out))
    sys.stdout.write("\n" + json.dumps(told) + "\n")
