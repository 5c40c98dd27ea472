"""What a corpus keeps account of, by command: the audit log of what was done to it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from infra.cli import run
from infra.corpus import Corpus, version_name
from infra.storage import Store
from pipeline import audit

from .conftest import TINY, Deliveries, license_, sample

pytestmark = [pytest.mark.plan, pytest.mark.timeout(300)]
NUM = 24
AS_OF = ["--as-of", "2026-06-01T00:00:00Z"]


@dataclass(frozen=True, slots=True)
class World:
    corpus: Corpus
    options: list[str]


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
