"""What steers a build, without the work: listing, keys, lookups and manifests of drawn shards.

The surprising rule: build.run is the real one, and the store counts in S3's questions; an engine draws each
shard's manifest, whose files are lent from one folder. Tables have no rows, since what a row costs the driver
is a rate of its own; a shard says that it had ROWS. ``codes`` and what follows list by members, so of them
only ``neighbors`` and ``pack`` have tasks here.
"""

from __future__ import annotations

import hashlib
import json
import resource
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from infra.artifact import Artifact, File, Made, publish_artifact, publish_shard
from infra.corpus import EMPTY, Corpus, Folded, Version
from infra.storage import Store
from infra.telemetry import Bar, Log
from pipeline import build, plan, reading, revisions, schema, tables
from pipeline import config as configs
from pipeline.config import Config
from pipeline.dedup import LINKS
from pipeline.deliveries import kept
from pipeline.deliveries.listing import LICENSES, MANIFEST
from pipeline.embed import EMBEDDINGS, FEATURES, PROJECTION
from pipeline.engine import Done
from pipeline.indexing import LISTS, MEMBERS, SEGMENT
from pipeline.neighbors import NEIGHBORS, REACH
from pipeline.outcomes import KEPT
from pipeline.records import RECORDS, REVISIONS
from pipeline.scores import SCORES
from pipeline.split import TRAIN
from pipeline.step import IMAGES, ROWS, Step, Task
from pipeline.tokens import BPE, CURVES, TOKENS, VQ
from tests.benchmarks import drawn_corpus
from tests.benchmarks.drawn_corpus import AS_OF, PROVIDER
from tests.counted import Counted

MOST_TARS = 68_000
"""Of a delivery: its ``delivery.json`` may have 12 MiB. 340,000 shards come in five deliveries at least."""
ROWS_EACH = 10_000
"""Images that a drawn shard says it had."""
TOGETHER = "shards/drawn"
"""The folder that lends every file; of those that listing reads, the bytes are there."""
READ: Mapping[str, bytes] = {
    REVISIONS: tables.to_parquet(revisions.REVISIONS.empty_table()),
    f"split {ROWS}": tables.to_parquet(
        pa.schema([*schema.INGESTED, schema.GROUP, schema.SPLIT]).empty_table()
    ),
}
"""By name, or by step and name."""
FILES: Mapping[str, tuple[str, ...]] = {
    "records": (RECORDS, REVISIONS),
    "images": (ROWS, IMAGES),
    "features": (FEATURES,),
    "scores": (SCORES,),
    "bpe": (BPE,),
    "vq": (VQ, CURVES),
    "tokenize": (TOKENS,),
    "align": (PROJECTION,),
    "embed": (EMBEDDINGS,),
    "lists": (LISTS,),
    "queries": (EMBEDDINGS,),
    "index": (SEGMENT, MEMBERS),
    "neighbors": (NEIGHBORS, REACH),
    "pack": ("train.arrow",),
}
"""Of a step's shard; catalog rows where it is not told."""
BY_MEMBERS = ("codes", "probes", "index")
"""Steps that list by members: in their place stands an index of one segment."""


@dataclass(frozen=True, slots=True)
class Manifests:
    """An engine that draws manifests. The real one is not asked for a byte of an image."""

    def run(self, step: Step, tasks: Sequence[Task], store: Store, _bar: Bar) -> Iterator[Done]:
        for task in tasks:
            shard = publish_shard(store, step.name, step.key(task), drawn(step.name, task))
            yield Done(slot=task.slot, shard=shard, began=0.0, seconds=0.0, node="here")

    def close(self) -> None:
        """Nothing is held."""


def drawn(step: str, task: Task) -> Made:
    names = list(FILES.get(step, (ROWS,)))
    rows = ROWS_EACH
    if step == "dedup":
        names = [LINKS, *(f"{slot}.parquet" for slot in task.facts["slots"])]
        rows = ROWS_EACH * len(task.facts["slots"])
    facts: dict[str, Any] = {"rows": rows}
    if step == "records":
        facts["licenses"] = [drawn_corpus.license_().license_id]
    if step == "pack":  # one group settles the targets of its pool
        is_first = task.facts["kind"] == TRAIN and not task.facts["group"]  # of its pool
        rows = ROWS_EACH * len(task.reads["neighbors"]) if is_first else 0
    fitted = step in {"bpe", "vq", "align", "lists"}
    return Made(
        files={},
        kept={name: lent(step, task.slot, name) for name in names},
        counts={} if fitted else {KEPT: rows},
        facts=facts,
    )


def lent(step: str, slot: str, name: str) -> File:
    """Another file a slot, so that keys differ, but where listing reads it."""
    data = READ.get(name) or READ.get(f"{step} {name}")
    where = f"{TOGETHER}/{step}" if data is not None else TOGETHER
    told = data if data is not None else f"{step} {slot} {name}".encode()
    return File(sha256=hashlib.sha256(told).hexdigest(), size=len(told), at=where)


def delivered(store: Store, shards: int) -> Version:
    """Deliveries of so many tars, folded in; nothing of them is there but what they say."""
    starts = range(0, shards, MOST_TARS)
    return replace(
        EMPTY,
        deliveries=tuple(
            folded(store, number, range(start, min(shards, start + MOST_TARS)))
            for number, start in enumerate(starts)
        ),
        as_of=AS_OF.isoformat(),
    )


def folded(store: Store, sequence: int, tars: range) -> Folded:
    license_ = (drawn_corpus.license_().model_dump_json(by_alias=True, exclude_unset=True) + "\n").encode()
    files = [
        {"path": f"shards/{number:06d}.tar", "sha256": digest(f"tar {number}"), "bytes": 1, "role": "shard"}
        for number in tars
    ]
    licenses = {
        "path": LICENSES,
        "sha256": hashlib.sha256(license_).hexdigest(),
        "bytes": len(license_),
        "role": "licenses",
    }
    said = {
        "schema": "delivery/1.0",
        "provider": PROVIDER,
        "delivery_id": f"drawn-{sequence}",
        "sequence": sequence,
        "kind": "delta" if sequence else "full",
        "form": "webdataset",
        "created_at": "2026-06-01T00:00:00Z",
        "files": [*files, licenses],
    }
    manifest = json.dumps(said).encode()
    name = hashlib.sha256(manifest).hexdigest()
    lines = b"".join(
        json.dumps({"files": [file], "rows": "", "addresses": 0, "signed": 0, "facts": {}}).encode() + b"\n"
        for file in files
    )
    here = kept.folder(name)
    store.write(f"{here}/{MANIFEST}", manifest)
    store.write(f"{here}/{LICENSES}", license_)
    store.write(f"{here}/{kept.BATCHES}", lines)
    return Folded(
        provider=PROVIDER,
        delivery_id=f"drawn-{sequence}",
        sequence=sequence,
        sha256=name,
        uri="s3://drawn/delivery",
        batches=hashlib.sha256(lines).hexdigest(),
    )


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Of a step, all of it the driver's."""

    tasks: int
    questions: int
    """To the store, less those by which workers would publish."""
    read_bytes: int
    manifest_bytes: int
    cpu_s: float


def steered(shards: int, config: Config) -> dict[str, Cost]:
    """A whole build, of as many shards."""
    store = Counted("drawn")
    for name, data in READ.items():
        for step in ("records", "split"):
            store.objects[f"{TOGETHER}/{step}/{name.rpartition(' ')[2]}"] = data
    corpus, version, found = Corpus(store), delivered(store, shards), dict[str, Cost]()
    steps = [*plan.ingest_steps(config, AS_OF), *plan.build_steps(config)]
    for step in steps:
        if step.name in BY_MEMBERS:
            if step.name == "index":
                version = with_index(corpus, version, step)
            continue
        before, moved = store.asked.copy(), store.moved.copy()
        began = time.process_time()
        version = build.run(corpus, version, [step], Manifests(), Log())
        spent = time.process_time() - began
        asked = store.asked - before
        tasks = len(corpus.artifact(version, step.name).shards)
        key = {**version.artifacts, **version.models}[step.name]
        found[step.name] = Cost(
            tasks=tasks,
            questions=sum(asked.values()) - tasks,
            read_bytes=(store.moved - moved)["get"],
            manifest_bytes=len(store.objects[f"artifacts/{step.name}/{key}.json"]),
            cpu_s=spent,
        )
        # Shards stand in the artifact now; 340,000 of each step would not fit beside each other.
        store.delete([name for name in store.objects if name.startswith(f"shards/{step.name}/")])
    return found


def with_index(corpus: Corpus, version: Version, step: Step) -> Version:
    task = Task(slot="00000", reads={})
    shard = publish_shard(corpus.store, step.name, "drawn", drawn(step.name, task))
    artifact = Artifact(
        step=step.name, key="drawn", settings=build.settings(step), inputs={}, shards={"00000": shard}
    )
    publish_artifact(corpus.store, artifact)
    return build.listing(version, step, artifact)


def exponent(sizes: Sequence[int], costs: Sequence[float]) -> float:
    """Of the power by which the cost grows: 1 is linear."""
    return float(np.polyfit(np.log(sizes), np.log(np.maximum(costs, 1e-9)), 1)[0])


def grown(sizes: Sequence[int]) -> dict[str, Any]:
    """Costs of each step at each size, and by which power they grow."""
    settings = settings_of_a_node()
    found = {num: steered(num, settings) for num in sizes}
    largest = found[sizes[-1]]
    return {
        "shards": list(sizes),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10,
        "steps": {
            step: {
                **asdict(largest[step]),
                "manifest_exponent": exponent(sizes, [found[num][step].manifest_bytes for num in sizes]),
                "questions_exponent": exponent(sizes, [max(1, found[num][step].questions) for num in sizes]),
                "cpu_exponent": exponent(sizes, [found[num][step].cpu_s for num in sizes]),
            }
            for step in largest
        },
    }


def settings_of_a_node() -> Config:
    return configs.load(reading.CONFIGS / "node.toml")


if __name__ == "__main__":
    sys.stdout.write(json.dumps(grown(tuple(map(int, sys.argv[1:]))), indent=1) + "\n")
