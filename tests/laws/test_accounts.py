"""What a corpus keeps account of, by command: what was done to it, and where everything of an asset is."""

from __future__ import annotations

import hashlib
import io
import json
import re
import signal
import tarfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from infra import runs
from infra.cli import MISTAKE, run
from infra.corpus import Corpus, version_name
from infra.storage import Store, cache_folder
from pipeline import audit, contract, ids, packs, receipts, shards, tables
from pipeline.blocks import Blocks
from pipeline.examples import kind_of
from pipeline.finding import WORDS
from pipeline.locating import Location, locations
from pipeline.merkle import is_absent
from pipeline.pack import Document, PackConfig, Pair, lay_out
from pipeline.packed import Role, Via
from pipeline.split import TRAIN
from retrieval.serving.results import ARROW
from trainer import accounts
from trainer.accounts import TOKENS
from trainer.affected import affected
from trainer.order import MAIN, StreamSection
from trainer.seen import saw
from trainer.stream import Mixed, PackedStream, tokens

from .conftest import TINY, Deliveries, license_, sample
from .served import begun

pytestmark = [pytest.mark.plan, pytest.mark.timeout(300)]
NUM = 24
AS_OF = ["--as-of", "2026-06-01T00:00:00Z"]


@dataclass(frozen=True, slots=True)
class World:
    corpus: Corpus
    options: list[str]

    @property
    def root(self) -> Path:
        return Path(self.corpus.store.root)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Pictures of three contributors; every third is admitted by two licences."""
    folder = tmp_path_factory.mktemp("accounts")
    file = folder / "tiny.toml"
    file.write_text(TINY)
    samples = [
        sample(n, license_ids=["free", "plain"] if n % 3 == 0 else ["free"], contributor={"id": f"c{n % 3}"})
        for n in range(NUM)
    ]
    licenses = {name: license_(license_id=name) for name in ("free", "plain")}
    uri = Deliveries(folder).write(samples, licenses)
    options = ["--corpus", str(folder / "corpus"), "--config", str(file), "--engine", "inline"]
    torch.set_num_threads(1)
    assert run(["ingest", uri, *AS_OF, *options]) == 0
    assert run(["build", *options]) == 0
    return World(Corpus(Store.at(folder / "corpus")), options)


def test_ingest_and_build_are_in_the_audit_log_once(world: World) -> None:
    store = world.corpus.store
    told = [*audit.entries(store)]
    assert [one.type for one in told] == ["delivery_ingested", "decision_summary", "dataset_built"]
    delivery, decisions, built = (one.facts for one in told)
    assert (delivery["delivery_id"], delivery["sequence"], delivery["version"]) == ("d0", 0, 1)
    assert (decisions["outcomes"], decisions["as_of"]) == ({"kept": NUM}, "2026-06-01T00:00:00+00:00")
    assert (built["version"], built["artifacts"]) == (2, dict(world.corpus.newest().artifacts))
    assert built["sha256"] == hashlib.sha256(store.read(version_name(2))).hexdigest()
    assert run(["ingest", *AS_OF, *world.options]) == 0
    assert run(["build", *world.options]) == 0
    assert [*audit.entries(store)] == told
    assert audit.check(store) == 3


def test_a_version_that_was_not_logged_is_logged_by_the_next_command(world: World, tmp_path: Path) -> None:
    """As after a store that failed, or a process that ended, between the version and its entry."""
    store = world.corpus.store
    store.delete(["audit/000003.json"])
    assert run(["build", *world.options]) == 0
    assert [one.type for one in audit.entries(store)][2:] == ["dataset_built"]
    assert audit.check(store) == 3


ROLES = {Role.TARGET: "as target", Role.NEIGHBOR: "as neighbor", Role.GIVEN: "as given"}


def named(value: Any, uid: str) -> bool:
    """Whether a value holds the uid anywhere, or the id of a document of it."""
    if isinstance(value, dict):
        return any(named(one, uid) for one in value.values())
    if isinstance(value, list):
        return any(named(one, uid) for one in value)
    return isinstance(value, str) and re.fullmatch(re.escape(uid) + "(#[0-9]+)?", value) is not None


def literal(path: Path, uid: str) -> Iterator[tuple[str, tuple[int, ...]]]:
    """As what, and in which rows, a table names an asset, read whole and as Python objects."""
    data = path.read_bytes()
    if data[:4] == b"PAR1":
        rows = pq.read_table(io.BytesIO(data)).to_pylist()
    elif path.suffix == ".arrow":
        rows = pa.ipc.open_file(data).read_all().to_pylist()
    else:
        return
    found: dict[str, list[int]] = {}
    for number, row in enumerate(rows):
        what = [name for name, value in row.items() if name not in {*WORDS, "spans"} and named(value, uid)]
        what += {ROLES[span["role"]] for span in row.get("spans", ()) if span["uid"] == uid}
        for one in what:
            found.setdefault(one, []).append(number)
    yield from ((what, tuple(numbers)) for what, numbers in found.items())


def tabled(found: list[Location]) -> set[tuple[str, str, tuple[int | str, ...]]]:
    """Those in tables."""
    kinds = {"members", "vectors by id", "text, at byte"}
    return {
        (one.path, one.what, one.at)
        for one in found
        if one.what not in kinds and "/" in one.path[1:] and one.at
    }


def uids(world: World) -> list[str]:
    """An asset of each split, and the one that is a neighbor most often."""
    split = {}
    for shard in world.corpus.artifact(world.corpus.newest(), "split").shards.values():
        rows = pq.read_table(io.BytesIO(world.corpus.store.read(shard.name("rows.parquet"))))
        split |= dict(zip(rows["uid"].to_pylist(), rows["split"].to_pylist(), strict=True))
    lists = world.corpus.artifact(world.corpus.newest(), "neighbors").shards.values()
    cited = [
        one["uid"]
        for shard in lists
        for row in pq.read_table(
            io.BytesIO(world.corpus.store.read(shard.name("neighbors.parquet")))
        ).to_pylist()
        for one in row["candidates"]
    ]
    first = {kind: uid for uid, kind in sorted(split.items(), reverse=True)}
    return [*first.values(), max(cited, key=cited.count)]


def test_every_row_that_names_an_asset_is_found(world: World) -> None:
    """Against all files of the corpus, read whole."""
    files = [
        path for path in world.root.rglob("*") if path.is_file() and not path.name.startswith(".partial")
    ]
    for uid in uids(world):
        found = [*locations(world.corpus, uid)]
        theirs = {
            (str(path.relative_to(world.root)), what, rows)
            for path in files
            for what, rows in literal(path, uid)
        }
        assert tabled(found) == theirs
        steps = {one.step for one in found}
        assert {
            "records",
            "decide",
            "images",
            "split",
            "tokenize",
            "embed",
            "index",
            "neighbors",
            "pack",
        } <= steps
        assert all(one.count == len(one.at) for one in found if one.at)


def test_members_vectors_and_registers_are_found(world: World) -> None:
    (uid, *_), store = uids(world), world.corpus.store
    found = [*locations(world.corpus, uid)]
    (images,) = (one for one in found if one.path.endswith("images.tar"))
    with tarfile.open(world.root / images.path) as tar:
        mine = [name for name in tar.getnames() if name.startswith(uid.replace(":", "_") + ".")]
    assert [*images.at] == mine
    assert len(mine) == 3
    number = ids.table(store, world.corpus.newest())[uid]
    vectors = {one.path.split("/")[1]: one.at for one in found if one.what == "vectors by id"}
    assert vectors == {"codes": (number,), "index": (number,)}
    (register,) = (one for one in found if one.path.startswith("registers/"))
    assert (register.what, register.versions) == ("uid", (2,))
    (records,) = (one for one in found if one.path.endswith("records.parquet"))
    assert (records.versions, len(records.slots)) == ((1, 2), 1)
    delivered = [one.path for one in found if one.what.startswith("delivered, in this")]
    assert delivered
    assert all(Path(path).is_file() for path in delivered)


def test_sequences_are_those_that_packs_have(world: World) -> None:
    version = world.corpus.newest()
    for uid in uids(world):
        told = [one for one in locations(world.corpus, uid) if one.sequences]
        for kind in {kind_of(slot) for one in told for slot in one.slots}:
            blocks, held, sequence = Blocks(packs.listed(world.corpus, version, kind), keep=1), set(), 0
            for number in range(len(blocks)):
                for spans in blocks.block(number).record["spans"].to_pylist():
                    held |= {(sequence, ROLES[span["role"]]) for span in spans if span["uid"] == uid}
                    sequence += 1
            mine = {(at, one.what) for one in told if kind_of(one.slots[0]) == kind for at in one.sequences}
            assert mine == held


def test_what_no_version_lists_and_what_was_derived_is_found(world: World) -> None:
    """In a shard that nobody lists, and in reports, logs and whatever else lies there."""
    (uid, *_), store = uids(world), world.corpus.store

    def pair(uid: str) -> Pair:
        ids_T = np.arange(3, dtype=np.uint16)
        return Pair(uid=uid, revision=0, text_ids=ids_T, code_ids=ids_T, via=Via.NOTHING)

    def row(uid: str) -> Any:
        return (lay_out(Document(example_id="edit:1#0", pairs=(pair(uid),))),)

    ((packed, _),) = shards.write(
        [row("derived:b"), row("derived:a")], PackConfig(context=31), fingerprint="f"
    )
    records = [
        {"example": "edit:1", "sources": [uid, "acme:other"], "derived": ["derived:a"]},
        {"example": "edit:2", "sources": ["acme:other"], "derived": ["derived:b"]},
    ]
    planted = {
        "shards/instruct/nobody/records.parquet": tables.to_parquet(pa.Table.from_pylist(records)),
        "shards/instruct/nobody/00000.arrow": packed,
        "shards/instruct/nobody/shard.json": json.dumps({"facts": ["derived:a", "derived:b"]}).encode(),
        "reports/page.html": f"<a title='{uid}'>{uid}</a> {uid}1 x{uid} {uid}.jpg".encode(),
        "notes": f"{uid}.".encode(),
    }
    for name, data in planted.items():
        store.write(name, data)
    found = {
        (one.path, one.what): (one.at, one.versions, one.sequences)
        for one in locations(world.corpus, uid)
        if one.path in planted
    }
    store.delete([*planted])
    assert found.keys() == {
        ("shards/instruct/nobody/records.parquet", "sources"),
        ("shards/instruct/nobody/00000.arrow", "as target"),
        ("shards/instruct/nobody/shard.json", "text, at byte"),
        ("reports/page.html", "text, at byte"),
        ("notes", "text, at byte"),
    }
    assert found["shards/instruct/nobody/00000.arrow", "as target"] == ((1,), (), ())
    page = planted["reports/page.html"].decode()
    assert found["reports/page.html", "text, at byte"][0] == (
        page.index(uid),
        page.index(">" + uid) + 1,
        page.index(f"{uid}.jpg"),
    )


def test_a_revocation_names_an_asset_with_its_provider_or_without(world: World) -> None:
    (uid, *_), store = uids(world), world.corpus.store
    provider, _, own = uid.partition(":")
    template = contract.template()["revocation"] | {"provider": provider, "target_type": "asset"}
    lines = [{**template, "targets": targets} for targets in (["other"], [own], [uid])]
    name = "registers/revocations/x"
    store.write(name, "".join(json.dumps(one) + "\n" for one in lines).encode())
    found = [one for one in locations(world.corpus, uid) if one.path == name]
    store.delete([name])
    assert [(one.what, one.at) for one in found] == [("revocations, by line", (1, 2))]


def test_the_command_tells_people_and_machines(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    (uid, *_), place = uids(world), ["--corpus", world.corpus.store.uri]
    assert run(["where-is", uid, *place, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert len(facts["locations"]) == len([*locations(world.corpus, uid)])
    assert run(["where-is", uid, *place]) == 0
    out = capsys.readouterr().out
    assert f"{len(facts['locations'])} places; which runs saw it: pardalis models-affected {uid}" in out
    assert f"{uid.replace(':', '_')}.jpg" in out
    assert run(["where-is", "acme:never", *place]) == 0
    assert capsys.readouterr().out.startswith("0 places;")
    assert run(["where-is", "0001", *place]) == MISTAKE


@pytest.mark.ray
@pytest.mark.long
@pytest.mark.timeout(600)
def test_what_a_service_answered_with_is_in_the_ledger(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Over HTTP: as JSON and as Arrow, by two replicas; of what is refused, of pictures and facts nothing."""
    corpus = ["--corpus", world.corpus.store.uri]
    words = ["index", "serve", *corpus, "--open", "--replicas", "2", "--usage", str(tmp_path / "usage")]
    answered: Counter[str] = Counter()
    kept = {"XDG_CACHE_HOME": str(cache_folder().parent)}
    with begun(words, kept) as process, httpx.Client(timeout=60, base_url=process.url) as client:
        for asked in ({"text": "a red circle", "k": 7}, {"uid": "acme:a0003"}, {"text": "blue", "k": 1}):
            found = client.post("/search", json=asked).raise_for_status()
            answered.update(one["uid"] for one in found.json()["results"])
        arrow = client.post("/search", json={"text": "a"}, headers={"accept": ARROW}).raise_for_status()
        answered.update(pa.ipc.open_stream(arrow.content).read_all()["uid"].to_pylist())
        assert client.post("/search", json={"text": ""}).status_code == 422
        for path in ("/facts", "/assets/acme:a0003", "/thumbnails/acme:a0003"):
            client.get(path).raise_for_status()
        process.process.send_signal(signal.SIGTERM)
        assert process.process.wait(60) == 0
    written = b"".join(path.read_bytes() for path in (tmp_path / "usage").iterdir())
    assert b"red circle" not in written
    out = tmp_path / "ledger"
    assert run(["ledger", "--out", str(out), "--usage", str(tmp_path / "usage"), *corpus, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["totals"]["times_served"] == answered.total() > 2 * NUM
    by_contributor = Counter[str]()
    for uid, times in answered.items():
        by_contributor[f"acme:c{int(uid[-4:]) % 3}"] += times
    lines = pq.read_table(out / "contributors.parquet").to_pylist()
    assert {one["contributor"]: one["times_served"] for one in lines} == by_contributor
    assert sum(one["assets"] for one in lines) == facts["totals"]["assets"]


def test_tokens_are_those_that_packing_counted(world: World) -> None:
    """What each contributor and licence has is told beside the packs: counted from documents, not bytes."""
    corpus, version = world.corpus, world.corpus.newest()
    book, _ = accounts.kept(corpus, version)
    made = corpus.artifact(version, "pack").shards.values()
    holders, licenses = packs.by_contributor(corpus.store, made), packs.by_license(made)
    for counted, mine in ((holders, book.contributors), (licenses, book.licenses)):
        tokens_of = {
            name: sum(one[field] for field in (*TOKENS, "held_out_tokens")) for name, one in mine.items()
        }
        assert tokens_of == {name: one["tokens"] for name, one in counted.items()}


def test_what_was_taken_back_is_told_by_those_alone_that_must_tell_it(world: World, tmp_path: Path) -> None:
    """The last test of this corpus: a revocation by command, with the log, the receipt and all accounts."""
    corpus, before = world.corpus, world.corpus.newest()
    uid = uids(world)[-1]
    provider, _, own = uid.partition(":")
    read = {MAIN: (corpus, before)}
    runs.record(corpus, before, identity="run", facts={})
    mixed = {MAIN: Mixed(shards=packs.listed(corpus, before, TRAIN), weight=1.0)}
    cursor = PackedStream(mixed, stream=StreamSection(rows_per_step=8), view=tokens).cursor(view=tokens)
    for _ in range(40):
        next(cursor)
    saw(read, {}, "run", cursor.state())
    book, _ = accounts.kept(corpus, before)
    line = {"provider": provider, "target_type": "asset", "targets": [own], "reason": "copyright_takedown"}
    line |= {"action": "remove", "restrict_uses": [], "effective_at": "2026-05-01T00:00:00Z"}
    (tmp_path / "revoked.jsonl").write_text(json.dumps(contract.template()["revocation"] | line) + "\n")
    num_logged = audit.check(corpus.store)
    assert run(["revoke", "--revocations", str(tmp_path / "revoked.jsonl"), *AS_OF, *world.options]) == 0
    assert audit.check(corpus.store) == num_logged + 3
    logged = [one.type for one in audit.entries(corpus.store)][num_logged:]
    assert logged == ["revocation_loaded", "compaction_done", "gc_done"]
    assert receipts.check(corpus.store) == 1
    (receipt,) = (one.receipt for one in receipts.read(corpus.store))
    proofs = [(one, proof) for one in receipt.artifacts for proof in one.absence_proofs]
    assert {proof.uid for _, proof in proofs} == {uid}
    assert all(is_absent(one.merkle_root_after, proof) for one, proof in proofs)
    places = {one.path.partition("/")[0] for one in locations(corpus, uid)}
    assert places <= {"registers", "receipts"}
    (found,) = affected(corpus, uid)
    assert (found.identity, found.is_affected, found.is_named) == ("run", True, False)
    left, (one,) = accounts.kept(corpus, corpus.newest())
    assert one.counts is not None
    for name in ("times_seen", "times_retrieved"):
        assert left.totals[name] == book.totals[name]
        assert left.contributors["erased"][name] > 0
    assert left.totals["assets"] == book.totals["assets"] - 1
    assert sum(left.totals[name] for name in TOKENS) < sum(book.totals[name] for name in TOKENS)
