"""Which runs saw an asset: held against a literal replay of what their streams read."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra import runs
from infra.artifact import Artifact, Corrupt, Made, publish_artifact, publish_shard
from infra.corpus import EMPTY, Corpus, Version
from infra.options import ReadOptions
from infra.storage import Store
from pipeline import packs, shards
from pipeline.blocks import Blocks
from pipeline.pack import Document, PackConfig, Pair, lay_out
from pipeline.packed import Laid, Role, Row, Via
from pipeline.split import TRAIN
from trainer.affected import Affected, affected, models_affected
from trainer.order import MAIN, EpochOrder, Part, Source, State, StreamSection, Walk
from trainer.seen import saw
from trainer.sources import Opened, SourceSection
from trainer.stream import Mixed, PackedStream, tokens

ASSETS = tuple(f"acme:{number}" for number in range(9))
PACKING = PackConfig(context=127, max_spans=2, block_rows=3, shard_bytes=11000)
NUM_ROWS = 41
Told = dict[str, Any]


def pair(uid: str, *, neighbor: bool) -> Pair:
    return Pair(
        uid=uid,
        revision=0,
        text_ids=np.arange(3, dtype=np.uint16),
        code_ids=np.arange(8, dtype=np.uint16),
        via=Via.IMAGE if neighbor else Via.NOTHING,
    )


def instructing(laid: Laid) -> Laid:
    given = {Role.NEIGHBOR: Role.GIVEN, Role.TARGET: Role.TARGET}
    return replace(laid, spans=tuple(replace(span, role=given[span.role]) for span in laid.spans))


def row(number: int, rng: np.random.Generator) -> Row:
    """One to three documents, each of a target behind up to two neighbors; in every third row the target is
    an answer, and they are what it is given. Nobody draws the last asset.
    """
    documents = []
    for _ in range(int(rng.integers(1, 4))):
        named = rng.choice(ASSETS[:-1], size=int(rng.integers(1, 4)), replace=False).tolist()
        pairs = (*(pair(uid, neighbor=True) for uid in named[1:]), pair(named[0], neighbor=False))
        laid = lay_out(Document(example_id=f"{number}", pairs=pairs))
        documents.append(instructing(laid) if number % 3 == 0 else laid)
    return tuple(documents)


def packed(store: Store, seed: int) -> Corpus:
    """A corpus of one version, of which only packs were made: two slots for training, one of another kind."""
    corpus, rng = Corpus(store), np.random.default_rng(seed)
    made = {}
    for slot, num_rows in (
        ("00000-train-00000", 23),
        ("00001-train-00000", 18),
        ("00000-validation-00000", 5),
    ):
        written = [*shards.write([row(n, rng) for n in range(num_rows)], PACKING, fingerprint="f")]
        files = {f"{number:05d}.arrow": data for number, (data, _) in enumerate(written)}
        infos = {f"{number:05d}.arrow": info for number, (_, info) in enumerate(written)}
        made[slot] = publish_shard(
            corpus.store, "pack", f"{slot}-{seed}", Made(files=files, facts={"packs": infos})
        )
    key = f"key-{seed}"
    publish_artifact(corpus.store, Artifact(step="pack", key=key, settings={}, inputs={}, shards=made))
    with corpus.writing(purpose="test") as lease:
        corpus.publish(lease, EMPTY, replace(EMPTY, artifacts={"pack": key}))
    return corpus


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> tuple[Corpus, Corpus]:
    folder = tmp_path_factory.mktemp("affected")
    return packed(Store.at(folder / "main"), 0), packed(Store.at(folder / "edits"), 1)


def fresh(corpus: Corpus) -> Corpus:
    corpus.store.delete(corpus.store.names("runs/"))
    return corpus


def begin(read: Opened, identity: str, **facts: Any) -> None:
    for one in read.values():
        runs.record(*one, identity=identity, facts=facts)


def mixed(read: Opened) -> dict[str, Mixed]:
    return {
        name: Mixed(shards=packs.listed(*one, TRAIN), weight=1.0 if name == MAIN else 0.5)
        for name, one in read.items()
    }


def spans_of(corpus: Corpus, version: Version) -> list[list[Told]]:
    """Of every row, in the order that numbers the sequences, read as Python objects."""
    blocks = Blocks(packs.listed(corpus, version, TRAIN), keep=1)
    return [
        spans for number in range(len(blocks)) for spans in blocks.block(number).record["spans"].to_pylist()
    ]


def replayed(read: Opened, order: StreamSection, num_steps: int) -> tuple[Counter[tuple[str, int]], State]:
    """How often each (source, sequence) came in so many steps of a stream, and where it then stands."""
    stream = PackedStream(mixed(read), stream=order, view=tokens)
    cursor = stream.cursor(view=lambda rows: rows.taken)
    names, seen = sorted(read), Counter[tuple[str, int]]()
    for _ in range(num_steps):
        taken = next(cursor)
        seen.update(zip((names[m] for m in taken.source_B), taken.sequence_B.tolist(), strict=True))
    return seen, cursor.state()


def literal(rows: Sequence[Sequence[Told]], seen: Counter[tuple[str, int]], name: str, uid: str) -> Told:
    """What is to be told of an asset, row by row and span by span."""
    roles = [{span["role"] for span in spans if span["uid"] == uid} for spans in rows]
    holds = [sequence for sequence, found in enumerate(roles) if found]
    return {
        "num_sequences": len(holds),
        "num_as_target": sum(not found.isdisjoint({Role.TARGET, Role.GIVEN}) for found in roles),
        "num_as_neighbor": sum(Role.NEIGHBOR in found for found in roles),
        "num_passed": sum(seen[name, sequence] > 0 for sequence in holds),
        "times": sum(seen[name, sequence] for sequence in holds),
    }


def counts(one: Affected) -> Told:
    return {name: asdict(one)[name] for name in literal([], Counter(), "", "")}


ORDERS = st.builds(
    StreamSection,
    seed=st.integers(0, 2**32),
    rows_per_step=st.integers(1, 7),
    lanes=st.integers(1, 6),
    window_blocks=st.integers(1, 3),
)


@given(ORDERS, st.integers(0, 3), st.lists(st.integers(0, 5), min_size=1, max_size=12).filter(any))
def test_where_a_sequence_stands_is_the_inverse_of_what_stands_there(
    order: StreamSection, epoch: int, block_rows: list[int]
) -> None:
    rows = np.array(block_rows, np.int64)
    there = EpochOrder(rows, order, epoch).sequences(np.arange(rows.sum()))
    back = EpochOrder(rows, order, epoch).positions(there)
    assert back.tolist() == list(range(rows.sum()))


@settings(max_examples=20)
@given(ORDERS, st.integers(0, 40))
def test_counts_are_those_of_a_literal_replay(
    corpora: tuple[Corpus, Corpus], order: StreamSection, num_steps: int
) -> None:
    corpus = fresh(corpora[0])
    read = {MAIN: (corpus, corpus.newest())}
    begin(read, "one", folder="somewhere")
    seen, state = replayed(read, order, num_steps)
    saw(read, {}, "one", json.loads(json.dumps(state)))
    rows = spans_of(*read[MAIN])
    for uid in ASSETS[:-1]:
        (found,) = affected(corpus, uid)
        assert counts(found) == literal(rows, seen, MAIN, uid)
        assert found.is_affected == (found.times > 0)
        assert (found.identity, found.folder, found.version) == ("one", "somewhere", 1)
    assert affected(corpus, ASSETS[-1]) == []


@settings(max_examples=8)
@given(ORDERS, st.integers(0, 60))
def test_each_corpus_of_a_mixture_answers_for_itself(
    corpora: tuple[Corpus, Corpus], order: StreamSection, num_steps: int
) -> None:
    """One of them is read under two names."""
    main, edits = (fresh(corpus) for corpus in corpora)
    read = {"again": (main, main.newest()), "edits": (edits, edits.newest()), MAIN: (main, main.newest())}
    begin(read, "mixed")
    seen, state = replayed(read, order, num_steps)
    saw(read, {"again": SourceSection(), "edits": SourceSection()}, "mixed", state)
    for corpus, names in ((main, {MAIN, "again"}), (edits, {"edits"})):
        rows = spans_of(corpus, corpus.newest())
        found = {one.source: counts(one) for one in affected(corpus, ASSETS[0])}
        assert found == {name: literal(rows, seen, name, ASSETS[0]) for name in names}


def test_an_asset_of_the_first_epoch_is_found_and_one_behind_the_stop_is_not(
    corpora: tuple[Corpus, Corpus],
) -> None:
    corpus = fresh(corpora[0])
    read = {MAIN: (corpus, corpus.newest())}
    order = StreamSection(rows_per_step=1, lanes=4)
    begin(read, "short")
    rows = spans_of(*read[MAIN])
    uids = [{span["uid"] for span in spans} for spans in rows]
    whole = [*Walk([source(corpus)], order, Part()).look_ahead().sequence_B[:NUM_ROWS]]
    first = {uid: next(step for step, n in enumerate(whole) if uid in uids[n]) for uid in ASSETS[:-1]}
    latest = max(first, key=lambda uid: first[uid])
    _, state = replayed(read, order, first[latest])
    saw(read, {}, "short", state)
    (found,) = affected(corpus, latest)
    assert (found.is_affected, found.times) == (False, 0)
    assert found.num_sequences > 0
    _, state = replayed(read, order, first[latest] + 1)
    saw(read, {}, "short", state)
    (found,) = affected(corpus, latest)
    assert (found.is_affected, found.times, found.num_passed) == (True, 1, 1)
    _, state = replayed(read, order, NUM_ROWS)
    saw(read, {}, "short", state)
    (found,) = affected(corpus, latest)
    assert found.num_passed == found.times == found.num_sequences


def source(corpus: Corpus) -> Source:
    listed = packs.listed(corpus, corpus.newest(), TRAIN)
    return Source(block_rows=np.array([one["rows"] for shard in listed for one in shard.info["blocks"]]))


def test_records_are_written_beside_each_other_and_the_farthest_counts(
    corpora: tuple[Corpus, Corpus],
) -> None:
    """A run that was stopped and goes on from its checkpoint tells the same positions again."""
    corpus = fresh(corpora[0])
    read = {MAIN: (corpus, corpus.newest())}
    order = StreamSection(rows_per_step=5)
    begin(read, "long")
    (before,) = affected(corpus, ASSETS[0])
    assert (before.is_affected, before.epoch, before.row) == (False, 0, 0)
    for num_steps in (2, 11, 4, 11):
        saw(read, {}, "long", replayed(read, order, num_steps)[1])
    names = [f"runs/long/{position:012d}.json" for position in (10, 20, 55)]
    assert corpus.store.names("runs/") == ["runs/long.json", *names]
    (found,) = affected(corpus, ASSETS[0])
    assert (found.epoch, found.row) == (1, 55 - NUM_ROWS)


def test_the_command_tells_people_and_machines(
    corpora: tuple[Corpus, Corpus], capsys: pytest.CaptureFixture[str]
) -> None:
    corpus = fresh(corpora[0])
    read = {MAIN: (corpus, corpus.newest())}
    begin(read, "told", folder="runs/told")
    saw(read, {}, "told", replayed(read, StreamSection(rows_per_step=NUM_ROWS), 2)[1])
    place = str(corpus.store.uri)
    models_affected(ASSETS[0], options=ReadOptions(corpus=place, json=True))
    (facts,) = json.loads(capsys.readouterr().out)
    assert facts["is_affected"]
    assert facts["times"] == 2 * facts["num_sequences"] == 2 * facts["num_passed"]
    models_affected(ASSETS[0], options=ReadOptions(corpus=place))
    assert "run told (runs/told), version 1: affected;" in capsys.readouterr().out
    models_affected(ASSETS[-1], options=ReadOptions(corpus=place))
    assert "no run on this corpus" in capsys.readouterr().out
    with pytest.raises(ValueError, match="write it as PROVIDER:ASSET_ID"):
        models_affected("0001", options=ReadOptions(corpus=place))


def test_a_run_whose_packs_are_gone_counts_as_affected(store: Store) -> None:
    """On a disk and in an object store; before they are gone, both are read."""
    corpus = packed(store, 2)
    read = {MAIN: (corpus, corpus.newest())}
    begin(read, "old")
    seen, state = replayed(read, StreamSection(rows_per_step=5), 3)
    saw(read, {}, "old", state)
    (found,) = affected(corpus, ASSETS[0])
    assert counts(found) == literal(spans_of(*read[MAIN]), seen, MAIN, ASSETS[0])
    (shard,) = packs.slots(corpus, corpus.newest(), TRAIN)[:1]
    corpus.store.delete([shard.name(file) for file in shard.files])
    (found,) = affected(corpus, ASSETS[0])
    assert (found.is_known, found.is_affected) == (False, True)


def test_a_record_of_other_packs_under_the_same_key_is_corrupt(corpora: tuple[Corpus, Corpus]) -> None:
    corpus = fresh(corpora[0])
    read = {MAIN: (corpus, corpus.newest())}
    begin(read, "other")
    state = replayed(read, StreamSection(rows_per_step=5), 3)[1]
    state["sources"][MAIN]["blocks"] = "of others"
    saw(read, {}, "other", state)
    with pytest.raises(Corrupt, match="run other read packs key-0 with blocks of others"):
        affected(corpus, ASSETS[0])
