"""A small share of ``make fuzz``, with a seed of its own: every input ends in a result or a refusal."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.deliveries.forms import FORMS
from tests.fuzz import parcels, running


def test_2_000_mutated_members_are_read_or_refused(tmp_path: Path) -> None:
    found = running.run(seed=1, first=0, num_members=2_000, num_deliveries=0, saved=tmp_path)
    assert found["failures"] == []
    assert sum(found["outcomes"].values()) == 2_000
    read = {name.removesuffix(":read") for name in found["outcomes"] if name.endswith(":read")}
    assert read >= {"image", "tar", "parquet", "manifest/cells", "img2dataset/cells"}


def test_deliveries_of_every_form_are_mutated() -> None:
    mutated = {make().form for make in parcels.PARCELS.values()}
    assert mutated | {"webdataset"} == FORMS.keys()  # which has a share of its own


@pytest.mark.plan
def test_20_mutated_deliveries_end_in_a_corpus_or_a_refusal(tmp_path: Path) -> None:
    found = running.run(seed=1, first=0, num_members=0, num_deliveries=20, saved=tmp_path)
    assert found["failures"] == []
    assert sum(found["outcomes"].values()) == 20
