"""A corpus of any size whose pictures, features and tokens are drawn by lot, and all else is the real thing.

The surprising rule: an engine draws. The plan lists its tasks, keys and artifacts as ever; of the steps that
decode or encode, the shards are made here, and every other step does its own work on them.

Legend: N assets of a shard, D embedding.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from infra.artifact import Made
from infra.corpus import Corpus, Version
from infra.storage import Store
from infra.telemetry import Bar, Log
from pipeline import (
    archive,
    build,
    contract,
    folding,
    indexing,
    outcomes,
    plan,
    revisions,
    rows,
    schema,
    tables,
    tokenized,
)
from pipeline.config import Config
from pipeline.contract import Asset, License
from pipeline.deliveries.writer import Heading, write_delivery
from pipeline.embed import EMBEDDINGS, FEATURES
from pipeline.engine import Done, Inline, make
from pipeline.outcomes import KEPT
from pipeline.records import RECORDS, REVISIONS
from pipeline.step import IMAGES, ROWS, Step, Task, nothing_told
from pipeline.tokenized import Tokenizers
from pipeline.tokens import CURVES, TOKENS, VQ

AS_OF = datetime(2026, 6, 1, tzinfo=UTC)
PROVIDER = "acme"
SHARD = 1000
"""Assets of a shard."""
WIDTH = 512
CLUSTERS = 1000
OWN, SIDE = 0.6, 0.3
"""Of an asset, and of its picture or its caption, beside what its cluster has in common: members of a cluster
have a cosine of 0.7, the two sides of an asset 0.94."""
CODES = 256
JPEG_BYTES = 12_288
"""Never decoded; about what a training picture of 256 px takes."""
WORDS = ("red", "old", "small", "round", "open", "cat", "house", "tree", "boat", "cup", "street", "sky")


def rng(*about: object) -> np.random.Generator:
    return np.random.default_rng(int.from_bytes(hashlib.sha256(repr(about).encode()).digest()[:8]))


def uid(number: int) -> str:
    return f"{PROVIDER}:a{number:07d}"


def caption(number: int) -> str:
    return f"{' '.join(rng('caption', number).choice(WORDS, 6))} {number}"


def asset(number: int) -> Asset:
    record = {
        **contract.template()["asset"],
        "provider": PROVIDER,
        "asset_id": uid(number).partition(":")[2],
        "description": caption(number),
        "keywords": ["drawn"],
        "is_editorial": False,
        "is_adult": False,
        "has_people": "no",
        "contributor": {"id": f"c{number % 997}"},
        "releases": {"model": "not_applicable", "property": "not_applicable"},
        "license_ids": [license_().license_id],
        "file": {
            "sha256": hashlib.sha256(uid(number).encode()).hexdigest(),
            "bytes": JPEG_BYTES,
            "mime": "image/jpeg",
            "width": 256,
            "height": 256,
        },
    }
    record.pop("delivery_id", None)
    return Asset.model_validate(record)


def license_() -> License:
    uses = ("ml_training", "generation", "retrieval_index", "retrieval_display", "derived_captions")
    record = {
        **contract.template()["license"],
        "uses": dict.fromkeys(uses, "allow"),
        "valid_from": "2020-01-01T00:00:00Z",
        "valid_until": None,
        "territory": {"mode": "worldwide"},
        "editorial_only": False,
    }
    record.pop("models", None)
    return License.model_validate(record)


def vectors(name: str, numbers: Sequence[int]) -> NDArray[np.float32]:
    """[N, D] of unit length: of an asset both sides lie near the same center."""
    centers_CD = rng("centers").standard_normal((CLUSTERS, WIDTH), np.float32)
    own_ND = rng("own", numbers[0]).standard_normal((len(numbers), WIDTH), np.float32)
    side_ND = rng(name, numbers[0]).standard_normal((len(numbers), WIDTH), np.float32)
    found_ND = centers_CD[np.asarray(numbers) % CLUSTERS] + OWN * own_ND + SIDE * side_ND
    return np.asarray(found_ND / np.linalg.norm(found_ND, axis=1, keepdims=True), np.float32)


def numbers_of(table: pa.Table) -> list[int]:
    return [int(name.partition(":a")[2]) for name in table["uid"].to_pylist()]


def records(task: Task) -> Made:
    first = int(task.slot.partition("-")[2]) * SHARD
    assets = [asset(number) for number in range(first, first + SHARD)]
    said = [
        {"uid": one.uid, "record": one.model_dump_json(by_alias=True), "fault": None, "extracted": None}
        for one in assets
    ]
    seen = [revisions.of(one.uid, one, one.file.sha256) for one in assets]
    files = {
        RECORDS: tables.to_parquet(tables.of_rows(said, schema.RECORDS)),
        REVISIONS: tables.to_parquet(tables.of_rows(seen, revisions.REVISIONS)),
    }
    facts = {"rows": len(assets), "licenses": [license_().license_id]}
    return Made(files=files, counts={KEPT: len(assets)}, facts=facts)


def images(task: Task) -> Made:
    table = tables.read_parquet(task.only("rows"))
    for column in schema.SEEN:
        table = table.append_column(column, pa.array([50.0] * table.num_rows, column.type))
    noise = rng("jpeg", task.slot).bytes(JPEG_BYTES * 2)
    members = (
        (row["key"], noise[i % JPEG_BYTES :][:JPEG_BYTES], {"uid": row["uid"]}, row["description"])
        for i, row in enumerate(table.select(["key", "uid", "description"]).to_pylist())
    )
    files = {ROWS: tables.to_parquet(table), IMAGES: archive.write(members)}
    return Made(files=files, counts=outcomes.counts(table, "images"))


def features(task: Task) -> Made:
    table = rows.kept(task.only("rows")).select(["uid", "revision"])
    numbers, lot = numbers_of(table), rng("looks", task.slot)
    for name, column in (("image", schema.IMAGE_FEATURES), ("text", schema.TEXT_FEATURES)):
        table = table.append_column(column, tables.list_column(vectors(name, numbers)))
    num = len(numbers)
    looks = {
        schema.PHASH: lot.integers(0, 2**63, num, np.uint64),
        schema.PHASH_MIRRORED: lot.integers(0, 2**63, num, np.uint64),
        schema.STRUCTURE: [lot.bytes(768) for _ in range(num)],
        schema.TINT: [lot.bytes(768) for _ in range(num)],
        schema.COLOR: ["red"] * num,
    }
    for column, values in looks.items():
        table = table.append_column(column, pa.array(values, column.type))
    return Made(files={FEATURES: tables.to_ipc(table)}, counts={KEPT: num})


def queries(task: Task) -> Made:
    table = rows.kept(task.only("rows")).select(["uid", "revision"])
    numbers = numbers_of(table)
    for name, column in (("image", schema.IMAGE_VECTOR), ("text", schema.TEXT_VECTOR)):
        near_ND = vectors(name, numbers) + 0.02 * vectors(f"{name} asked", numbers)
        near_ND /= np.linalg.norm(near_ND, axis=1, keepdims=True)
        table = table.append_column(column, tables.list_column(near_ND.astype(np.float16)))
    return Made(files={EMBEDDINGS: tables.to_ipc(table)}, counts={KEPT: len(numbers)})


def codes(task: Task) -> Made:
    table = rows.kept(task.only("rows")).select(["uid", "revision"])
    lot, num = rng("codes", task.slot), table.num_rows
    made_by = Tokenizers(text=task.only("bpe").sha256, image=task.only("vq").sha256)
    texts = [
        [{"kind": "description", "origin": "contributor", "ids": lot.integers(0, 256, 24).tolist()}]
        for _ in range(num)
    ]
    table = table.append_column(
        schema.CODES, tables.list_column(lot.integers(0, 8192, (num, CODES), np.uint16))
    )
    table = table.append_column(schema.TEXTS, pa.array(texts, schema.TEXTS.type))
    return Made(files={TOKENS: tables.to_ipc(tokenized.signed(table, made_by))}, counts={KEPT: num})


def image_tokenizer(_task: Task) -> Made:
    return Made(files={VQ: b"drawn", CURVES: json.dumps({}).encode()})


DRAWN: Mapping[str, Callable[[Task], Made]] = {
    "records": records,
    "images": images,
    "features": features,
    "queries": queries,
    "tokenize": codes,
    "vq": image_tokenizer,
}


@dataclass(frozen=True, slots=True)
class Drawing:
    """An engine that draws what it is not to make."""

    def run(self, step: Step, tasks: Sequence[Task], store: Store, bar: Bar) -> Iterator[Done]:
        draw = None if step.erasing else DRAWN.get(step.name)
        if draw is None:
            yield from Inline().run(step, tasks, store, bar)
            return
        for task in tasks:
            yield make(step, lambda one, _report: draw(one), task, store, nothing_told)

    def close(self) -> None:
        """Nothing is held."""


def delivered(store: Store, num: int) -> str:
    """A delivery whose tars hold a sample each, where records will have a thousand."""
    heading = Heading(provider=PROVIDER, delivery_id="drawn", sequence=0, kind="full", created_at=AS_OF)
    samples = [(asset(first), b"\xff\xd8\xff") for first in range(0, num, SHARD)]
    write_delivery(store, heading, licenses=[license_()], samples=samples, shard_samples=1)
    manifest = json.loads(store.read("delivery.json"))
    manifest.pop("counts", None)
    for file in manifest["files"]:
        file.pop("samples", None)
    store.write("delivery.json", json.dumps(manifest).encode())
    return store.uri


def built(
    corpus: Corpus, uri: str, config: Config, engine: Drawing, told: Callable[[str, Version], None]
) -> Version:
    """Every step; ``told`` after each."""
    log = Log()
    with corpus.writing(purpose="benchmark") as lease:
        head = corpus.head()
        version = replace(folding.fold(corpus, head, [uri]), as_of=AS_OF.isoformat())
        steps = [*plan.ingest_steps(config, AS_OF), *plan.build_steps(config)]
        for step in steps:
            if step.name == "codes":
                version = indexing.register(corpus, version)
            version = build.run(corpus, version, [step], engine, log)
            told(step.name, version)
        return corpus.publish(lease, head, version)
