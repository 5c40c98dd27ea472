"""The card of a corpus that was built to its packs: what they show is counted again from their bytes."""

from __future__ import annotations

import collections
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infra.cli import run
from tests.laws.conftest import TINY, Deliveries, sample

pytestmark = [pytest.mark.long, pytest.mark.plan]
NUM_PICTURES = 24


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The corpus's folder, and its card."""
    folder = tmp_path_factory.mktemp("built")
    (folder / "tiny.toml").write_text(TINY)
    samples = [sample(number, contributor={"id": f"c{number % 3}"}) for number in range(NUM_PICTURES)]
    uri = Deliveries(folder).write(samples)
    corpus = ["--corpus", str(folder / "corpus")]
    words = [*corpus, "--config", str(folder / "tiny.toml"), "--engine", "inline"]
    assert run(["ingest", uri, "--as-of", "2026-06-01T00:00:00Z", *words]) == 0
    assert run(["build", *words]) == 0
    assert run(["card", "--out", str(folder / "card"), *corpus]) == 0
    found: dict[str, Any] = json.loads((folder / "card" / "card.json").read_text())
    return folder / "corpus", found


def shards(corpus: Path, card: dict[str, Any], step: str) -> list[tuple[str, Path]]:
    manifest = corpus / "artifacts" / step / f"{card['artifacts'][step]}.json"
    listed = json.loads(manifest.read_text())["shards"]
    return [(slot, corpus / "shards" / step / one["key"]) for slot, one in sorted(listed.items())]


def test_what_packs_show_is_what_their_bytes_say(made: tuple[Path, dict[str, Any]]) -> None:
    corpus, card = made
    rows = [
        row
        for _, folder in shards(corpus, card, "split")
        for row in pq.read_table(folder / "rows.parquet", columns=["uid", "outcome", "split"]).to_pylist()
    ]
    members = {row["uid"] for row in rows if row["outcome"] == "kept" and row["split"] == "train"}
    shown: collections.Counter[str] = collections.Counter()
    for slot, folder in shards(corpus, card, "pack"):
        if "-train-" in slot:
            for path in sorted(folder.glob("*.arrow")):
                for row in pa.ipc.open_file(pa.memory_map(str(path))).read_all()["spans"].to_pylist():
                    shown.update(one["uid"] for one in row if (one["modality"], one["role"]) == (1, 1))
    found = card["figures"]["retrieval.shown"]["values"]
    assert set(shown) <= members
    assert (found["members"], found["citations"]) == (len(members), shown.total())
    assert found["never_cited"] == len(members - set(shown))
    assert found["most_cited"] == max(shown.values())
    assert shown.total() > 0


def test_tokens_of_contributors_are_those_of_the_packs(made: tuple[Path, dict[str, Any]]) -> None:
    corpus, card = made
    tokens = sum(
        one["length"]
        for slot, folder in shards(corpus, card, "pack")
        if "-train-" in slot
        for path in folder.glob("*.arrow")
        for row in pa.ipc.open_file(pa.memory_map(str(path))).read_all()["spans"].to_pylist()
        for one in row
    )
    assert card["figures"]["contributors.tokens"]["values"]["tokens"] == tokens


def test_of_a_corpus_that_is_only_ingested_the_rest_is_said_to_be_unmeasured(
    made: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    corpus, built = made
    copied = tmp_path / "corpus"
    for name in ("artifacts", "shards", "deliveries", "registers"):
        (copied / name).parent.mkdir(parents=True, exist_ok=True)
        (copied / name).symlink_to(corpus / name)
    (copied / "versions").mkdir()
    (copied / "versions" / "000001.json").write_bytes((corpus / "versions" / "000001.json").read_bytes())
    assert run(["card", "--out", str(tmp_path / "card"), "--corpus", str(copied)]) == 0
    card = json.loads((tmp_path / "card" / "card.json").read_text())
    assert set(built["figures"]) - set(card["figures"]) == {
        "retrieval.candidates",
        "retrieval.shown",
        "contributors.tokens",
        "safety.duplicates",
    }
    assert sum(one.startswith("Not measured: ") for one in card["limits"]) == 3
    assert "Not measured: the version has no neighbors." in (tmp_path / "card" / "card.html").read_text()
    assert np.isclose(sum(row["share"] for row in card["figures"]["rights.tier"]["values"]), 1)
