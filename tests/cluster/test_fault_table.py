"""The page of faults says what its tests promise, and what they found."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import faults, test_faults, test_store_faults

FOUND = {"fault": "a worker is killed", "promise": "the job goes on", "test": "test_it", "seconds": 7.4}


def test_a_test_that_ran_twice_is_told_as_the_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [{**FOUND, "result": result} for result in ("failed", "passed")]
    (tmp_path / "lines").write_text("".join(json.dumps(one) + "\n" for one in lines))
    monkeypatch.setattr(faults, "PAGE", tmp_path / "page.md")
    monkeypatch.setattr(sys, "argv", ["faults", str(tmp_path / "lines")])
    faults.main()
    told = (tmp_path / "page.md").read_text()
    assert told.endswith("| a worker is killed | the job goes on | `test_it` | passed | 7 |\n")
    assert "failed" not in told


def test_what_is_not_a_number_yet_is_told_as_nothing() -> None:
    assert faults.page([{**FOUND, "result": "failed", "seconds": None}]).endswith("| failed |  |\n")


def test_the_page_has_every_fault_that_is_tested_with_its_promise() -> None:
    rows = [line.split(" | ") for line in faults.PAGE.read_text().splitlines() if "`test_" in line]
    told = {(re.sub(r"[`\[].*", "", row[2].strip("`")), row[0].lstrip("| "), row[1]) for row in rows}
    assert told == {
        (name, *mark.args)
        for module in (test_faults, test_store_faults)
        for name, made in vars(module).items()
        for mark in every_mark(made)
        if mark.name == "fault"
    }
    assert all(row[3] == "passed" for row in rows)


def every_mark(test: object) -> Iterator[pytest.Mark]:
    """Those of its parameters too."""
    for mark in getattr(test, "pytestmark", []):
        yield mark
        if mark.name == "parametrize":
            marks = (one for of in mark.args[1] for one in getattr(of, "marks", ()))
            yield from (getattr(one, "mark", one) for one in marks)
