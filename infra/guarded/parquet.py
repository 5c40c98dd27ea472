"""Read Parquet that we did not write, in a process of its own.

The surprising rule: Arrow is never called here. A footer with one changed byte can abort the whole process
(an uncaught C++ exception), so ``infra.guarded.columns`` reads the table in a child with little memory and
time; when that dies, the table is refused and nothing else is lost.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Literal

from infra.guarded.isolated import environment
from infra.guarded.refused import Refused, check_size

CPU_S = 120
"""Of the child, for a whole table."""
MEMORY_BYTES = 896 * 1024 * 1024
"""Address space of the child, so that with the 100 MiB of its libraries it stays under 1 GiB."""
Cell = str | bool | int | float


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Budgets of one table."""

    max_bytes: int = 16 * 1024 * 1024
    max_footer_bytes: int = 1024 * 1024
    max_uncompressed_bytes: int = 256 * 1024 * 1024
    max_rows: int = 100_000
    max_columns: int = 512
    max_cell: int = 64 * 1024
    """Bytes."""
    max_row: int = 1024 * 1024
    """Characters: 512 cells, each as long as one may be, have 32 Mi, and a dictionary of one holds them."""
    unread: tuple[str, ...] = ()
    """Columns that are left out, whatever they hold."""
    others: Literal["refuse", "leave_out"] = "refuse"
    """Columns of other names and types than are read. What we asked for has none; what a tool wrote may."""


TABLE = Limits()


def rows(raw: bytes, *, file: str, limits: Limits = TABLE) -> Iterator[tuple[str, dict[str, Cell]]]:
    """(place, cells by column) of every row; strings in NFC, times as ``2026-01-31T00:00:00Z``, no nulls.

    Raises :class:`Refused` with rule ``size``, ``magic``, ``footer``, ``syntax``, ``extension``, ``columns``,
    ``header``, ``rows``, ``codec``, ``uncompressed``, ``type``, ``time``, ``cell``, ``utf8`` or ``died``.
    """
    check_size(raw, limits.max_bytes, file=file)
    command = [sys.executable, "-m", "infra.guarded.columns", json.dumps(asdict(limits))]
    pipe = subprocess.PIPE
    with subprocess.Popen(  # noqa: S603  # our own module; the table goes in as bytes on stdin
        command,
        stdin=pipe,
        stdout=pipe,
        stderr=subprocess.DEVNULL,
        env=environment(),
        start_new_session=True,  # Ctrl-C is for the job; when that ends, so does this
    ) as child:
        try:
            yield from _told(child, raw, file)
        finally:
            child.kill()


def _told(child: subprocess.Popen[bytes], raw: bytes, file: str) -> Iterator[tuple[str, dict[str, Cell]]]:
    assert child.stdin is not None  # noqa: S101  # asked for above
    assert child.stdout is not None  # noqa: S101  # asked for above
    names: dict[str, str] = {}  # the same in every row: 512 of them took 500 MB in 10,000 rows
    with contextlib.suppress(BrokenPipeError), child.stdin as sink:
        sink.write(raw)  # the child reads all of it before it says a word
    for line in child.stdout:
        match json.loads(line) if line.endswith(b"\n") else None:
            case []:
                return
            case [place, dict() as cells]:
                yield place, {names.setdefault(name, name): cell for name, cell in cells.items()}
            case [place, rule, detail]:
                raise Refused(file, place, rule, detail)
            case _:
                break
    raise Refused(file, "", "died", "its reader crashed or ran out of time or memory; write the table again")
