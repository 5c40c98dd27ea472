"""A small share of ``make fuzz``, with a seed of its own: every input ends in a result or a refusal."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz import running


def test_2_000_mutated_members_are_read_or_refused(tmp_path: Path) -> None:
    found = running.run(seed=1, first=0, num_members=2_000, num_deliveries=0, saved=tmp_path)
    assert found["failures"] == []
    assert sum(found["outcomes"].values()) == 2_000
    assert {name for name in found["outcomes"] if name.endswith(":read")} >= {"image:read", "tar:read"}


@pytest.mark.plan
def test_20_mutated_deliveries_end_in_a_corpus_or_a_refusal(tmp_path: Path) -> None:
    found = running.run(seed=1, first=0, num_members=0, num_deliveries=20, saved=tmp_path)
    assert found["failures"] == []
    assert sum(found["outcomes"].values()) == 20
