"""Packs by command: shown, copied to other loaders, and read without what was taken back."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pytest

from infra.cli import run
from infra.corpus import Corpus
from infra.storage import Store
from pipeline import packs, refused
from pipeline.blocks import Blocks
from pipeline.packed import Role
from pipeline.split import TRAIN
from tokenizer_service import vocabulary
from trainer import sources
from trainer.order import MAIN, StreamSection
from trainer.sources import SourceSection
from trainer.stream import PackedStream, tokens

from .conftest import TINY, Deliveries, license_, revoke, sample

pytestmark = [pytest.mark.plan, pytest.mark.timeout(240)]
MISTAKE = 2


@dataclass(frozen=True, slots=True)
class World:
    corpus: Corpus
    options: list[str]
    deliveries: Deliveries
    config: Path


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Thirty pictures, every third under a licence that lets nobody see it."""
    folder = tmp_path_factory.mktemp("packs")
    shown = license_(license_id="shown")
    hidden = license_(license_id="hidden", uses={**shown.uses.model_dump(), "retrieval_display": "deny"})
    samples = [sample(n, license_ids=["hidden" if n % 3 == 0 else "shown"]) for n in range(30)]
    deliveries = Deliveries(folder)
    uri = deliveries.write(samples, {"shown": shown, "hidden": hidden})
    config = folder / "tiny.toml"
    config.write_text(TINY)
    options = ["--corpus", str(folder / "corpus")]
    made = [*options, "--config", str(config), "--engine", "inline"]
    assert run(["ingest", uri, "--as-of", "2026-06-01T00:00:00Z", *made]) == 0
    assert run(["build", *made]) == 0
    return World(Corpus(Store.at(folder / "corpus")), options, deliveries, config)


def told(words: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    capsys.readouterr()
    assert run([*words, "--json"]) == 0
    found: dict[str, object] = json.loads(capsys.readouterr().out)
    return found


def every_span(world: World, kind: str = TRAIN) -> list[dict[str, object]]:
    blocks = Blocks(packs.listed(world.corpus, world.corpus.newest(), kind), keep=1)
    return [
        span
        for number in range(len(blocks))
        for spans in blocks.block(number).record["spans"].to_pylist()
        for span in spans
    ]


def test_the_manifest_counts_by_licence_and_by_contributor_what_lies_in_the_rows(world: World) -> None:
    found = packs.slots(world.corpus, world.corpus.newest(), TRAIN)
    licenses, holders = packs.by_license(found), packs.by_contributor(world.corpus.store, found)
    tokens_of, pairs_of = Counter[str](), Counter[str]()
    for span in every_span(world):
        name = "hidden" if int(str(span["uid"])[-4:]) % 3 == 0 else "shown"
        provider = str(span["uid"]).partition(":")[0]
        tokens_of[f"{provider}:{name}"] += span["length"]  # type: ignore[operator]
        pairs_of[f"{provider}:{name}"] += span["modality"] == 1
    assert {name: amount["tokens"] for name, amount in licenses.items()} == dict(tokens_of)
    assert {name: amount["pairs"] for name, amount in licenses.items()} == dict(pairs_of)
    assert sum(amount["tokens"] for amount in holders.values()) == sum(tokens_of.values())
    assert len(tokens_of) == 2


def test_status_tells_how_full_rows_are_and_how_full_they_could_be(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert run(["status", *world.options]) == 0
    assert "none exceeds" in capsys.readouterr().out
    fill = told(["status", *world.options], capsys)["packs"]
    assert fill["tokens"] > 0  # type: ignore[index]


def test_a_row_is_shown_with_its_words_licences_and_neighbors(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "rows.html"
    facts = told(["packs", "inspect", *world.options, "--page", str(page)], capsys)
    documents = [document for row in facts["rows"] for document in row["documents"]]  # type: ignore[attr-defined]
    spans = [span for document in documents for span in document["spans"]]
    for document in documents:
        *neighbors, text, image = document["spans"]
        assert (text["role"], image["role"]) == ("target", "target")
        assert document["example_id"].startswith(text["uid"])
        assert all(one["score"] is not None and one["via"] in {"image", "text"} for one in neighbors)
        number = int(text["uid"][-4:])
        assert text["licenses"] == ["hidden" if number % 3 == 0 else "shown"]
        assert text["text"]
    html = page.read_text()
    shown = [s for s in spans if s["modality"] == "image" and s["may_be_shown"]]
    hidden = [s for s in spans if s["modality"] == "image" and not s["may_be_shown"]]
    assert html.count('src="data:image/png') == len(shown)
    assert html.count("no licence grants retrieval_display") == len(hidden)
    assert shown
    assert hidden


def test_rows_are_found_by_asset_and_a_number_beyond_them_is_refused(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    uid = str(every_span(world)[0]["uid"])
    facts = told(["packs", "inspect", *world.options, "--uid", uid], capsys)
    for row in facts["rows"]:  # type: ignore[attr-defined]
        assert uid in {span["uid"] for document in row["documents"] for span in document["spans"]}
    for words, fix in (
        (["--sequence", "9999"], "the rows are numbered 0 to"),
        (["--uid", "nobody:1"], "no row holds 'nobody:1'"),
        (["--kind", "test"], "--kind test: there are train"),
    ):
        capsys.readouterr()
        assert run(["packs", "inspect", *world.options, *words]) == MISTAKE
        assert fix in capsys.readouterr().err


def test_a_copy_for_mosaic_holds_the_rows_and_their_spans(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the layout of MDS 2; the benchmark reads the same copy with the library itself."""
    out = tmp_path / "mds"
    facts = told(["packs", "export", str(out), "--format", "mds", *world.options], capsys)
    rows = []
    for shard in json.loads((out / "index.json").read_text())["shards"]:
        data = (out / shard["raw_data"]["basename"]).read_bytes()
        assert len(data) == shard["raw_data"]["bytes"]
        count = int(np.frombuffer(data, "<u4", 1)[0])
        ends = np.frombuffer(data, "<u4", count + 1, 4).tolist()
        assert (count, ends[-1]) == (shard["samples"], len(data))
        for begin, end in pairwise(ends):
            size = int(np.frombuffer(data, "<u4", 1, begin)[0])
            num_tokens = int(np.frombuffer(data, "<i8", 1, begin + 4)[0])
            spans = json.loads(data[begin + 12 : begin + 12 + size])
            rows.append((num_tokens, spans, np.frombuffer(data[begin + 12 + size : end], "<u2").tolist()))
    assert len(rows) == facts["rows"]
    assert [span for _, spans, _ in rows for span in spans] == every_span(world)
    assert [ids for _, _, ids in rows] == whole(world)
    assert all(not any(ids[num:]) and ids[num - 1] for num, _, ids in rows)
    capsys.readouterr()
    assert run(["packs", "export", str(out), "--format", "mds", *world.options]) == MISTAKE
    assert "is not empty" in capsys.readouterr().err


def whole(world: World) -> list[list[int]]:
    blocks = Blocks(packs.listed(world.corpus, world.corpus.newest(), TRAIN), keep=1)
    return [ids.tolist() for number in range(len(blocks)) for ids in blocks.block(number).tokens_RT]


def test_a_copy_for_litdata_holds_the_rows(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "litdata"
    told(["packs", "export", str(out), "--format", "litdata", *world.options], capsys)
    rows = []
    for chunk in json.loads((out / "index.json").read_text())["chunks"]:
        data = (out / chunk["filename"]).read_bytes()
        assert len(data) == chunk["chunk_bytes"]
        ends = np.frombuffer(data, "<u4", chunk["chunk_size"] + 1, 4).tolist()
        rows += [np.frombuffer(data[a:b], "<u2").tolist() for a, b in pairwise(ends)]
        assert chunk["dim"] == sum(map(len, rows[-chunk["chunk_size"] :]))
    assert rows == whole(world)


def test_another_corpus_of_the_same_tokenizers_is_mixed_in_by_its_weight(world: World) -> None:
    version = world.corpus.newest()
    section = SourceSection(corpus=world.corpus.store.uri, weight=0.25)
    pinned = sources.pinned({"again": section})
    assert pinned["again"].version == version.number
    mixed = sources.mixed(sources.opened(world.corpus, version, pinned), pinned, revoked={})
    assert list(mixed) == [MAIN, "again"]
    stream = PackedStream(mixed, stream=StreamSection(rows_per_step=8), view=tokens)
    for _ in islice(stream, 512):
        pass
    state = stream.state_dict()["sources"]
    taken = {name: one["epoch"] * one["rows"] + one["row"] for name, one in state.items()}
    assert sum(taken.values()) == 4096
    assert taken["again"] == 819
    assert sources.identity(version, pinned) == [["again", 0.25, version.artifacts["pack"]]]


def test_what_a_newer_version_takes_back_is_read_as_padding_from_the_older_packs(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The last test here: it adds a version, whose packs are not made again."""
    before = world.corpus.newest()
    assert refused.uids(world.corpus, before) == frozenset()
    listed = packs.listed(world.corpus, before, TRAIN)
    spans = every_span(world)
    gone = str(next(span["uid"] for span in spans if span["role"] == Role.NEIGHBOR))
    uri = world.deliveries.write([sample(100)])
    revoke(uri, target_type="asset", targets=[gone.partition(":")[2]])
    made = [*world.options, "--config", str(world.config), "--engine", "inline"]
    assert run(["ingest", uri, "--as-of", "2026-06-02T00:00:00Z", *made]) == 0
    assert refused.uids(world.corpus, before) == {gone}
    blocks = Blocks(packs.listed(world.corpus, before, TRAIN, revoked={gone}), keep=1)
    plain = Blocks(listed, keep=1)
    blanked = 0
    for number in range(len(blocks)):
        one, other = blocks.block(number), plain.block(number)
        assert one.record.equals(other.record)
        rows = zip(one.tokens_RT, other.tokens_RT, one.record.to_pylist(), strict=True)
        for ids_T, plain_T, told_ in rows:
            gone_T = np.zeros(len(ids_T), bool)
            for span in told_["spans"]:
                if span["uid"] == gone:
                    place = told_["documents"][span["document"]] if span["role"] == Role.TARGET else span
                    gone_T[place["start"] : place["start"] + place["length"]] = True
            blanked += int(gone_T.sum())
            assert (ids_T[gone_T] == vocabulary.PAD).all()
            assert (ids_T[~gone_T] == plain_T[~gone_T]).all()
    assert blanked > 0
