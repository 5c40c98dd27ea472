"""The door: what a delivery may claim, which deliveries follow one another, and what the corpus keeps."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from infra.artifact import Corrupt
from infra.corpus import EMPTY, Corpus, Version
from infra.guarded.refused import Refused
from infra.storage import Store
from pipeline import contract, folding
from pipeline.deliveries import kept as keeping
from pipeline.deliveries.opened import open_delivery, peek_delivery


def lines(kind: str, *changes: dict[str, Any]) -> bytes:
    """A file of records like the contract's example."""
    example = contract.template()[kind]
    return b"".join(json.dumps({**example, **change}).encode() + b"\n" for change in changes)


def delivered(
    folder: Path, *, licenses: bytes | None = None, revocations: bytes | None = None, **changes: Any
) -> Store:
    """A delivery of records alone, listed truly."""
    files = {"licenses.jsonl": lines("license", {}) if licenses is None else licenses}
    files |= {} if revocations is None else {"revocations.jsonl": revocations}
    store = Store.at(folder)
    listed = []
    for path, data in files.items():
        store.write(path, data)
        role, digest = path.removesuffix(".jsonl"), hashlib.sha256(data).hexdigest()
        listed.append({"path": path, "sha256": digest, "bytes": len(data), "role": role})
    manifest = {**contract.template()["delivery"], "counts": {}, "files": listed, **changes}
    store.write("delivery.json", json.dumps(manifest).encode())
    return store


def numbered(folder: Path, number: int, **changes: Any) -> str:
    told = {"kind": "delta", "sequence": number, "delivery_id": f"acme-{number:06d}", **changes}
    return delivered(folder / str(number), **told).uri


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    return Corpus(Store.at(tmp_path / "corpus"))


def test_a_provider_revokes_in_its_own_delivery_only(tmp_path: Path, corpus: Corpus) -> None:
    foreign = lines("revocation", {}, {"provider": "other", "revocation_id": "o-1"})
    told = r"revocations\.jsonl: o-1: refused by rule provider: .*'other'.*'acme'"
    store = delivered(tmp_path / "a", revocations=foreign)
    with pytest.raises(Refused, match=told):
        peek_delivery(store)
    with pytest.raises(Refused, match=told):
        folding.fold(corpus, EMPTY, [store.uri])
    assert len(peek_delivery(delivered(tmp_path / "b", revocations=lines("revocation", {}))).revocations) == 1


def test_a_signature_that_nobody_verifies_is_refused(tmp_path: Path) -> None:
    signature = {"alg": "ed25519", "key_id": "k1", "value": "AAAA"}
    with pytest.raises(Refused, match=r"rule signature: key 'k1': .* not verified yet; send it without"):
        peek_delivery(delivered(tmp_path, signature=signature))


@pytest.mark.parametrize(
    ("counts", "told"),
    [
        ({"samples": 1}, "counts.samples: refused by rule counts: got 1, but 0 arrived"),
        ({"licenses": 2}, "counts.licenses: refused by rule counts: got 2, but 1 arrived"),
        ({"revocations": 0, "shards": 1}, "counts.shards: .* got 1, but 0 arrived"),
        ({"images": 0}, "counts.'images': .* compared are samples, shards, files, licenses, revocations"),
        ({"samples": 0, "licenses": 1, "revocations": 0, "shards": 0, "files": 1}, ""),
        ({}, ""),
    ],
)
def test_counts_are_what_arrives(tmp_path: Path, counts: dict[str, int], told: str) -> None:
    store = delivered(tmp_path, counts=counts)
    if told:
        with pytest.raises(Refused, match=told):
            peek_delivery(store)
    else:
        assert peek_delivery(store).delivery.counts == counts


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"sequence": 3}, "sequence: refused by rule gap: got 3, acme's next is 2"),
        ({"sequence": 1}, "sequence: refused by rule repeated: 1 was .* other contents, as 'acme-000001'"),
        ({"sequence": 0}, "sequence: refused by rule repeated: 0 was .* other contents, as 'acme-000000'"),
        ({"delivery_id": "acme-000001"}, "delivery_id: refused by rule changed"),
        ({"kind": "full"}, "kind: refused by rule full: .* send a delta and revoke what is gone"),
    ],
)
def test_deliveries_of_a_provider_follow_one_another(
    tmp_path: Path, corpus: Corpus, changes: dict[str, Any], told: str
) -> None:
    first = [numbered(tmp_path, 0, kind="full"), numbered(tmp_path, 1)]
    version = folding.fold(corpus, EMPTY, first)
    with pytest.raises(Refused, match=told):
        folding.fold(corpus, version, [numbered(tmp_path, 2, **changes)])
    assert len(folding.fold(corpus, version, [numbered(tmp_path, 2)]).deliveries) == 3
    other = numbered(tmp_path / "other", 7, kind="full", provider="other")
    assert len(folding.fold(corpus, version, [other]).deliveries) == 3


@pytest.mark.parametrize(("kind", "number"), [("delta", 2), ("correction", 7), ("revocation", 2)])
def test_nothing_begins_with_a_delivery_that_follows_others(
    tmp_path: Path, corpus: Corpus, kind: str, number: int
) -> None:
    late = numbered(tmp_path, number, kind=kind, delivery_id="late")
    if kind == "revocation":
        late = delivered(tmp_path / "r", revocations=lines("revocation", {}), kind=kind, sequence=number).uri
    with pytest.raises(Refused, match=r"rule gap: .* ingest what came before it, or a full delivery"):
        folding.fold(corpus, EMPTY, [late])


def test_a_delivery_that_was_moved_is_read_from_where_it_is_now(tmp_path: Path, corpus: Corpus) -> None:
    uris = [numbered(tmp_path, 0), numbered(tmp_path, 1)]
    version = folding.fold(corpus, EMPTY, uris)
    (tmp_path / "0").rename(tmp_path / "elsewhere")
    now = Store.at(tmp_path / "elsewhere").uri
    again = folding.fold(corpus, version, [now])
    assert [known.uri for known in again.deliveries] == [now, uris[1]]
    assert replace(again, deliveries=version.deliveries) == version
    assert folding.fold(corpus, again, [now]) == again


def revised(tmp_path: Path, number: int, *changes: dict[str, Any]) -> str:
    return numbered(tmp_path, number, licenses=lines("license", *changes))


def test_a_licence_changes_under_a_new_revision_only(tmp_path: Path, corpus: Corpus) -> None:
    version = folding.fold(corpus, EMPTY, [revised(tmp_path, 0, {"licensee": "a"})])
    told = r"licenses\.jsonl: acme-data-2026: refused by rule ambiguous: revision 0 has two meanings"
    with pytest.raises(Refused, match=told):
        folding.fold(corpus, version, [revised(tmp_path, 1, {"licensee": "b"})])
    uris = [
        revised(tmp_path, 1, {"licensee": "b", "license_revision": 2}, {"licensee": "a"}),
        revised(tmp_path, 2, {"licensee": "c", "license_revision": 1}),
    ]
    version = folding.fold(corpus, version, uris)
    assert folding.licenses(corpus.store, version, "acme")["acme-data-2026"].licensee == "b"
    with pytest.raises(Refused, match="revision 1 has two meanings"):
        folding.fold(corpus, version, [revised(tmp_path, 3, {"licensee": "d", "license_revision": 1})])


def test_another_provider_may_name_its_licence_alike(tmp_path: Path, corpus: Corpus) -> None:
    uris = [
        numbered(tmp_path, number, provider=name, licenses=lines("license", {"licensee": name}))
        for number, name in enumerate(["acme", "other"])
    ]
    version = folding.fold(corpus, EMPTY, uris)
    found = {name: folding.licenses(corpus.store, version, name) for name in ("acme", "other")}
    assert {name: records["acme-data-2026"].licensee for name, records in found.items()} == {
        "acme": "acme",
        "other": "other",
    }


def test_blank_lines_among_licences_are_read_as_they_were_checked(tmp_path: Path, corpus: Corpus) -> None:
    two = lines("license", {}, {"license_id": "b"})
    version = folding.fold(
        corpus, EMPTY, [numbered(tmp_path, 0, licenses=b"\n" + two.replace(b"\n", b"\r\n \n"))]
    )
    assert set(folding.licenses(corpus.store, version, "acme")) == {"acme-data-2026", "b"}


def kept(version: Version, name: str) -> str:
    return f"{keeping.folder(version.deliveries[0].sha256)}/{name}"


def test_the_corpus_keeps_the_bytes_that_were_checked(tmp_path: Path, corpus: Corpus) -> None:
    store = delivered(tmp_path / "d")
    opened = open_delivery(store)
    checked = store.read("licenses.jsonl")
    corpus.store.write(f"{keeping.folder(opened.manifest_sha256)}/licenses.jsonl", b"left by somebody")
    store.write("licenses.jsonl", checked.replace(b"Example Lab", b"Anybody Lab"))
    version = folding.keep(corpus, EMPTY, opened)
    assert corpus.store.read(kept(version, "licenses.jsonl")) == checked


@pytest.mark.parametrize("name", ["licenses.jsonl", "delivery.json"])
def test_a_kept_record_that_was_changed_is_not_believed(tmp_path: Path, corpus: Corpus, name: str) -> None:
    version = folding.fold(corpus, EMPTY, [numbered(tmp_path, 0)])
    raw = corpus.store.read(kept(version, name))
    corpus.store.write(kept(version, name), raw.replace(b"a", b"b", 1))
    with pytest.raises(Corrupt, match=name):
        folding.licenses(corpus.store, version, "acme")
