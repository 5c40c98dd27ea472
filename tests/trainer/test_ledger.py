"""Who is to be paid for what: held against packs read as Python objects, and a literal replay of the runs."""

from __future__ import annotations

import asyncio
import csv
import itertools
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infra.artifact import (
    Artifact,
    Made,
    Shard,
    forward_artifact,
    load_artifact,
    publish_artifact,
    publish_shard,
)
from infra.corpus import Corpus, Version
from infra.options import ReadOptions
from infra.storage import Missing, Store
from pipeline import erased, packs, schema, shards, tables
from pipeline.blocks import Blocks
from pipeline.pack import lay_out
from pipeline.packed import Modality, Role
from pipeline.searching.usage import Usage
from pipeline.split import TRAIN
from pipeline.step import ROWS
from trainer import accounts, ledger, tallies
from trainer.accounts import FIELDS, TOKENS, Book
from trainer.affected import affected
from trainer.instruct import listing
from trainer.order import MAIN, StreamSection
from trainer.passing import Packed
from trainer.seen import saw
from trainer.sources import SourceSection
from trainer.stream import Mixed, PackedStream, tokens

from .test_models_affected import ASSETS, PACKING, Document, begin, instructing, packed, pair, row

CONTRIBUTORS = {uid: f"acme:c{number % 4}" for number, uid in enumerate(ASSETS)}
LICENSES = {uid: [f"acme:l{n}" for n in (0, 1, 2) if number % 3 >= n] for number, uid in enumerate(ASSETS)}
"""One to three of each."""
GONE = ASSETS[3]
"""Is in the packs, and admitted no more."""
DERIVED = {"derived:scene": ASSETS[0:3], "derived:map": ASSETS[4:5], "derived:sign": ()}
ORDER = StreamSection(seed=3, rows_per_step=5, lanes=4, window_blocks=2)
SERVED = {ASSETS[0]: 5, ASSETS[2]: 2, GONE: 3}
Told = dict[str, Any]


def catalog() -> pa.Table:
    columns = [schema.UID, schema.LICENSES, schema.CONTRIBUTOR, schema.OUTCOME]
    rows = [
        {
            "uid": uid,
            "licenses": [] if uid == GONE else [name.removeprefix("acme:") for name in LICENSES[uid]],
            "contributor": CONTRIBUTORS[uid].removeprefix("acme:"),
            "outcome": "rejected" if uid == GONE else "kept",
        }
        for uid in ASSETS
    ]
    # A revision that was put out of date stands behind the one that is kept.
    rows.append({"uid": ASSETS[1], "licenses": [], "contributor": "c1", "outcome": "rejected"})
    return tables.of_rows(rows, pa.schema(columns))


def instructions(corpus: Corpus) -> str:
    """Packs of instruction data: what was derived of several assets, of one, and of none; its key."""
    uids = [*DERIVED, *ASSETS[:2]]
    rng, made = np.random.default_rng(5), {}
    for kind, num_rows in ((TRAIN, 17), ("validation", 3)):
        rows = []
        for number in range(num_rows):
            named = rng.choice(uids, size=2, replace=False).tolist()
            pairs = (pair(named[0], neighbor=True), pair(named[1], neighbor=False))
            rows.append((instructing(lay_out(Document(example_id=f"{number}", pairs=pairs))),))
        files, infos = shards.files(rows, PACKING, fingerprint="f")
        told = [
            {"example": uid, "task": "scene", "prompt": [], "sources": sources, "derived": [uid]}
            | {"licenses": [], "copies": 1, "pictures": []}
            for uid, sources in DERIVED.items()
        ]
        records = tables.to_parquet(tables.of_rows(told, listing.TABLE))
        made[f"00000-{kind}-000000"] = publish_shard(
            corpus.store,
            "instruct",
            kind,
            Made(files={**files, listing.RECORDS: records}, facts={"packs": infos}),
        )
    publish_artifact(corpus.store, Artifact(step="instruct", key="made", settings={}, inputs={}, shards=made))
    return "made"


@dataclass(frozen=True, slots=True)
class World:
    corpus: Corpus
    version: Version


def world_of(store: Store) -> World:
    corpus = packed(store, 0)
    shard = publish_shard(corpus.store, "split", "s", Made(files={ROWS: tables.to_parquet(catalog())}))
    publish_artifact(
        corpus.store, Artifact(step="split", key="s", settings={}, inputs={}, shards={"00000-000000": shard})
    )
    head = corpus.newest()
    listed = {**head.artifacts, "split": "s", "instruct": instructions(corpus)}
    with corpus.writing(purpose="test") as lease:
        return World(corpus, corpus.publish(lease, head, replace(head, artifacts=listed)))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """With two runs: one of the packs alone, and one of both, which is in its second epoch."""
    found = world_of(Store.at(tmp_path_factory.mktemp("ledger") / "corpus"))
    for identity, steps in RUNS.items():
        read = dict.fromkeys(SOURCES[identity], (found.corpus, found.version))
        begin(read, identity)
        saw(read, SECTIONS, identity, replay(found, identity, steps)[1])
    return found


RUNS = {"alone": 3, "both": 30}
SOURCES: Mapping[str, tuple[str, ...]] = {"alone": (MAIN,), "both": ("instruct", MAIN)}
SECTIONS = {"instruct": SourceSection(step="instruct")}
STEPS = {MAIN: "pack", "instruct": "instruct"}


def replay(world: World, identity: str, steps: int) -> tuple[Counter[tuple[str, int]], Told]:
    """How often each (source, sequence) came, and where the stream then stands."""
    names = sorted(SOURCES[identity])
    listed = {
        name: Mixed(shards=packs.listed(world.corpus, world.version, TRAIN, step=STEPS[name]), weight=1.0)
        for name in names
    }
    cursor = PackedStream(listed, stream=ORDER, view=tokens).cursor(view=lambda rows: rows.taken)
    seen = Counter[tuple[str, int]]()
    for _ in range(steps):
        taken = next(cursor)
        seen.update(zip((names[m] for m in taken.source_B), taken.sequence_B.tolist(), strict=True))
    return seen, cursor.state()


def spans(world: World, step: str, kind: str) -> Iterator[tuple[int, Told]]:
    """(sequence, span) of every span, as Python objects."""
    blocks, sequence = Blocks(packs.listed(world.corpus, world.version, kind, step=step), keep=1), 0
    for number in range(len(blocks)):
        for found in blocks.block(number).record["spans"].to_pylist():
            yield from ((sequence, span) for span in found)
            sequence += 1


def pairs_of(uid: str) -> set[tuple[str, str]]:
    if uid in DERIVED:
        return {one for source in DERIVED[uid] for one in pairs_of(source)} or {("nobody", "nobody")}
    named = ["unknown"] if uid == GONE else LICENSES[uid]
    return {(CONTRIBUTORS[uid], name) for name in named}


Counts = dict[Any, Counter[str]]


def literal(world: World) -> tuple[Counter[str], Counts, Counts, Counts]:
    """Totals, and the accounts of contributors, licences and both: span by span."""
    totals: Counter[str] = Counter()
    contributors, licenses, both = Counts(), Counts(), Counts()
    for uid, field, amount in (*tokens_of(world), *passes_of(world), *served()):
        totals[field] += amount
        pairs = pairs_of(uid)
        for table, keys in (
            (contributors, {one for one, _ in pairs}),
            (licenses, {one for _, one in pairs}),
            (both, pairs),
        ):
            for key in keys:
                table.setdefault(key, Counter())[field] += amount
    return totals, contributors, licenses, both


def tokens_of(world: World) -> Iterator[tuple[str, str, int]]:
    """(uid, field, amount)"""
    yield from ((uid, "assets", 1) for uid in ASSETS if uid != GONE)
    for step, kind in itertools.product(("pack", "instruct"), (TRAIN, "validation")):
        for _, span in spans(world, step, kind):
            role = "neighbor" if span["role"] == Role.NEIGHBOR else "target"
            of = f"{role}_{Modality(span['modality']).name.lower()}_tokens"
            yield span["uid"], of if kind == TRAIN else "held_out_tokens", span["length"]


def served() -> Iterator[tuple[str, str, int]]:
    return ((uid, "times_served", times) for uid, times in SERVED.items())


def passes_of(world: World) -> Iterator[tuple[str, str, int]]:
    for identity, steps in RUNS.items():
        seen, _ = replay(world, identity, steps)
        for name in SOURCES[identity]:
            places = {
                (sequence, span["document"], span["uid"], span["role"] == Role.NEIGHBOR)
                for sequence, span in spans(world, STEPS[name], TRAIN)
            }
            for sequence, _, uid, is_neighbor in places:
                yield uid, "times_retrieved" if is_neighbor else "times_seen", seen[name, sequence]


def whole(account: Mapping[str, int]) -> dict[str, int]:
    return {field: account.get(field, 0) for field in FIELDS}


def test_accounts_are_what_a_recount_of_the_bytes_says(world: World) -> None:
    book, _ = accounts.kept(world.corpus, world.version, SERVED)
    totals, *tables_ = literal(world)
    assert whole(book.totals) == whole(totals)
    for mine, theirs in zip((book.contributors, book.licenses, book.pairs), tables_, strict=True):
        assert {key: whole(one) for key, one in mine.items()} == {
            key: whole(one) for key, one in theirs.items()
        }
    assert {"nobody", "acme:c3"} <= book.contributors.keys()
    assert book.licenses["unknown"]["times_seen"] > 0  # of what is admitted no more
    assert all(totals[field] for field in FIELDS)


def test_every_run_is_listed_with_what_it_passed(world: World) -> None:
    book, read = accounts.kept(world.corpus, world.version)
    listed = {(one.reading.run.identity, one.reading.name): one.counts for one in read}
    assert listed.keys() == {("alone", MAIN), ("both", MAIN), ("both", "instruct")}
    for field in ("times_seen", "times_retrieved"):
        assert sum(counts[field] for counts in listed.values() if counts) == book.totals[field]


def test_counts_do_not_hang_on_how_many_rows_are_worked_out_at_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, _ = accounts.kept(world.corpus, world.version)
    monkeypatch.setattr(tallies, "ROWS_AHEAD", 4)
    after, _ = accounts.kept(world.corpus, world.version)
    assert (after.totals, after.pairs) == (before.totals, before.pairs)


def test_a_tally_grows_beyond_its_first_room() -> None:
    tally = tallies.Tally()
    for first in (0, 1000, 2000, 1000):
        uids = [f"acme:{number}" for number in range(first, first + 1000)]
        tally.add(uids, np.arange(4000).reshape(1000, 4))
    found = {uid: counts.tolist() for uid, counts in tally}
    assert len(found) == 3000
    assert found["acme:2999"] == [3996, 3997, 3998, 3999]
    assert found["acme:1001"] == [8, 10, 12, 14]


def test_a_run_whose_packs_are_gone_is_unknown_and_in_no_count(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = world_of(Store.at(tmp_path / "corpus"))
    corpus, read = found.corpus, {MAIN: (found.corpus, found.version)}
    begin(read, "old")
    saw(read, {}, "old", replay(found, "alone", 3)[1])
    newer = packs.slots(corpus, found.version, TRAIN)
    files, infos = shards.files(
        [row(n, np.random.default_rng(9)) for n in range(4)], PACKING, fingerprint="f"
    )
    made = publish_shard(corpus.store, "pack", "new", Made(files=files, facts={"packs": infos}))
    artifact = Artifact(step="pack", key="new", settings={}, inputs={}, shards={"00000-train-00000": made})
    publish_artifact(corpus.store, artifact)
    with corpus.writing(purpose="test") as lease:
        listed = {**found.version.artifacts, "pack": "new"}
        version = corpus.publish(lease, found.version, replace(found.version, artifacts=listed))
    book, (one,) = accounts.kept(corpus, version)  # of packs that the version lists no more
    assert one.counts is not None
    assert one.counts["times_seen"] == book.totals["times_seen"] > 0
    assert book.totals["target_image_tokens"] == image_tokens(found, version)
    corpus.store.delete([newer[-1].name(file) for file in newer[-1].files])
    book, (one,) = accounts.kept(corpus, version)
    assert one.counts is None
    assert book.totals["times_seen"] == 0
    ledger.ledger(out=str(tmp_path / "out"), options=ReadOptions(corpus=corpus.store.uri))
    assert "run old: unknown, and in no count: its packs are gone" in capsys.readouterr().out
    (run,) = pq.read_table(tmp_path / "out" / "runs.parquet").to_pylist()
    assert (run["is_known"], run["times_seen"], run["times_retrieved"]) == (False, None, None)
    assert rows_of(tmp_path / "out" / "runs.csv")[0]["times_seen"] == ""
    # What the version itself lists must be there.
    corpus.store.delete([made.name(file) for file in made.files])
    with pytest.raises(Missing, match="lists packs of step 'pack' that are not all there"):
        accounts.kept(corpus, version)


def compacted(world: World, key: str, found: Mapping[str, Any], origins: Mapping[str, str]) -> Version:
    """A version with other packs, whose manifest stands for those before, which are erased."""
    corpus, head = world.corpus, world.version
    old = load_artifact(corpus.store, "pack", head.artifacts["pack"])
    publish_artifact(corpus.store, replace(old, key=key, shards=found))
    forward_artifact(corpus.store, old, key)
    kept_files = {shard.name(file) for shard in found.values() for file in shard.files}
    erased = {shard.name(file) for shard in old.shards.values() for file in shard.files} - kept_files
    corpus.store.delete(sorted(erased))
    listed = {**head.artifacts, "pack": key}
    with corpus.writing(purpose="test") as lease:
        return corpus.publish(lease, head, replace(head, artifacts=listed, origins=origins))


def blanked(found: World, gone: str) -> dict[str, Shard]:
    """The packs' shards with an asset's tokens and its name taken out."""
    rewritten = {}
    for slot, shard in load_artifact(found.corpus.store, "pack", "key-0").shards.items():
        files, infos = {}, {}
        for name, info in shard.facts["packs"].items():
            data = found.corpus.store.read(shard.name(name))
            files[name], infos[name] = shards.rewritten(data, info, {gone}) or (data, info)
        made = Made(files=files, facts={"packs": infos})
        rewritten[slot] = publish_shard(found.corpus.store, "pack", f"blanked-{slot}", made)
    return rewritten


def ran(folder: Path) -> World:
    found = world_of(Store.at(folder))
    read = {MAIN: (found.corpus, found.version)}
    begin(read, "old")
    saw(read, {}, "old", replay(found, "alone", 3)[1])
    return found


def test_what_was_blanked_has_no_tokens_and_was_passed_all_the_same(tmp_path: Path) -> None:
    """Its name is gone from the packs with its tokens; a target takes its neighbors' tokens along."""
    found, gone = ran(tmp_path), ASSETS[0]
    before, _ = accounts.kept(found.corpus, found.version)
    seen, _ = replay(found, "alone", 3)
    places = {
        (sequence, span["document"], span["role"] == Role.NEIGHBOR)
        for sequence, span in spans(found, "pack", TRAIN)
        if span["uid"] == gone
    }
    version = compacted(found, "blanked", blanked(found, gone), {"pack": "key-0"})
    after, (run,) = accounts.kept(found.corpus, version)
    assert run.counts is not None
    for field, is_neighbor in (("times_seen", False), ("times_retrieved", True)):
        passes = sum(seen[MAIN, sequence] for sequence, _, role in places if role == is_neighbor)
        assert after.contributors["erased"][field] == passes
        assert after.totals[field] == before.totals[field]
    assert after.totals["times_seen"] > 0
    assert not any(after.contributors["erased"][field] for field in (*TOKENS, "held_out_tokens"))
    assert after.totals["target_image_tokens"] < before.totals["target_image_tokens"]
    blanks = Blocks(packs.listed(found.corpus, version, TRAIN), keep=1)
    left = sum(
        span["length"]
        for number in range(len(blanks))
        for row_T, spans_ in zip(
            blanks.block(number).tokens_RT, blanks.block(number).record["spans"].to_pylist(), strict=True
        )
        for span in spans_
        if row_T[span["start"] : span["start"] + span["length"]].any()
    )
    listed = {name: key for name, key in version.artifacts.items() if name != "instruct"}
    mine, _ = accounts.kept(found.corpus, replace(version, artifacts=listed))
    assert sum(mine.totals[field] for field in TOKENS) == left


def test_a_run_that_passed_what_was_erased_is_affected_by_each_asset_that_was(tmp_path: Path) -> None:
    """Packs name it no more; of what was not erased the answer is as before."""
    found, gone, stays = ran(tmp_path), ASSETS[0], ASSETS[1]
    (before,), (other,) = (affected(found.corpus, uid) for uid in (gone, stays))
    version = compacted(found, "blanked", blanked(found, gone), {"pack": "key-0"})
    assert affected(found.corpus, gone) == []  # nobody said that it was erased: as if it had never been
    with found.corpus.writing(purpose="test") as lease:
        told = erased.add(found.corpus, version, {"00000-000000": [gone]})
        found.corpus.publish(lease, version, told)
    (after,) = affected(found.corpus, gone)
    assert after == replace(before, is_named=False)
    assert after.is_affected
    assert affected(found.corpus, stays) == [other]


def test_packs_that_were_made_anew_in_place_of_a_runs_are_unknown_to_it(tmp_path: Path) -> None:
    """Their blocks are as large, and their order is another."""
    found = ran(tmp_path)
    other = packed(Store.at(tmp_path / "other"), 0)
    made = {}
    for slot, shard in load_artifact(found.corpus.store, "pack", "key-0").shards.items():
        files = {name: other.store.read(shard.name(name)) for name in shard.files}
        made[slot] = publish_shard(
            found.corpus.store, "pack", f"anew-{slot}", Made(files=files, facts=shard.facts)
        )
    version = compacted(found, "anew", made, {})
    book, (run,) = accounts.kept(found.corpus, version)
    assert run.counts is None
    assert book.totals["times_seen"] == 0
    assert book.totals["target_image_tokens"] > 0
    assert [(one.is_known, one.is_affected) for one in affected(found.corpus, ASSETS[0])] == [(False, True)]


def image_tokens(world: World, version: Version) -> int:
    found = World(world.corpus, version)
    return sum(
        span["length"]
        for step in ("pack", "instruct")
        for _, span in spans(found, step, TRAIN)
        if span["role"] != Role.NEIGHBOR and span["modality"] == Modality.IMAGE
    )


def test_the_tables_say_what_the_book_says(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ReadOptions(corpus=world.corpus.store.uri, json=True)
    usage = Usage(
        store=Store.at(tmp_path / "usage"),
        facts={"corpus": "c"},
        uids=pa.array(ASSETS),
        now=lambda: datetime(2026, 6, 1, tzinfo=UTC),
    )
    usage.begin()
    for uid, times in SERVED.items():
        for _ in range(times):
            usage.served(np.array([ASSETS.index(uid)]))
    asyncio.run(usage.flush())
    out = tmp_path / "out"
    ledger.ledger(out=str(out), usage=(usage.store.uri,), options=options)
    facts = json.loads(capsys.readouterr().out)
    book, read = accounts.kept(world.corpus, world.version, SERVED)
    assert facts["totals"] == whole(book.totals)
    assert (facts["contributors"], facts["licenses"]) == (4, 3)  # who is nobody, or unknown, is none
    instant = "2026-06-01T00:00:00+00:00"
    assert facts["served"] == {"files": 2, "since": instant, "until": instant}
    assert [run["identity"] for run in facts["runs"]] == [one.reading.run.identity for one in read]
    for name, keys, told_of in (
        ("contributors", ("contributor",), {(key,): one for key, one in book.contributors.items()}),
        ("licenses", ("license",), {(key,): one for key, one in book.licenses.items()}),
        ("contributors-licenses", ("contributor", "license"), book.pairs),
    ):
        parquet = pq.read_table(out / f"{name}.parquet").to_pylist()
        assert {tuple(line[key] for key in keys): whole(line) for line in parquet} == {
            key: whole(one) for key, one in told_of.items()
        }
        lines = rows_of(out / f"{name}.csv")
        told = [{key: "" if value is None else str(value) for key, value in line.items()} for line in parquet]
        assert lines == told
    assert {*facts["files"]} == {str(path) for path in out.iterdir()}


def rows_of(path: Path) -> list[dict[str, str]]:
    return [*csv.DictReader(path.read_text().splitlines())]


def test_an_empty_book_has_no_accounts() -> None:
    assert whole(Book().totals) == dict.fromkeys(FIELDS, 0)


def test_packs_that_were_never_made_are_none(world: World) -> None:
    assert Packed.find(world.corpus, "pack", "other") is None
