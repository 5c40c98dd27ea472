"""Guarded CSV: good tables come back as they were written, anything else is refused by a named rule."""

from __future__ import annotations

import contextlib
import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.guarded.csv import PIECE, Cell, Limits, Overlong, rows
from infra.guarded.refused import Refused

SMALL = Limits(max_bytes=200, max_rows=2, max_columns=3, max_cell=8)
# NFC already, no carriage return alone (which a reader may take for a line's end) and no NUL.
CELL = st.text(st.characters(codec="ascii", exclude_characters="\0\r"), max_size=12)


def read(raw: bytes, limits: Limits = SMALL) -> list[dict[str, Cell]]:
    return [cells for _, cells in rows(raw, file="t.csv", limits=limits)]


@given(st.lists(st.tuples(CELL, CELL), max_size=6))
def test_what_a_writer_quotes_is_read_back(table: list[tuple[str, str]]) -> None:
    sink = io.StringIO(newline="")
    csv.writer(sink).writerows([("a", "b.c"), *table])
    expected = [{name: cell for name, cell in zip(("a", "b.c"), row, strict=True) if cell} for row in table]
    assert read(sink.getvalue().encode(), Limits()) == expected


@given(st.binary(max_size=60))
def test_no_bytes_do_anything_but_come_back_or_be_refused(raw: bytes) -> None:
    with contextlib.suppress(Refused):
        assert all(isinstance(cell, Cell) for cells in read(raw) for cell in cells.values())


def test_blank_cells_and_lines_are_left_out_and_texts_are_in_nfc() -> None:
    assert read("\ufeffa,b\r\n1,\r\n\r\nCafe\u0301,2\r\n".encode()) == [
        {"a": "1"},
        {"a": "Caf\u00e9", "b": "2"},
    ]


def test_a_column_may_be_called_as_spreadsheets_call_theirs() -> None:
    raw = "\ufeffMature content,Release(s),image/type\n1,2,3\n".encode()
    assert read(raw) == [{"Mature content": "1", "Release(s)": "2", "image/type": "3"}]
    assert read(b"a," + b"b" * 128 + b"\n1,2\n") == [{"a": "1", "b" * 128: "2"}]


@pytest.mark.parametrize(
    ("raw", "rule", "place"),
    [
        (b"a\n" + b"x" * 200, "size", ""),
        (b"a\n\xff\n", "utf8", ""),
        ("a\n1\n".encode("utf-16"), "utf8", ""),
        (b"a\n1\0\n", "nul", ""),
        (b'a\n"1\n', "syntax", "line 2"),
        (b'a\n"1"2\n', "syntax", "line 2"),
        (b"", "header", "row 0"),
        (b"a,\n1,2\n", "header", "row 0"),
        (b"a,b \n1,2\n", "header", "row 0"),
        (b"a, b\n1,2\n", "header", "row 0"),
        (b"a,b\tc\n1,2\n", "header", "row 0"),
        ("a,b\u0441\n1,2\n".encode(), "header", "row 0"),
        (b"a," + b"b" * 129 + b"\n1,2\n", "header", "row 0"),
        (b"a,=cmd()\n1,2\n", "header", "row 0"),
        (b"a,a\n1,2\n", "header", "row 0"),
        (b"a,b,c,d\n", "columns", "row 0"),
        (b"a,b\n1\n", "width", "row 1"),
        (b"a\n1\n2,3\n", "width", "row 2"),
        (b"a\n1\n2\n3\n", "rows", "row 3"),
    ],
)
def test_a_broken_rule_refuses_the_table_and_says_where(raw: bytes, rule: str, place: str) -> None:
    with pytest.raises(Refused, match=f"rule {rule}") as caught:
        read(raw)
    assert caught.value.member == place


def test_the_budgets_themselves_are_allowed() -> None:
    assert read(b"a,b,c\n12345678,1,1\n1,1,1\n") == [
        {"a": "12345678", "b": "1", "c": "1"},
        dict.fromkeys("abc", "1"),
    ]


@pytest.mark.parametrize("row", ["x" * 51, "x,y,z", '"x\n' + "\ny" * 30 + '"', '"x\n' + '","x\n' * 3 + '"'])
def test_a_row_that_would_be_much_larger_as_cells_is_refused_before_it_is(row: str) -> None:
    limits = Limits(max_row=50, max_commas=1)
    assert read(b"a\n" + b"x" * 49 + b"\n", limits) == [{"a": "x" * 49}]
    with pytest.raises(Refused, match="rule row"):
        read(f"a\n{row}\n".encode(), limits)


@pytest.mark.parametrize("before", [0, 1, 2, 3])
def test_a_letter_that_lies_across_two_pieces_is_read_and_a_broken_one_is_placed(before: int) -> None:
    cell = "x" * (PIECE - 2 - before) + "\U0001f600"
    raw = f"a\n{cell}\n".encode()
    assert read(raw, Limits(max_cell=PIECE)) == [{"a": cell}]
    with pytest.raises(Refused, match=f"byte {PIECE - before} is not UTF-8"):
        read(raw[:-2] + b"\n", Limits(max_cell=PIECE))


def test_a_cell_that_is_too_long_is_left_out_of_its_row_and_the_others_are_read() -> None:
    long = Overlong(size=9, most=8)
    assert read(b"a,b\n123456789,1\n12345678,2\n") == [{"a": long, "b": "1"}, {"a": "12345678", "b": "2"}]


@pytest.mark.parametrize("size", [65_537, 131_073, pytest.param(9_000_000, marks=pytest.mark.long)])
def test_no_cell_is_too_long_for_python_to_go_on_after_it(size: int) -> None:
    cell = "x\n" * (size // 2) + "y" * (size % 2)
    found = read(f'a,b\n"{cell}",1\n3,4\n'.encode(), Limits())
    assert found == [{"a": Overlong(size=size, most=65_536), "b": "1"}, {"a": "3", "b": "4"}]
