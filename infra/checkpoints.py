"""The checkpoints of a run: numbered folders that appear whole.

The surprising rule: a checkpoint is written beside its place, flushed and renamed. So a folder under its
final name is complete, and a failure leaves the one before.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class NotWritten(OSError):
    """A checkpoint could not be written; the one before it is whole."""


def place(run: Path, kind: str, step: int) -> Path:
    """Names of a kind sort by their step, as texts.

    >>> place(Path("runs/first"), "step", 120).name
    'step-00000120'
    """
    return run / f"{kind}-{step:08d}"


@contextmanager
def whole(folder: Path) -> Iterator[Path]:
    """A folder to fill, which takes the name ``folder`` when the block ends without an error."""
    aside = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    yield aside
    publish(aside, folder)


def publish(aside: Path, folder: Path) -> None:
    """Flush what a folder holds to the disk, then give it its name."""
    for path in (*aside.iterdir(), aside):
        _flush(path)
    aside.rename(folder)
    _flush(folder.parent)


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def complete(run: Path, kind: str) -> list[Path]:
    """Those of a kind, oldest first."""
    return sorted(run.glob(f"{kind}-*"))


def latest(run: Path, kind: str) -> Path | None:
    return next(reversed(complete(run, kind)), None)


def prune(run: Path, kind: str, *, keep: int) -> None:
    """So many of the latest stay."""
    for old in complete(run, kind)[:-keep]:
        shutil.rmtree(old)
