"""The process that reads Parquet that we did not write, for ``infra.guarded.parquet``; import that instead.

Flat columns of plain types, bounded before and after decompression. Two surprising rules. The Arrow schema
that a file may carry is never handed to Arrow, since an extension type named there is built by whatever code
registered it (CVE-2026-41486): its key is renamed in the footer before the file is opened. And only Snappy is
decompressed: it cannot grow more than 22 times, whatever the headers of the pages say, where 16 MiB of
Zstandard may claim to be anything.

Strings stay dictionaries until a row is asked for, so that one long value under a million rows is one value.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import resource
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NoReturn

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from infra.guarded import nfc
from infra.guarded.child import confine
from infra.guarded.csv import NAME
from infra.guarded.parquet import CPU_S, MEMORY_BYTES, Cell, Limits
from infra.guarded.refused import Refused, check_size

MAGIC = b"PAR1"
ARROW_KEY, RENAMED_KEY = b"ARROW:schema", b"arrow:SCHEMA"
CODECS = frozenset({"UNCOMPRESSED", "SNAPPY"})
BATCH_ROWS = 1024


def rows(raw: bytes, *, file: str, limits: Limits) -> Iterator[tuple[str, dict[str, Cell]]]:
    """(place, cells by column) of every row. Raises :class:`Refused`; bad bytes may also end the process."""
    reader = _Reader(file, limits)
    return reader.rows(reader.defused(raw))


@dataclass(frozen=True, slots=True)
class _Reader:
    file: str
    limits: Limits

    def refuse(self, place: str, rule: str, detail: str) -> NoReturn:
        raise Refused(self.file, place, rule, detail)

    def defused(self, raw: bytes) -> bytes:
        """The file, with the key of its Arrow schema renamed."""
        check_size(raw, self.limits.max_bytes, file=self.file)
        if len(raw) < 12 or raw[:4] != MAGIC or raw[-4:] != MAGIC:
            self.refuse("", "magic", "it is no plain Parquet file; encrypted ones are not read")
        footer_bytes = int.from_bytes(raw[-8:-4], "little")
        if footer_bytes > min(self.limits.max_footer_bytes, len(raw) - 12):
            self.refuse("", "footer", f"a footer of {footer_bytes} bytes in {len(raw)}; write it again")
        start = len(raw) - 8 - footer_bytes
        return raw[:start] + raw[start:].replace(ARROW_KEY, RENAMED_KEY)

    def rows(self, raw: bytes) -> Iterator[tuple[str, dict[str, Cell]]]:
        try:
            metadata = pq.read_metadata(pa.BufferReader(raw))
            self._check_metadata(metadata)
            wanted = self._columns(metadata.schema.to_arrow_schema())
            self._check_chunks(metadata, wanted)
            strings = [field.name for field in wanted if is_text(field.type)]
            table = pq.ParquetFile(pa.BufferReader(raw), read_dictionary=strings)
            yield from self._rows(table, [field.name for field in wanted])
        except UnicodeDecodeError as error:
            self.refuse("", "utf8", f"a string is not UTF-8 ({error.reason}); write it as UTF-8")
        except (pa.ArrowException, OSError) as error:
            self.refuse("", "syntax", f"{ascii(str(error).splitlines()[0][:200])[1:-1]}; write it again")

    def _check_metadata(self, metadata: pq.FileMetaData) -> None:
        limits = self.limits
        self._check_extensions((metadata.metadata or {}).get(RENAMED_KEY, b""))
        if metadata.num_columns > limits.max_columns:
            self.refuse("", "columns", f"{metadata.num_columns} columns, at most {limits.max_columns}")
        if not 0 <= metadata.num_rows <= limits.max_rows:
            told = f"{metadata.num_rows} rows, at most {limits.max_rows} are read; split it into parts"
            self.refuse("", "rows", told)

    def _check_chunks(self, metadata: pq.FileMetaData, wanted: list[pa.Field]) -> None:
        """What the columns that are read become, as their headers say."""
        names = {field.name for field in wanted}
        groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
        found = [group.column(i) for group in groups for i in range(group.num_columns)]
        chunks = [chunk for chunk in found if chunk.path_in_schema in names]
        sizes = [chunk.total_uncompressed_size for chunk in chunks]
        if sum(sizes) > self.limits.max_uncompressed_bytes or any(size < 0 for size in sizes):
            told = f"{sum(sizes)} bytes unpacked, at most {self.limits.max_uncompressed_bytes}"
            self.refuse("", "uncompressed", told)
        for codec in sorted({chunk.compression for chunk in chunks} - CODECS):
            self.refuse("", "codec", f"it is packed with {codec}; write it with compression='snappy'")

    def _check_extensions(self, encoded: bytes) -> None:
        try:
            carried = base64.b64decode(encoded)
        except binascii.Error:
            self.refuse("", "extension", "the Arrow schema that it carries cannot be read; leave it out")
        if b"ARROW:extension" in carried:
            self.refuse("", "extension", "it has columns of an extension type; write plain types")

    def _columns(self, schema: pa.Schema) -> list[pa.Field]:
        """The columns that are read: flat, of names and types that we know."""
        found = [field for field in schema if field.name not in self.limits.unread]
        if self.limits.others == "leave_out":
            found = [field for field in found if NAME.fullmatch(field.name) and plain(field.type)]
        for field in found:
            if not NAME.fullmatch(field.name):
                told = f"{field.name[:80]!a} is no column; names match {NAME.pattern}"
                self.refuse("", "header", told)
            if not plain(field.type):
                fix = "write strings, booleans, numbers or UTC times, and lists as one cell"
                self.refuse("", "type", f"column {field.name} is {str(field.type)[:80]}; {fix}")
        if len({field.name for field in found}) < len(found):
            self.refuse("", "header", "a column is there twice; keep one")
        return found

    def _rows(self, table: pq.ParquetFile, names: list[str]) -> Iterator[tuple[str, dict[str, Cell]]]:
        number = 0
        for batch in table.iter_batches(batch_size=BATCH_ROWS, columns=names):
            if batch.schema.names != names:  # a dotted name may also mean a field of a nested column
                self.refuse("", "header", f"the columns {names} are read as {batch.schema.names}; rename one")
            for name, column in zip(batch.schema.names, batch.columns, strict=True):
                self._check_cells(name, column)
            for row in range(batch.num_rows):
                number += 1
                cells = zip(
                    batch.schema.names, (column[row].as_py() for column in batch.columns), strict=True
                )
                found = {name: spelled(cell) for name, cell in cells if cell is not None and cell != ""}
                self._check_row(f"row {number}", found)
                yield f"row {number}", found

    def _check_row(self, place: str, cells: dict[str, Cell]) -> None:
        size = sum(len(cell) for cell in cells.values() if isinstance(cell, str))
        if size > self.limits.max_row:
            self.refuse(place, "cell", f"{size} characters in a row, at most {self.limits.max_row} are read")

    def _check_cells(self, name: str, column: pa.Array) -> None:
        if pa.types.is_timestamp(column.type):
            self._check_times(name, column)
        values = column.dictionary if pa.types.is_dictionary(column.type) else column
        if not is_text(values.type):
            return
        longest = pc.max(pc.binary_length(values)).as_py() or 0
        if longest > self.limits.max_cell:
            told = f"column {name}: {longest} bytes, at most {self.limits.max_cell} are read"
            self.refuse("", "cell", told)

    def _check_times(self, name: str, column: pa.Array) -> None:
        try:
            column.to_pylist()
        except (ValueError, OverflowError):
            told = f"column {name}: a time that no calendar has; write the years 1 to 9999"
            self.refuse("", "time", told)


def is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def plain(kind: pa.DataType) -> bool:
    number = pa.types.is_integer(kind) or pa.types.is_float32(kind) or pa.types.is_float64(kind)
    moment = pa.types.is_timestamp(kind) and kind.tz is not None
    return bool(is_text(kind) or number or moment or pa.types.is_boolean(kind))


def spelled(cell: Any) -> Cell:
    if isinstance(cell, datetime):
        return re.sub(r"\+00:00$", "Z", cell.isoformat())
    return nfc.normal(cell) if isinstance(cell, str) else cell


def main() -> None:
    """The table on stdin as lines of JSON: ``[place, cells]`` for a row, ``[place, rule, detail]`` at a
    fault, and ``[]`` at the end.
    """
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
    confine(MEMORY_BYTES)
    limits, lines = Limits(**json.loads(sys.argv[1])), sys.stdout
    try:
        for row in rows(sys.stdin.buffer.read(), file="", limits=limits):
            lines.write(json.dumps(row) + "\n")
    except Refused as refused:
        lines.write(json.dumps([refused.member, refused.rule, refused.detail]) + "\n")
    else:
        lines.write("[]\n")


if __name__ == "__main__":
    main()
