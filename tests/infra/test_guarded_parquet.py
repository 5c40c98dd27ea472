"""Guarded Parquet: flat plain columns come back, bombs and extension types are refused before they act.

Where many files are tried, the reader is called in this process; a child a file would take a second each.
"""

from __future__ import annotations

import io
import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.guarded import columns
from infra.guarded.parquet import Limits, rows
from infra.guarded.refused import Refused

pytestmark = pytest.mark.long


def written(columns: dict[str, Any], **options: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink, **{"compression": "snappy", **options})
    return sink.getvalue()


def read(raw: bytes, limits: Limits | None = None) -> list[dict[str, Any]]:
    return [cells for _, cells in columns.rows(raw, file="t.parquet", limits=limits or Limits())]


def refused(raw: bytes, limits: Limits | None = None) -> str:
    with pytest.raises(Refused) as caught:
        read(raw, limits)
    return caught.value.rule


class Trap(pa.ExtensionType):
    """An extension type whose making from a file is what must not happen."""

    opened = 0

    def __init__(self) -> None:
        super().__init__(pa.string(), "tests.trap")

    def __arrow_ext_serialize__(self) -> bytes:
        return b"payload"

    @classmethod
    def __arrow_ext_deserialize__(cls, storage_type: pa.DataType, serialized: bytes) -> Trap:
        cls.opened += 1
        return cls()


@pytest.fixture
def trapped() -> Iterator[bytes]:
    """A file with a column of a type that this process knows."""
    pa.register_extension_type(Trap())
    try:
        storage = pa.array(["x"])
        yield written({"a": pa.ExtensionArray.from_storage(Trap(), storage)})
    finally:
        pa.unregister_extension_type("tests.trap")


ROW = st.tuples(
    st.none() | st.text(st.characters(codec="ascii", exclude_characters="\0"), min_size=1, max_size=8),
    st.none() | st.booleans(),
    st.none() | st.integers(-(2**63), 2**63 - 1),
    st.none() | st.floats(allow_nan=False),
)
NAMES = ("text.a", "flag", "count", "share")
TYPES = (pa.string(), pa.bool_(), pa.int64(), pa.float64())


@settings(max_examples=30)
@given(st.lists(ROW, max_size=20), st.booleans())
def test_what_is_written_is_read_back_without_nulls(table: list[tuple[Any, ...]], dictionary: bool) -> None:  # noqa: FBT001  # hypothesis passes by position
    columns = {name: pa.array([row[i] for row in table], TYPES[i]) for i, name in enumerate(NAMES)}
    expected = [{n: cell for n, cell in zip(NAMES, row, strict=True) if cell is not None} for row in table]
    assert read(written(columns, use_dictionary=dictionary)) == expected


def test_times_are_spelled_as_the_contract_wants_and_texts_are_in_nfc() -> None:
    moment = pa.array([datetime(2026, 1, 31, tzinfo=UTC)], pa.timestamp("us", tz="UTC"))
    raw = written({"t": moment, "s": ["Cafe\u0301"]})
    assert read(raw) == [{"t": "2026-01-31T00:00:00Z", "s": "Caf\u00e9"}]


def test_an_extension_type_is_refused_and_never_made(trapped: bytes) -> None:
    before = Trap.opened
    assert refused(trapped) == "extension"
    assert Trap.opened == before
    pq.read_schema(pa.BufferReader(trapped))
    assert Trap.opened > before  # the trap works: whoever reads the schema falls into it


def test_one_long_value_under_many_rows_is_refused_before_it_is_many() -> None:
    bomb = pa.DictionaryArray.from_arrays(pa.array([0] * 90_000, pa.int32()), pa.array(["x" * 1_000_000]))
    raw = written({"a": bomb}, store_schema=False)
    assert len(raw) < 200_000
    tracemalloc.start()
    before = pa.total_allocated_bytes()
    assert refused(raw) == "cell"
    assert pa.total_allocated_bytes() - before < 64 * 1024 * 1024
    assert tracemalloc.get_traced_memory()[1] < 64 * 1024 * 1024
    tracemalloc.stop()


SMALL = Limits(max_bytes=4000, max_rows=2, max_columns=2, max_cell=4, max_uncompressed_bytes=300)


@pytest.mark.parametrize(
    ("raw", "rule"),
    [
        (b"", "magic"),
        (b"PAR1" + b"\0" * 8, "magic"),
        (b"PAR1\xff\xff\xff\x7fPAR1", "footer"),
        (b"PAR1" + b"\x99" * 20 + (20).to_bytes(4, "little") + b"PAR1", "syntax"),
        (written({"a": ["1"] * 3}), "rows"),
        (written({"a": ["1"], "b": ["1"], "c": ["1"]}), "columns"),
        (written({"a;b": ["1"]}), "header"),
        (written({"a": ["12345"]}), "cell"),
        (written({"a": ["x" * 400]}), "uncompressed"),
        (written({"a": ["1"]}, compression="zstd"), "codec"),
        (written({"a": ["1"]}, compression="gzip"), "codec"),
        (written({"a": [["1"]]}), "type"),
        (written({"a": [{"b": "1"}]}), "type"),
        (written({"a": [b"1"]}), "type"),
        (written({"a": [datetime(2026, 1, 1)]}), "type"),  # noqa: DTZ001  # a time without a zone is the point
        (b"PAR1" + b"\0" * 5000 + b"PAR1", "size"),
    ],
)
def test_a_broken_rule_refuses_the_table(raw: bytes, rule: str) -> None:
    assert refused(raw, SMALL) == rule


def test_a_row_of_many_long_cells_is_refused_alone_of_all_it_could_fill() -> None:
    raw = written({"a": ["1234"] * 2, "b": ["1234", "12345"]})
    assert read(raw, Limits(max_row=9))[1]["b"] == "12345"
    assert refused(raw, Limits(max_row=8)) == "cell"


def test_a_string_that_is_no_text_is_refused() -> None:
    raw = written({"a": pa.array([b"\xff\xfe"]).view(pa.string())}, store_schema=False)
    assert refused(raw) == "utf8"


@pytest.mark.parametrize("seconds", [2**53, -(2**53), 253_402_300_800])
def test_a_time_that_no_calendar_has_is_refused_and_ends_no_reader(seconds: int) -> None:
    times = pa.array([seconds, 0], pa.int64()).cast(pa.timestamp("s", "UTC"))
    assert refused(written({"a": times})) == "time"
    assert read(written({"a": times[1:]})) == [{"a": "1970-01-01T00:00:00Z"}]


def test_a_table_comes_back_from_the_child_as_from_the_reader() -> None:
    raw = written({"a": ["one", None, "e\u0301"], "b": [1, 2, 3], "c": [0.5, None, 1.5]})
    assert [cells for _, cells in rows(raw, file="t")] == read(raw)
    assert next(rows(raw, file="t"))[0] == "row 1"


def test_a_fault_in_the_child_is_told_with_the_name_of_the_file() -> None:
    with pytest.raises(Refused, match=r"^t\.parquet: refused by rule codec: it is packed with ZSTD"):
        list(rows(written({"a": ["1"]}, compression="zstd"), file="t.parquet"))
    with pytest.raises(Refused, match="rule size"):
        list(rows(b"x" * 10, file="t.parquet", limits=Limits(max_bytes=9)))


def test_bytes_that_end_the_reader_refuse_the_table_and_end_nothing_else() -> None:
    raw = written({"a": ["one", "two", None], "b": [1, 2, 3]}, store_schema=False)
    # A column's repetition, 2 for optional; the library aborts the process for one that does not exist.
    at = raw.index(b"\x25\x02", len(raw) - 8 - int.from_bytes(raw[-8:-4], "little")) + 1
    with pytest.raises(Refused, match="refused by rule died"):
        list(rows(raw[:at] + b"\x7f" + raw[at + 1 :], file="t.parquet"))


def test_columns_that_are_left_out_are_neither_unpacked_nor_judged() -> None:
    long, odd = ["x" * 1_000_000, "y"], [[1], None]
    raw = written({"a": ["1", "2"], "exif": long, "boxes": odd, "b;c": ["3", "4"], "when": pa.nulls(2)})
    limits = Limits(unread=("exif",), others="leave_out", max_uncompressed_bytes=10_000)
    assert read(raw, limits) == [{"a": "1"}, {"a": "2"}]
    assert refused(raw, Limits(unread=("exif",))) == "type"
    assert refused(raw, Limits(others="leave_out")) == "cell"
    assert refused(raw, Limits(others="leave_out", max_uncompressed_bytes=10_000)) == "uncompressed"
    assert read(written({"boxes": odd}), limits) == [{}, {}]
    assert [cells for _, cells in rows(raw, file="t", limits=limits)] == [{"a": "1"}, {"a": "2"}]


def test_a_name_that_could_be_a_field_of_a_column_left_out_is_refused() -> None:
    raw = written({"a.b": ["1"], "a": [{"b": "2"}]})
    assert refused(raw, Limits(others="leave_out")) == "header"


def test_an_extension_type_is_refused_in_a_column_that_is_left_out(trapped: bytes) -> None:
    before = Trap.opened
    assert refused(trapped, Limits(unread=("a",), others="leave_out")) == "extension"
    assert Trap.opened == before
