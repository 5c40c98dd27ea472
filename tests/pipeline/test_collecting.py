"""What is erased leaves every machine that collects, whoever has erased it."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.corpus import Corpus
from infra.storage import Store, objects
from pipeline.revoking import collecting


@pytest.mark.long
def test_a_copy_of_what_another_machine_erased_goes_by_the_next_collection_here(
    s3: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, corpus = "shards/tokenize/k/tokens.arrow", Corpus(s3)
    s3.write(name, b"tokens of an asset that is taken back")

    def copied(machine: str) -> list[Path]:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / machine))
        return [path for path in objects().iterdir() if not path.name.startswith(".")]

    for machine in ("here", "there"):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / machine))
        s3.local(name).close()
        assert len(copied(machine)) == 1
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "there"))
    assert collecting.collect(corpus, corpus.head()).files == 1
    assert copied("there") == []
    assert len(copied("here")) == 1
    assert collecting.collect(corpus, corpus.head(), dry_run=True).files == 0
    assert len(copied("here")) == 1
    assert collecting.collect(corpus, corpus.head()).files == 0
    assert copied("here") == []
