"""A table that is made row by row is the one that is made of all of them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pyarrow as pa
import pytest

from infra.storage import Store
from pipeline import refs, tables

KIND = pa.schema([pa.field("a", pa.string()), pa.field("b", pa.int32())])


@pytest.mark.parametrize("num", [0, 1, tables.PIECE_ROWS, 2 * tables.PIECE_ROWS + 1])
@pytest.mark.parametrize("length", [1, 10_000])
def test_rows_come_back_in_their_order_whatever_pieces_they_were_made_in(
    tmp_path: Path, num: int, length: int
) -> None:
    rows = [{"a": None if i % 3 else str(i).zfill(length), "b": i} for i in range(num)]
    made = tables.of_rows(rows, KIND)
    assert made.equals(pa.Table.from_pylist(rows, schema=KIND))
    store = Store.at(tmp_path)
    data = tables.to_parquet(made)
    store.write("a.parquet", data)
    assert list(tables.read_rows(refs.Ref(store, "a.parquet", hashlib.sha256(data).hexdigest()))) == rows


def test_a_growing_table_holds_few_rows_as_objects() -> None:
    growing = tables.Growing(KIND)
    for i in range(3):
        growing.add({"a": "x" * tables.PIECE_CHARACTERS, "b": i})
        assert growing.num_characters == (i + 1) * tables.PIECE_CHARACTERS
    assert growing.table().column("a").num_chunks >= 3
