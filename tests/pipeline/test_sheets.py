"""Tables for spreadsheets: nothing in them is run."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infra.storage import Store
from pipeline import sheets


@pytest.mark.parametrize(
    ("cell", "told"),
    [
        ("=HYPERLINK(1)", "'=HYPERLINK(1)"),
        ("+1", "'+1"),
        ("-1", "'-1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'\t=1"),
        ("\r=1", "'\r=1"),
        ("a=1", "a=1"),
        ("a\r=1", "a\r=1"),
        ("", ""),
        ('say "hi", Zoë\n=1', 'say "hi", Zoë\n=1'),
    ],
)
def test_no_cell_is_a_formula(tmp_path: Path, cell: str, told: str) -> None:
    table = pa.table({"name": [cell, None], "=count": [-3, None]})
    places = sheets.write(Store.at(tmp_path), "one", table)
    assert places == [str(tmp_path / "one.csv"), str(tmp_path / "one.parquet")]
    rows = [*csv.reader(io.StringIO((tmp_path / "one.csv").read_bytes().decode(), newline=""))]
    assert rows[1:] == [[told, "-3"], ["", ""]]
    assert rows[0] == ["name", "'=count"]
    assert pq.read_table(tmp_path / "one.parquet").equals(table)
