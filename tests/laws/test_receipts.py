"""What a receipt tells is what was done, and a dead process leaves none out."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from infra.corpus import Corpus, Version
from infra.storage import LocalStore, Store
from infra.telemetry import Log
from pipeline import audit, erasing, receipts, refs
from pipeline.config import Config
from pipeline.engine import Inline
from pipeline.jobs import Job
from pipeline.neighbors import NEIGHBORS
from pipeline.receipts import Receipt
from pipeline.revoking import taking
from pipeline.sealing import Seal

from .conftest import AS_OF, Build, Deliveries, sample
from .test_deduplication import larger
from .test_revocation import GONE, Crash, revocation, revoked, samples

pytestmark = [pytest.mark.plan, pytest.mark.timeout(300)]


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    return Corpus(Store.at(tmp_path / "corpus"))


def newest(corpus: Corpus) -> Receipt:
    return next(receipts.read(corpus.store, newest_first=True)).receipt


def test_a_receipt_tells_of_its_own_revocation_and_counts_what_changed(
    corpus: Corpus, deliveries: Deliveries, built: Build, tiny: Config
) -> None:
    before = built(corpus, [deliveries.write(samples())], Inline())
    lists = cited(corpus, before)
    version = revoked(corpus, tiny, [revocation(*GONE)])
    first, left = newest(corpus), cited(corpus, version)
    assert first.revocation_ids == ("taken-back",)
    assert (first.version_before, first.version_after) == (version.number - 1, version.number)
    assert first.examples.dropped == len(lists) - len(left) == len(GONE)
    assert first.examples.regenerated == sum(lists[uid] != some for uid, some in left.items()) > 0
    assert first.examples.blanked >= len(GONE)
    assert first.index is not None
    assert first.index.ntotal_after == first.index.ntotal_before - first.index.removed + first.index.added
    assert any(one.startswith("bpe/") for one in first.residue)
    later = revocation("a0007", revocation_id="later", effective_at="2026-05-20T00:00:00Z")
    revoked(corpus, tiny, [later])
    second = newest(corpus)
    assert second.revocation_ids == ("later",)
    assert second.effective_at == "2026-05-20T00:00:00+00:00"


def cited(corpus: Corpus, version: Version) -> dict[str, object]:
    found = {}
    for shard in corpus.artifact(version, "neighbors").shards.values():
        table = erasing.table_of(NEIGHBORS, refs.of(corpus.store, shard, NEIGHBORS).read())
        found |= {row["uid"]: row["candidates"] for row in table.to_pylist()}
    return found


def test_what_was_in_no_model_leaves_no_residue(
    corpus: Corpus, deliveries: Deliveries, built: Build, tiny: Config
) -> None:
    """A near-duplicate was fitted on by none; the one that stays for it is listed for a person."""
    built(corpus, [deliveries.write([larger(3, "again-3"), *samples()])], Inline())
    revoked(corpus, tiny, [revocation("a0003")])
    assert newest(corpus).residue == ()
    assert newest(corpus).index is not None


class Dying(LocalStore):
    """A store whose process dies as it is about to write into a folder."""

    __slots__ = ()
    folder = ""

    def create(self, name: str, data: bytes) -> bool:
        if name.startswith(self.folder):
            raise Crash
        return LocalStore.create(self, name, data)


class WithoutReceipt(Dying):
    __slots__ = ()
    folder = "receipts/"


class WithoutLog(Dying):
    __slots__ = ()
    folder = "audit/"


@pytest.mark.parametrize("dying", [WithoutReceipt, WithoutLog])
def test_a_receipt_and_a_line_that_a_dead_process_left_out_are_written_by_the_next(
    corpus: Corpus, deliveries: Deliveries, built: Build, tiny: Config, tmp_path: Path, dying: type[Dying]
) -> None:
    built(corpus, [deliveries.write(samples())], Inline())
    whole = tmp_path / "whole"
    shutil.copytree(tmp_path / "corpus", whole)
    revoked(Corpus(Store.at(whole)), tiny, [revocation(*GONE)])
    with pytest.raises(Crash):
        revoked(Corpus(dying(corpus.store.uri)), tiny, [revocation(*GONE)])
    revoked(corpus, tiny, [])
    expected = newest(Corpus(Store.at(whole)))
    told = newest(corpus)
    assert (told.artifacts, told.examples, told.index) == (
        expected.artifacts,
        expected.examples,
        expected.index,
    )
    types = [entry.type for entry in audit.entries(corpus.store)]
    assert [types.count(kind) for kind in ("revocation_loaded", "compaction_done")] == [1, 1]


def test_near_duplicates_are_listed_for_a_person(
    corpus: Corpus, deliveries: Deliveries, built: Build, tiny: Config
) -> None:
    built(corpus, [deliveries.write([larger(3, "again-3"), sample(3), sample(4)])], Inline(), to="dedup")
    with corpus.writing(purpose="test") as lease:
        work = Job(corpus=corpus, lease=lease, config=tiny, engine=Inline(), log=Log(), seal=Seal())
        facts, _ = taking.taken(work, [revocation("again-3")], AS_OF, packs="blank")
    assert facts["near_duplicates_listed"] == ["acme:a0003"]
    assert "1 assets are near-duplicates and stay: acme:a0003" in taking.text(facts)
