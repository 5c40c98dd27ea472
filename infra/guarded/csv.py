"""Read CSV that we did not write: UTF-8, RFC 4180, a header, and as many cells in every row as in it.

The surprising rule: every cell is a string, and none is ever guessed to be a number or a date. A file that
breaks a rule anywhere is refused whole by a caller that reads it to the end first; only a cell that is too
long is its row's own matter, and an :class:`Overlong` stands in its place.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NoReturn

from infra.guarded import nfc
from infra.guarded.refused import Refused, check_size

NAME = re.compile(r"[A-Za-z](?:[A-Za-z0-9_./() -]{0,126}[A-Za-z0-9_.)-])?")
"""Of a column. Spreadsheets call theirs ``Mature content`` or ``Release(s)``; none ends in a space, since two
names that look the same are the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Budgets of one table."""

    max_bytes: int = 32 * 1024 * 1024
    max_rows: int = 100_000
    max_columns: int = 512
    max_cell: int = 64 * 1024
    """Characters."""
    max_row: int = 10 * 1024 * 1024
    """Characters, also of cells that are too long. Python takes four bytes for each, and up to eight."""
    max_commas: int = 1024 * 1024
    """In a row, quoted or not: each may begin a cell, which takes 59 bytes, before anybody can count them."""


TABLE = Limits()
# Python's own limit, 131,072 characters, ends the reading in the middle of a row. This one is for the whole
# process, and rows have theirs.
csv.field_size_limit(TABLE.max_row)
PIECE = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlong:
    """Stands for a cell of ``size``, of which at most ``most`` would be read."""

    size: int
    most: int


Cell = str | Overlong


def rows(raw: bytes, *, file: str, limits: Limits = TABLE) -> Iterator[tuple[str, dict[str, Cell]]]:
    """(place, cells by column) of every row; cells in NFC, blank ones left out.

    Raises :class:`Refused` with rule ``size``, ``utf8``, ``nul``, ``syntax``, ``header``, ``columns``,
    ``width``, ``row`` or ``rows``.
    """
    reader = _Reader(file, limits)
    return reader.rows(reader.checked(raw))


@dataclass(frozen=True, slots=True)
class _Reader:
    file: str
    limits: Limits

    def refuse(self, place: str, rule: str, detail: str) -> NoReturn:
        raise Refused(self.file, place, rule, detail)

    def checked(self, raw: bytes) -> bytes:
        """The same, which is UTF-8. As one text it may take four times as much, and nine to be read."""
        check_size(raw, self.limits.max_bytes, file=self.file)
        decoder = codecs.getincrementaldecoder("utf-8")()
        for end in range(PIECE, len(raw) + PIECE, PIECE):
            try:
                decoder.decode(raw[end - PIECE : end], final=end >= len(raw))
            except UnicodeDecodeError as error:
                at = min(end, len(raw)) - len(error.object) + error.start
                self.refuse("", "utf8", f"byte {at} is not UTF-8; write the file as UTF-8")
        if b"\0" in raw:
            self.refuse("", "nul", f"byte {raw.index(0)} is NUL; write the file as UTF-8")
        return raw

    def rows(self, raw: bytes) -> Iterator[tuple[str, dict[str, Cell]]]:
        records = self._records(raw)
        header = next(records, [])
        self._check(header)
        for number, cells in enumerate(records, start=1):
            place = f"row {number}"
            if number > self.limits.max_rows:
                told = f"more than {self.limits.max_rows} rows; split the table into parts"
                self.refuse(place, "rows", told)
            if len(cells) != len(header):
                told = f"{len(cells)} cells under {len(header)} columns; quote cells that hold a comma"
                self.refuse(place, "width", told)
            named = zip(header, cells, strict=True)
            yield place, {name: self._cell(cell) for name, cell in named if cell}

    def _records(self, raw: bytes) -> Iterator[list[str]]:
        """Without blank lines, which spreadsheets leave at the end."""
        lines = _Lines(self, raw)
        reader = csv.reader(lines, strict=True)
        try:
            for cells in reader:
                lines.num_characters = lines.num_commas = 0
                if cells:
                    yield cells
        except csv.Error as error:
            self.refuse(f"line {reader.line_num}", "syntax", f"{error}; write it as RFC 4180 says")

    def _check(self, header: list[str]) -> None:
        if len(header) > self.limits.max_columns:
            told = f"{len(header)} columns, at most {self.limits.max_columns} are read"
            self.refuse("row 0", "columns", told)
        if not header:
            self.refuse("row 0", "header", "the table is empty; its first row names the columns")
        for name in header:
            if not NAME.fullmatch(name):
                self.refuse("row 0", "header", f"{name[:80]!a} is no column; names match {NAME.pattern}")
        if len(set(header)) < len(header):
            twice = next(name for name in header if header.count(name) > 1)
            self.refuse("row 0", "header", f"column {twice!r} is there twice; keep one")

    def _cell(self, cell: str) -> Cell:
        if len(cell) > self.limits.max_cell:
            return Overlong(size=len(cell), most=self.limits.max_cell)
        return nfc.normal(cell)


class _Lines:
    """The lines of a file, counted before a row is made of them: a quoted cell may have any number."""

    def __init__(self, reader: _Reader, raw: bytes) -> None:
        self._reader = reader
        # Spreadsheets write a mark first; it is no part of the first name.
        self._text = io.TextIOWrapper(io.BytesIO(raw), "utf-8-sig", newline="")
        self.num_characters = self.num_commas = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        limits = self._reader.limits
        line = self._text.readline(limits.max_row + 1)
        self.num_characters += len(line)
        self.num_commas += line.count(",")
        if self.num_characters > limits.max_row or self.num_commas > limits.max_commas:
            told = f"a row of over {limits.max_row} characters, or {limits.max_commas} commas; cut it"
            self._reader.refuse("", "row", told)
        if not line:
            raise StopIteration
        return line
