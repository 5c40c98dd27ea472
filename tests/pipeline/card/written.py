"""A corpus of captions with known counts: really delivered, read and decided; what later steps said is made.

Two deliveries, each of which made a version. One picture serves all, for nothing here looks at it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from infra.artifact import Artifact, Made, Shard, fingerprint, publish_artifact, publish_shard
from infra.corpus import Corpus, Version
from infra.storage import Store
from infra.telemetry import Log
from pipeline import build, deciding, folding, outcomes, records, refs, schema, tables
from pipeline.contract import Asset, License
from pipeline.engine import Inline
from pipeline.grants import Purpose
from pipeline.neighbors import NEIGHBORS
from pipeline.step import ROWS
from tests.laws.conftest import AS_OF, Deliveries, license_, sample

PURPOSE = Purpose(territory=("NL", "DE"))
LICENSES: Mapping[str, License] = {
    one.license_id: one
    for one in (
        license_(license_id="open", tier="data"),
        license_(
            license_id="ends-soon",
            tier="standard",
            valid_until="2026-07-15T00:00:00Z",
            after_term="delete_data_keep_models",
        ),
        license_(
            license_id="ends-later",
            tier="premier",
            valid_until="2027-03-31T00:00:00Z",
            after_term="perpetual",
            territory={"mode": "only", "countries": ["NL", "DE", "BE"]},
        ),
        license_(license_id="pictures", covers=["image"], valid_until="2028-01-01T00:00:00Z"),
        license_(license_id="words", kind="spdx", expression="CC-BY-4.0", covers=["text"]),
        license_(license_id="drawn", kind="spdx", expression="CC-BY-SA-4.0", covers=["image"]),
    )
}
NAMED = (
    ("a woman working as a nurse", 60),
    ("a man working as a nurse", 20),
    ("a woman, the CEO of a firm", 20),
    ("a man, the CEO of a firm", 60),
    ("a woman walking in the city", 70),
    ("a man walking in the city", 70),
    ("an old man with a dog", 24),
    ("a red bowl on a white table", 70),
    ("a pistol in a museum, call 020 7946 0958", 12),
    ("a muslim bride", 4),
)
"""Captions and how many there are, over both deliveries."""
BLURRED, DUPLICATE = "rejected:blurred", "rejected:near_duplicate: of another"


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    corpus: Corpus
    versions: tuple[Version, ...]


def described(number: int, caption: str, *, picture: bytes, asset: Asset) -> tuple[Asset, bytes]:
    """An asset whose facts follow from its number."""
    lang, origin = (("en", "contributor"), ("de", "translated"), ("en", "model"))[number % 3]
    people = "no" if "bowl" in caption or "pistol" in caption else "yes"
    model = "not_applicable" if people == "no" else "none" if number % 11 == 0 else "unlimited"
    image = "drawn" if number % 8 == 3 else "pictures"
    licences = (["open"], ["ends-soon"], ["ends-later"], [image, "words"])[number % 4]
    told = {
        **asset.model_dump(mode="json", by_alias=True),
        "asset_id": f"a{number:05d}",
        "description": f"{caption}, number {number}",
        "keywords": ["adult", "portrait"] if number % 5 == 0 else ["thing"],
        "descriptions": [{"lang": lang, "text": f"{caption}, number {number}", "origin": origin}]
        if number % 2
        else [],
        "has_people": people,
        "has_minors": "yes" if number % 101 == 7 else ("no", "unknown")[number % 2],
        "is_adult": number % 101 == 8,
        "releases": {"model": model, "property": "not_applicable"},
        "contributor": {"id": f"c{int(number**0.5)}", "country": ("NL", "US", "IN")[number % 3]},
        "location": {"country": "FR"} if number % 7 == 0 else {},
        "license_ids": licences,
    }
    told.pop("delivery_id", None)
    return Asset.model_validate(told), picture


def captions() -> Iterator[str]:
    left = Counter(dict(NAMED))
    while left:
        for caption, _ in NAMED:
            if left[caption]:
                left[caption] -= 1
                yield caption
        left = +left


def write(folder: Path) -> Written:
    """Version 1 holds the first half, version 2 all."""
    asset, picture = sample(0)
    asset = asset.model_copy(update={"file": asset.file})
    samples = [
        described(number, caption, picture=picture, asset=asset) for number, caption in enumerate(captions())
    ]
    deliveries, corpus = Deliveries(folder), Corpus(Store.at(folder / "corpus"))
    half = len(samples) // 2
    uris = [deliveries.write(part, LICENSES, shard_samples=64) for part in (samples[:half], samples[half:])]
    versions = tuple(published(corpus, [uri]) for uri in uris)
    return Written(corpus=corpus, versions=versions)


def published(corpus: Corpus, uris: list[str]) -> Version:
    with corpus.writing(purpose="test") as lease:
        head = corpus.head()
        version = replace(folding.fold(corpus, head, uris), as_of=AS_OF.isoformat())
        steps = (records.step(), deciding.step(PURPOSE, AS_OF))
        version = build.run(corpus, version, steps, Inline(), Log())
        decided = corpus.artifact(version, "decide").shards
        rows = {
            slot: tables.read_parquet(refs.of(corpus.store, shard, ROWS)) for slot, shard in decided.items()
        }
        for step, verdict in (("images", None), ("filter", BLURRED), ("dedup", DUPLICATE)):
            rows = {slot: judged(table, step, verdict) for slot, table in rows.items()}
            files = {slot: {ROWS: tables.to_parquet(table)} for slot, table in rows.items()}
            version = listed(corpus, version, step, files, rows)
        rows = {slot: split(table) for slot, table in rows.items()}
        files = {slot: {ROWS: tables.to_parquet(table)} for slot, table in rows.items()}
        version = listed(corpus, version, "split", files, rows)
        near = {slot: {NEIGHBORS: tables.to_parquet(neighbors(table))} for slot, table in rows.items()}
        version = listed(corpus, version, "neighbors", near, rows)
        return corpus.publish(lease, head, version)


def judged(rows: pa.Table, step: str, verdict: str | None) -> pa.Table:
    """Blurred is every 9th; of the others each 3rd is a duplicate if it names a woman."""
    kept = outcomes.kept(rows)
    numbers = [int(uid.rpartition("a")[2]) for uid in kept[schema.UID.name].to_pylist()]
    texts = kept[schema.DESCRIPTION.name].to_pylist()
    hit = [
        number % 9 == 0 if verdict == BLURRED else "woman" in text and number % 3 == 0
        for number, text in zip(numbers, texts, strict=True)
    ]
    return outcomes.settle(rows, [verdict if one else None for one in hit], step)


def split(rows: pa.Table) -> pa.Table:
    uids = rows[schema.UID.name].to_pylist()
    sides = ["validation" if int(uid.rpartition("a")[2]) % 10 == 1 else "train" for uid in uids]
    rows = rows.append_column(schema.GROUP, pa.array(uids, schema.GROUP.type))
    return rows.append_column(schema.SPLIT, pa.array(sides, schema.SPLIT.type))


def neighbors(rows: pa.Table) -> pa.Table:
    """Each of the kept cites the first of its shard, and the next one."""
    kept = outcomes.kept(rows)
    uids = kept[schema.UID.name].to_pylist()
    cited = [{uids[0], uids[(place + 1) % len(uids)]} - {uid} for place, uid in enumerate(uids)]
    found = [
        [
            {"uid": uid, "revision": 0, "slot": "00000-000000", "score": 0.5, "via": "image"}
            for uid in sorted(one)
        ]
        for one in cited
    ]
    columns = {name: kept[name].to_pylist() for name in ("uid", "revision", "split")}
    return pa.table({**columns, "candidates": found}, schema=schema.NEIGHBORS)


def listed(
    corpus: Corpus,
    version: Version,
    step: str,
    files: Mapping[str, Mapping[str, bytes]],
    rows: Mapping[str, pa.Table],
) -> Version:
    shards: dict[str, Shard] = {}
    for slot, made in files.items():
        counts: dict[str, int] = outcomes.counts(rows[slot], step)
        key = fingerprint(step, slot, [len(data) for data in made.values()])
        shards[slot] = publish_shard(corpus.store, step, key, Made(files=made, counts=counts))
    facts: dict[str, Any] = {slot: shard.key for slot, shard in shards.items()}
    artifact = Artifact(step=step, key=fingerprint(step, facts), settings={}, inputs={}, shards=shards)
    publish_artifact(corpus.store, artifact)
    return replace(version, artifacts={**version.artifacts, step: artifact.key})
