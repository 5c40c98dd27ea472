"""A corpus of many members, put together without a build: rows, records, vectors and tars as steps leave.

Vectors are drawn in clusters, and pictures are one small JPEG: what is measured is how a service copes with
so many. Licences differ, so that a token sees two of three members.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from infra.artifact import Artifact, Made, publish_artifact, publish_shard
from infra.corpus import Corpus, Version
from infra.storage import Store
from pipeline import archive, folding, indexing, neighbors, records, revisions, schema, tables
from pipeline.contract import Asset, License, template
from pipeline.embed import PROJECTION, EncoderConfig
from pipeline.rights import Purpose
from pipeline.searching.members import OF_CATALOG
from pipeline.step import IMAGES, ROWS, slot_name
from retrieval import align, building, segments
from retrieval.layouts import IndexConfig
from tests.laws.conftest import Deliveries, license_, sample

SLOT_ROWS = 1000
WIDTH, CLUSTERS = 384, 500
USES = dict.fromkeys(("ml_training", "generation", "retrieval_index", "retrieval_display"), "allow")
LICENSES: Mapping[str, License] = {
    "world": license_(license_id="world", uses=USES),
    "france": license_(license_id="france", uses=USES, territory={"mode": "only", "countries": ["FR"]}),
    "sold": license_(license_id="sold", uses={**USES, "commercial": "allow"}),
}
AS_OF = "2026-06-01T00:00:00+00:00"


def corpus(folder: Path, num: int) -> Corpus:
    """Made once in ``folder``."""
    made = Corpus(Store.at(folder / f"assembled-{num}"))
    if not made.numbers():
        first = sample(0, license_ids=["world"])
        uri = Deliveries(folder / "delivery").write([first], LICENSES)
        with made.writing(purpose="bench") as lease:
            head = made.head()
            version = replace(folding.fold(made, head, [uri]), as_of=AS_OF)
            made.publish(lease, head, artifacts(made.store, version, num))
    return made


def slot_of(number: int) -> str:
    return slot_name(0, number // SLOT_ROWS)


def artifacts(store: Store, version: Version, num: int) -> Version:
    slots = {slot_of(at): range(at, min(num, at + SLOT_ROWS)) for at in range(0, num, SLOT_ROWS)}
    made: Mapping[str, Callable[[range], dict[str, bytes]]] = {
        "records": recorded,
        "split": lambda numbers: {ROWS: tables.to_parquet(rows(numbers))},
        "images": lambda numbers: {IMAGES: archive.write(pictures(numbers))},
        "neighbors": lambda numbers: {neighbors.NEIGHBORS: tables.to_parquet(chosen(numbers, num))},
    }
    keys = {
        name: shards(store, name, ((slot, of(numbers)) for slot, numbers in slots.items()))
        for name, of in made.items()
    }
    keys["index"] = shards(store, "index", [("00000", indexed(num))])
    keys["align"] = shards(store, "align", [("all", {PROJECTION: projection().to_bytes()})])
    for name, settings in (("features", EncoderConfig()), ("decide", Purpose(territory=("DE",)))):
        keys[name] = shards(store, name, [], settings.model_dump(mode="json"))
    models = {"align": keys.pop("align")}
    return replace(version, artifacts=keys, models=models)


def shards(
    store: Store,
    step: str,
    files: Iterator[tuple[str, dict[str, bytes]]] | Sequence[tuple[str, dict[str, bytes]]],
    settings: Mapping[str, Any] | None = None,
) -> str:
    """The key of an artifact of them."""
    found = {slot: publish_shard(store, step, slot, Made(files=made)) for slot, made in files}
    publish_artifact(
        store, Artifact(step=step, key="assembled", settings=settings or {}, inputs={}, shards=found)
    )
    return "assembled"


def asset(number: int) -> Asset:
    """Valid, and unlike the others in what is filtered by."""
    example = template()["asset"]
    return Asset.model_validate(
        {
            **example,
            "asset_id": f"a{number:07d}",
            "description": f"picture {number} of a {COLORS[number % 7]} {THINGS[number % 11]}",
            "categories": [{"name": f"k{number % 40}"}],
            "contributor": {"id": f"c{number % 5000}"},
            "delivery_id": "d0",
            "license_ids": [[*LICENSES][number % 3]],
            "date_created": f"20{10 + number % 15}-{1 + number % 12:02d}-01T00:00:00Z",
            "file": {**example["file"], "sha256": hashlib.sha256(str(number).encode()).hexdigest()},
        }
    )


COLORS = ("red", "green", "blue", "yellow", "white", "black", "orange")
THINGS = ("bicycle", "house", "tree", "dog", "cat", "boat", "car", "flower", "mountain", "bridge", "apple")


def recorded(numbers: range) -> dict[str, bytes]:
    assets = [asset(number) for number in numbers]
    table = [
        {"uid": one.uid, "record": one.model_dump_json(by_alias=True), "fault": None, "extracted": None}
        for one in assets
    ]
    came = [revisions.of(one.uid, one, one.file.sha256) for one in assets]
    return {
        records.RECORDS: tables.to_parquet(pa.Table.from_pylist(table, schema=schema.RECORDS)),
        records.REVISIONS: tables.to_parquet(pa.Table.from_pylist(came, schema=revisions.REVISIONS)),
    }


def rows(numbers: range) -> pa.Table:
    kind = pa.schema([*OF_CATALOG, schema.OUTCOME])
    found = []
    for number in numbers:
        one = asset(number)
        told = {
            "uid": one.uid,
            "revision": 0,
            "key": one.member_key,
            "sha256": one.file.sha256,
            "description": one.description,
            "keywords": list(one.keywords),
            "categories": [category.name for category in one.categories],
            "contributor": one.contributor.id,
            "width": 300 + number % 300,
            "height": 400,
            "image_type": one.image_type,
            "ai_generated": "no",
            "licenses": list(one.license_ids),
            "attribution": "",
            "may_be_shown": True,
            "reasons": [],
            "group": one.uid,
            "split": "train",
            "outcome": "kept",
        }
        found.append(told)
    return pa.Table.from_pylist(found, schema=kind)


def pictures(numbers: range) -> Iterator[tuple[str, bytes, dict[str, object], str]]:
    sink = io.BytesIO()
    Image.new("RGB", (400, 300), (90, 120, 200)).save(sink, "JPEG", quality=30)
    for number in numbers:
        yield f"acme_a{number:07d}", sink.getvalue(), {}, ""


def chosen(numbers: range, num: int) -> pa.Table:
    found = [
        {
            "uid": f"acme:a{number:07d}",
            "revision": 0,
            "split": "train",
            "candidates": [
                {
                    "uid": f"acme:a{(number + by) % num:07d}",
                    "revision": 0,
                    "slot": slot_of((number + by) % num),
                    "score": 0.5,
                    "via": "image",
                }
                for by in range(1, 9)
            ],
        }
        for number in numbers
    ]
    return pa.Table.from_pylist(found, schema=schema.NEIGHBORS)


def vectors(num: int) -> segments.Floats:
    """[N, 384] of unit length."""
    rng = np.random.default_rng(0)
    centers_CD = rng.normal(size=(CLUSTERS, WIDTH)).astype(np.float32)
    found_ND = centers_CD[rng.integers(0, CLUSTERS, num)]
    found_ND += 0.7 * rng.normal(size=(num, WIDTH)).astype(np.float32)
    found_ND /= np.linalg.norm(found_ND, axis=1, keepdims=True)
    return found_ND


def indexed(num: int) -> dict[str, bytes]:
    members = {
        "id": np.arange(num),
        "uid": [f"acme:a{number:07d}" for number in range(num)],
        "revision": np.zeros(num, np.int32),
        "slot": [slot_of(number) for number in range(num)],
        "group_number": np.arange(num),
        "split": ["train"] * num,
        "contributor_number": np.arange(num) % 5000,
        "may_be_neighbor": np.ones(num, np.bool_),
        "may_be_shown": np.ones(num, np.bool_),
    }
    return {
        indexing.SEGMENT: building.build(np.arange(num), vectors(num), IndexConfig()),
        indexing.MEMBERS: tables.to_ipc(tables.typed(members, schema.MEMBERS)),
    }


def projection() -> align.Projection:
    """Texts as they are, and pictures by what ConSE says of them: the last 384 of the offline encoder's."""
    backbone = 1280
    weight = np.concatenate([np.zeros((backbone, WIDTH)), np.eye(WIDTH)]).astype(np.float32)
    zeros, ones = np.zeros(backbone + WIDTH, np.float32), np.ones(backbone + WIDTH, np.float32)
    return align.Projection(mean=zeros, scale=ones, weight=weight, center=np.zeros(WIDTH, np.float32))
