"""Ids: given once, in order, in segments of bounded size."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.corpus import EMPTY, Corpus
from infra.storage import Store
from pipeline import ids


def test_ids_go_on_over_segments_that_are_never_too_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ids, "SEGMENT_ROWS", 3)
    corpus = Corpus(Store.at(tmp_path))
    version = ids.extend(corpus, EMPTY, [f"acme:{number}" for number in (5, 1, 4, 1, 3, 2, 6, 0)])
    assert [table.num_rows for table in ids.given(corpus.store, version)] == [3, 3, 1]
    version = ids.extend(corpus, version, ["acme:7", "acme:5", "acme:8"])
    assert [table.num_rows for table in ids.given(corpus.store, version)] == [3, 3, 1, 2]
    order = [5, 1, 4, 3, 2, 6, 0, 7, 8]
    assert ids.table(corpus.store, version) == {f"acme:{number}": at for at, number in enumerate(order)}
    assert ids.extend(corpus, version, ["acme:8"]) == version
