"""The audit log and the receipts: one chain of files, written within the lease alone."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from infra.artifact import Artifact, Shard, publish_artifact
from infra.corpus import EMPTY, Corpus, Folded, LeaseHeld, Version, lease_name, newest_lease
from infra.storage import LocalStore, Store
from pipeline import audit, chain, receipts
from pipeline.merkle import is_absent
from pipeline.receipts import Change, Examples, Index, Receipt
from pipeline.sealing import AuditConfig, Seal, key_id, raw
from pipeline.verify.chain import check_log

Private = ed25519.Ed25519PrivateKey
FACTS = {"name": "Zoë", "number": 1}


def held(corpus: Corpus, *work: Callable[[Store], Any]) -> list[Any]:
    with corpus.writing(purpose="test"):
        return [one(corpus.store) for one in work]


def appended(store: Store) -> audit.Entry:
    return audit.append(store, "gc_done", FACTS)


def test_each_entry_names_the_bytes_of_the_one_before(store: Store) -> None:
    """On a disk and in an object store; read here by nothing of ours."""
    written = held(Corpus(store), appended, appended, appended)
    names = [f"audit/{number:06d}.json" for number in (1, 2, 3)]
    assert store.names("audit/") == names
    prev = "0" * 64
    for name, entry in zip(names, written, strict=True):
        data = store.read(name)
        line = json.loads(data)
        assert (line["prev"], line["type"], line["facts"]) == (prev, "gc_done", FACTS)
        assert (
            data
            == json.dumps(line, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"
        )
        prev = hashlib.sha256(data).hexdigest()
        assert entry.sha256 == prev
    assert [*audit.entries(store)] == written
    assert [*audit.entries(store, newest_first=True)] == written[::-1]
    assert audit.check(store) == 3


def test_a_log_that_nobody_began_is_whole(tmp_path: Path) -> None:
    assert audit.check(Store.at(tmp_path)) == 0
    assert [*audit.entries(Store.at(tmp_path))] == []


def test_nothing_is_written_outside_of_the_lease(tmp_path: Path) -> None:
    corpus = Corpus(Store.at(tmp_path))
    with pytest.raises(LeaseHeld, match="not held for writing by this process"):
        appended(corpus.store)
    held(corpus, appended)
    with pytest.raises(LeaseHeld, match="not held for writing by this process"):
        appended(corpus.store)  # it has been released
    with corpus.writing(purpose="test"):
        name = lease_name(newest_lease(corpus.store))
        holder = json.loads(corpus.store.read(name))
        corpus.store.write(name, json.dumps({**holder, "pid": holder["pid"] + 1}).encode())
        with pytest.raises(LeaseHeld, match="not held for writing by this process"):
            appended(corpus.store)
    assert audit.check(corpus.store) == 1


class Faster(LocalStore):
    """Another writer appends whenever this one is about to."""

    def create(self, name: str, data: bytes) -> bool:
        if name.startswith("audit/"):
            LocalStore.create(self, name, b'{"prev":""}\n')
        return LocalStore.create(self, name, data)


def test_of_two_writers_one_fails(tmp_path: Path) -> None:
    store = Faster(str(tmp_path))
    with pytest.raises(LeaseHeld, match=r"audit/000001\.json exists: another writer was faster"):
        held(Corpus(store), appended)


class Deaf(LocalStore):
    """The object is there, and the answer was lost: asked again, the store says that there is one."""

    def create(self, name: str, data: bytes) -> bool:
        created = LocalStore.create(self, name, data)
        return created and not name.startswith("audit/")


def test_an_entry_whose_answer_was_lost_is_written_once(tmp_path: Path) -> None:
    store = Deaf(str(tmp_path))
    held(Corpus(store), appended, appended)
    assert audit.check(store) == 2


def test_a_type_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    kind: Any = "deleted"
    with pytest.raises(ValueError, match="'deleted' is no type of entry; they are delivery_ingested,"):
        audit.append(Store.at(tmp_path), kind, {})


def changed(store: Store, number: int) -> None:
    name = f"audit/{number:06d}.json"
    store.write(name, store.read(name).replace(b'"number":1', b'"number":2'))


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda store: changed(store, 2), r"audit/000003\.json says that the entry before it"),
        (lambda store: store.delete(["audit/000002.json"]), r"audit/000002\.json is gone"),
        (lambda store: store.delete(["audit/000001.json"]), r"audit/000001\.json is gone"),
        (lambda store: store.write("audit/000002.json", b"{"), r"audit/000002\.json is no JSON"),
        (lambda store: store.write("audit/000002.json", b"[]"), r"audit/000002\.json is no object"),
        (
            lambda store: store.write("audit/000001.json", store.read("audit/000002.json")),
            r"audit/000001\.json says that the entry before it",
        ),
    ],
)
def test_the_first_entry_that_is_not_as_it_was_written_is_named(
    tmp_path: Path, spoil: Callable[[Store], None], told: str
) -> None:
    store = Store.at(tmp_path)
    held(Corpus(store), appended, appended, appended)
    spoil(store)
    with pytest.raises(chain.Broken, match=told):
        audit.check(store)


def test_more_than_a_million_entries_are_in_order(tmp_path: Path) -> None:
    store = Store.at(tmp_path)
    for number in (999_999, 1_000_000):
        store.write(chain.name_of("audit", number), b"{}")
    assert chain.numbers(store, "audit") == [999_999, 1_000_000]


@pytest.fixture
def key(tmp_path: Path) -> tuple[Private, Path]:
    private = Private.generate()
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = tmp_path / "key.pem"
    path.write_bytes(pem)
    return private, path


def test_signatures_are_over_the_entry_without_them(tmp_path: Path, key: tuple[Private, Path]) -> None:
    private, path = key
    seal = Seal.of(AuditConfig(), {"PARDALIS_SIGNING_KEY_FILE": str(path)})
    store = Store.at(tmp_path / "corpus")
    held(Corpus(store), appended, lambda store: audit.append(store, "gc_done", FACTS, seal=seal))
    line = json.loads(store.read("audit/000002.json"))
    signature = line.pop("signature")
    said = json.dumps(line, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    private.public_key().verify(base64.b64decode(signature["value"]), said)  # raises if it is not right
    public = raw(private.public_key())
    assert (signature["alg"], signature["key_id"]) == ("ed25519", key_id(public))
    assert [entry.is_signed for entry in audit.entries(store)] == [False, True]
    # And so says the program that imports nothing of ours.
    witness = check_log(tmp_path / "corpus" / "audit", [public])
    assert (witness.entries, witness.faults, witness.signatures) == (2, (), "verified")
    assert audit.check(store, keys=[raw(Private.generate().public_key()), public]) == 2
    with pytest.raises(chain.Broken, match=r"audit/000002\.json is not signed by a key that is given"):
        audit.check(store, keys=[raw(Private.generate().public_key())])
    held(Corpus(store), appended)
    with pytest.raises(chain.Broken, match=r"audit/000003\.json, the newest entry, is not signed"):
        audit.check(store, keys=[public])
    changed(store, 2)
    store.delete(["audit/000003.json"])
    assert audit.check(store) == 2  # the chain alone does not see it: nothing comes after
    with pytest.raises(chain.Broken, match=r"audit/000002\.json is not signed by a key that is given"):
        audit.check(store, keys=[public])


def test_keys_that_are_none_are_told_by_their_variable(tmp_path: Path, key: tuple[Private, Path]) -> None:
    def of(**environ: str) -> Seal:
        return Seal.of(AuditConfig(contributors="IDS", signing="SIGN"), environ)

    with pytest.raises(ValueError, match=r"\$IDS is a key of 5 bytes"):
        of(IDS="short")
    with pytest.raises(ValueError, match=r"\$SIGN names .*nowhere: No such file"):
        of(SIGN=str(tmp_path / "nowhere"))
    (tmp_path / "text").write_text("no key")
    with pytest.raises(ValueError, match=r"\$SIGN names .*text, which is no private key"):
        of(SIGN=str(tmp_path / "text"))
    other = ec.generate_private_key(ec.SECP256R1())
    (tmp_path / "other").write_bytes(
        other.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    with pytest.raises(ValueError, match=r"\$SIGN names .*other, a ECPrivateKey"):
        of(SIGN=str(tmp_path / "other"))
    assert of() == Seal()
    assert str(key[1]) not in repr(of(SIGN=str(key[1]), IDS="x" * 16))
    assert "x" * 16 not in repr(of(IDS="x" * 16))


def test_contributors_are_keyed_hashes_or_left_out() -> None:
    hidden = Seal.of(AuditConfig(), {"PARDALIS_AUDIT_KEY": "k" * 32}).contributor("acme:c1")
    # By another road: RFC 2104 with a key shorter than a block.
    inner, outer = (bytes(x ^ pad for x in b"k" * 32 + b"\0" * 32) for pad in (0x36, 0x5C))
    told = hashlib.sha256(outer + hashlib.sha256(inner + b"acme:c1").digest()).hexdigest()
    assert hidden == told
    assert Seal().contributor("acme:c1") is None


def folded(number: int) -> Folded:
    told = {"provider": "acme", "delivery_id": f"d{number}", "uri": "", "batches": ""}
    return Folded(**told, sequence=number, sha256=f"{number}")


def decided(corpus: Corpus, key: str, num_deliveries: int) -> Version:
    shard = Shard(step="decide", key=key, files={}, counts={"kept": 3, "rejected:TAKEN": 1}, facts={})
    artifact = Artifact(step="decide", key=key, settings={}, inputs={}, shards={"a": shard})
    publish_artifact(corpus.store, artifact)
    return replace(
        EMPTY,
        number=num_deliveries,
        deliveries=tuple(map(folded, range(num_deliveries))),
        artifacts={"decide": key},
    )


def test_what_commands_did_is_logged_once_and_made_up_for(tmp_path: Path) -> None:
    corpus = Corpus(Store.at(tmp_path))
    first, second = decided(corpus, "one", 1), decided(corpus, "two", 3)

    def told() -> list[tuple[str, Any]]:
        kept = ("delivery_id", "decide", "version")
        return [
            (one.type, next(one.facts[name] for name in kept if name in one.facts))
            for one in audit.entries(corpus.store)
        ]

    with corpus.writing(purpose="test"):
        audit.ingested(corpus, first)
        audit.ingested(corpus, first)
        audit.built(corpus, first)
        audit.built(corpus, first)
        begun = [("delivery_ingested", "d0"), ("decision_summary", "one"), ("dataset_built", 1)]
        assert told() == begun
        # A process that ended in the middle: one delivery was logged, and no decision.
        facts = {"generation": 1, "delivery_id": "d1", "version": 3}
        audit.append(corpus.store, "delivery_ingested", facts)
        audit.ingested(corpus, second)
        audit.built(corpus, second)
        more = [("delivery_ingested", f"d{number}") for number in (1, 2)]
        assert told() == [*begun, *more, ("decision_summary", "two"), ("dataset_built", 3)]
        audit.ingested(corpus, replace(second, artifacts={"decide": "one"}))  # for another instant
        assert told()[-1] == ("decision_summary", "one")
    summary = next(one for one in audit.entries(corpus.store) if one.type == "decision_summary")
    assert summary.facts["outcomes"] == {"kept": 3, "rejected:TAKEN": 1}
    assert audit.check(corpus.store) == 8


class Full(LocalStore):
    def create(self, name: str, data: bytes) -> bool:
        if name.startswith("audit/"):
            raise OSError(28, "No space left on device")
        return LocalStore.create(self, name, data)


def test_a_log_that_cannot_be_written_is_loud(tmp_path: Path) -> None:
    corpus = Corpus(Full(str(tmp_path)))
    version = decided(corpus, "one", 1)
    with corpus.writing(purpose="test"):
        for work in (audit.ingested, audit.built):
            with pytest.raises(audit.Unrecorded, match="version 1 is published, and the audit log does not"):
                work(corpus, version)


def receipt() -> Receipt:
    place = {"step": "split", "slot": "0", "path": "shards/x", "sha256_before": "a", "sha256_after": "b"}
    held_before = [f"acme:{number}" for number in range(9)]
    change = Change.of(
        place=place, before=held_before, after=held_before[2:], gone={"acme:0", "acme:1", "acme:other"}
    )
    return Receipt(
        revocation_ids=("r1",),
        targets_hash=receipts.targets_hash(["acme:1", "acme:0"]),
        requested_at="2026-05-01T00:00:00Z",
        effective_at="2026-05-02T00:00:00Z",
        loaded_at="2026-05-02T00:00:01Z",
        compacted_at="2026-05-02T00:01:00Z",
        version_before=3,
        version_after=4,
        artifacts=(change,),
        index=Index(ntotal_before=9, removed=2, ntotal_after=7, id_set_sha256=receipts.ids_hash([2, 1])),
        examples=Examples(regenerated=1, dropped=2),
        models_affected=("run",),
    )


def test_receipts_come_back_as_they_were_written(store: Store, key: tuple[Private, Path]) -> None:
    corpus, seal = Corpus(store), Seal(private=key[0])
    first, second = receipt(), replace(receipt(), index=None, revocation_ids=("r2", "r3"))
    written = held(
        corpus,
        lambda store: receipts.write(store, first),
        lambda store: receipts.write(store, second, seal=seal),
    )
    assert [*receipts.read(store)] == written
    assert [one.receipt for one in written] == [first, second]
    assert written[1].prev == hashlib.sha256(store.read("receipts/000001.json")).hexdigest()
    assert receipts.check(store, keys=[raw(key[0].public_key())]) == 2
    (change,) = written[0].receipt.artifacts
    assert [proof.uid for proof in change.absence_proofs] == ["acme:0", "acme:1"]
    assert all(is_absent(change.merkle_root_after, proof) for proof in change.absence_proofs)
    assert (change.uids_before, change.uids_after) == (9, 7)


def test_no_receipt_is_made_of_what_is_still_there() -> None:
    place = {"step": "split", "slot": "0", "path": "shards/x", "sha256_before": "a", "sha256_after": "b"}
    with pytest.raises(ValueError, match="'acme:1' is in the tree"):
        Change.of(place=place, before=["acme:1"], after=["acme:1"], gone={"acme:1"})


def test_hashes_of_sets_do_not_hang_on_order() -> None:
    assert receipts.targets_hash(["b", "a", "a"]) == hashlib.sha256(b'["a","b"]').hexdigest()
    told = hashlib.sha256((1).to_bytes(8, "little") + (2).to_bytes(8, "little")).hexdigest()
    assert receipts.ids_hash([2, 1]) == told
