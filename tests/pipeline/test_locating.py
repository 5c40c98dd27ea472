"""Where an asset is, in a corpus made by hand: what was fetched, what is kept of deliveries, two versions."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import pyarrow as pa
import pytest

from infra.artifact import Artifact, Made, publish_artifact, publish_shard
from infra.corpus import EMPTY, Corpus, Folded, Version
from infra.storage import Store
from pipeline import tables
from pipeline.archive import write
from pipeline.deliveries import fetched, kept
from pipeline.deliveries.batch import Batch
from pipeline.finding import in_text
from pipeline.locating import AMONG, Location, locations

UID = "acme:b"
FILES = [
    {"path": f"images/{name}.png", "sha256": "0" * 64, "bytes": 1, "role": "image"} for name in ("b", "bb")
]
ROWS = [{"key": key, "image": ""} for key in ("a", "b", "c")]


def step(corpus: Corpus, version: Version, name: str, slots: dict[str, dict[str, bytes]]) -> Version:
    made = {
        slot: publish_shard(corpus.store, name, f"{slot}-{version.number}", Made(files=files))
        for slot, files in slots.items()
    }
    key = f"{name}-{version.number}"
    publish_artifact(corpus.store, Artifact(step=name, key=key, settings={}, inputs={}, shards=made))
    return replace(version, artifacts={**version.artifacts, name: key})


def delivered(corpus: Corpus) -> Folded:
    """One delivery of one batch, of three rows, whose images were looked for at addresses."""
    manifest = json.dumps({"provider": "acme", "files": FILES}).encode()
    sha256 = hashlib.sha256(manifest).hexdigest()
    rows = b"".join(json.dumps(row).encode() + b"\n" for row in ROWS)
    corpus.store.write(f"{kept.folder(sha256)}/delivery.json", manifest)
    corpus.store.write(kept.row_file(kept.folder(sha256), hashlib.sha256(rows).hexdigest()), rows)
    told = {"files": FILES, "rows": hashlib.sha256(rows).hexdigest()}
    told |= {"addresses": 3, "signed": 0, "facts": {}}
    line = json.dumps(told).encode() + b"\n"
    corpus.store.write(f"{kept.folder(sha256)}/{kept.BATCHES}", line)
    return Folded(
        provider="acme",
        delivery_id="d0",
        sequence=0,
        sha256=sha256,
        uri="/deliveries/0",
        batches=hashlib.sha256(line).hexdigest(),
    )


def rows_of(*uids: str, name: str = "records") -> dict[str, bytes]:
    return {f"{name}.parquet": tables.to_parquet(pa.table({"uid": list(uids)}))}


def made(store: Store) -> Corpus:
    """Two versions: the second has a shard without the asset in place of one with it."""
    corpus = Corpus(store)
    tar = write([(f"acme_{key}", b"jpeg", {}, "words") for key in ("a", "b", "bb")])
    with corpus.writing(purpose="test") as lease:
        version = replace(EMPTY, deliveries=(delivered(corpus),))
        answers = fetched.files({1: b"image of b", 2: b"image of c"}, {})
        version = step(corpus, version, "fetch", {"00000-000000.00000": answers})
        version = step(corpus, version, "records", {"00000-000000": rows_of("acme:a", UID)})
        images = {**rows_of("acme:a", UID, "acme:bb", name="rows"), "images.tar": tar}
        version = step(corpus, version, "images", {"00000-000000": images})
        vectors = pa.table({"uid": ["acme:c", UID], "image_vector": [[1.0], [2.0]]})
        embedded = {"embeddings.arrow": tables.to_ipc(vectors)}
        version = step(corpus, version, "embed", {"00000-000000": embedded})
        first = corpus.publish(lease, EMPTY, version)
        later = step(corpus, first, "records", {"00000-000000": rows_of("acme:a")})
        corpus.publish(lease, first, later)
    return corpus


def told(found: list[Location]) -> dict[tuple[str, str], tuple[tuple[int | str, ...], tuple[int, ...]]]:
    """By the last part of the path, and as what: where, and in which versions."""
    return {(one.path.rpartition("/")[2], one.what): (one.at, one.versions) for one in found}


def test_everything_of_an_asset_is_found_in_both_kinds_of_store(store: Store) -> None:
    corpus = made(store)
    found = told([*locations(corpus, UID)])
    rows = next(name for name, what in found if what == "rows")
    assert found == {
        ("fetched.tar", "members"): (("000001.image",), (1, 2)),
        ("records.parquet", "uid"): ((1,), (1,)),
        ("rows.parquet", "uid"): ((1,), (1, 2)),
        ("images.tar", "members"): (("acme_b.jpg", "acme_b.json", "acme_b.txt"), (1, 2)),
        ("embeddings.arrow", "uid"): ((1,), (1, 2)),
        ("delivery.json", "files"): (("images/b.png",), (1, 2)),
        (rows, "rows"): ((1,), (1, 2)),
        ("b.png", AMONG): ((), (1, 2)),
        ("bb.png", AMONG): ((), (1, 2)),
    }
    other = told([*locations(corpus, "acme:a")])
    assert other["records.parquet", "uid"] == ((0,), (1,)) or other["records.parquet", "uid"] == ((0,), (2,))
    assert ("fetched.tar", "members") not in other
    assert [*locations(corpus, "other:b")] == []


def test_a_list_of_batches_that_was_erased_hides_nothing_else(store: Store) -> None:
    corpus = made(store)
    names = [name for name in corpus.store.names("deliveries/") if name.endswith(kept.BATCHES)]
    corpus.store.delete(names)
    found = told([*locations(corpus, UID)])
    assert ("records.parquet", "uid") in found
    assert ("delivery.json", "files") in found
    assert not [name for name, what in found if what in ("rows", AMONG)]


@pytest.mark.parametrize(
    ("text", "places"),
    [
        (b"acme:b", [0]),
        (b'["acme:b#0", "acme:b"]', [2, 14]),
        (b"acme:bb acme:b-1 acme:b_ xacme:b -acme:b", []),
        (b"acme:b.jpg: acme:b: lost, uid:acme:b", [0, 12, 30]),
        (b"acme:b. acme:b, <acme:b>", [0, 8, 17]),
        ("über\\u00fc:b".encode(), []),
    ],
)
def test_a_text_names_an_asset_as_a_word_of_its_own(text: bytes, places: list[int]) -> None:
    assert in_text(text, [UID]) == places


def test_a_uid_is_found_as_json_writes_it() -> None:
    uid = "acme:zoë"
    assert in_text(json.dumps([uid]).encode(), [uid]) == [2]
    assert in_text(json.dumps([uid], ensure_ascii=False).encode(), [uid]) == [2]


def test_batches_are_kept_as_this_test_writes_them(tmp_path: object) -> None:
    """A guard of the corpus above: a batch of the pipeline's own has these fields."""
    batch = Batch(files=(), rows=b"", addresses=0, facts={})
    listed = kept.listed(Store.at(str(tmp_path)), "deliveries/x", batch)
    assert listed.keys() == {"files", "rows", "addresses", "signed", "facts"}
