"""What a run reported, as JSON lines with their ``step``: written by the run, followed by who waits for it.

The surprising rule: a run that goes on drops the lines behind its checkpoint first, so that a journal is the
same whether the run was stopped or not.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from infra.storage import LocalStore
from infra.telemetry import Bar, Log

Write = Callable[[Mapping[str, float]], None]


def opened(path: Path, *, step: int) -> Write:
    """Appends to a JSONL file; lines behind ``step``, left by a run that died, are dropped first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = path.read_text() if path.exists() else ""
    kept = "".join(line for line in whole_lines(path) if json.loads(line)["step"] <= step)
    if kept != text:  # whole beside it, then in its place: a full disk must not cost what is there
        LocalStore(str(path.parent)).write(path.name, kept.encode())

    def write(metrics: Mapping[str, float]) -> None:
        with path.open("a") as file:
            file.write(json.dumps(metrics) + "\n")

    return write


def whole_lines(path: Path) -> list[str]:
    """The last may have been cut short."""
    if not path.exists():
        return []
    return [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]


def read(path: Path) -> list[dict[str, Any]]:
    """Every report, oldest first."""
    return [json.loads(line) for line in whole_lines(path)]


@contextmanager
def watched(path: Path, name: str, *, total: int, log: Log) -> Iterator[Bar]:
    """Show how far a run is by the journal that it writes, whoever writes it."""
    done = threading.Event()
    with log.bar(name, total=total, unit="steps") as bar:

        def follow() -> None:
            while not done.wait(1.0):
                _show(bar, path)

        thread = threading.Thread(target=follow, daemon=True)
        thread.start()
        try:
            yield bar
        finally:
            done.set()
            thread.join()
            _show(bar, path)


def _show(bar: Bar, path: Path) -> None:
    if line := last(path):
        bar.at(int(line["step"]), f"loss {line['loss']:.3f}")


def last(path: Path) -> dict[str, Any] | None:
    """The newest report; only the end of the file is read."""
    if not path.exists():
        return None
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - LONGEST_LINES))
        lines = [line for line in file.read().splitlines(keepends=True) if line.endswith(b"\n")]
    # The first may begin in its middle, unless it is all there is.
    whole = lines[1:] if path.stat().st_size > LONGEST_LINES else lines
    found: dict[str, Any] | None = json.loads(whole[-1]) if whole else None
    return found


LONGEST_LINES = 1 << 16
"""Bytes that hold more than one report: those of a validation have some 3 kB."""
