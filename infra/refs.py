"""A reference to a file whose content is known by its sha256: what tasks are made of.

Where the file lies is a convenience; only the sha256 enters a key.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeVar

from infra import copies
from infra.artifact import Corrupt, check
from infra.storage import Store
from infra.telemetry import say

T = TypeVar("T")


@dataclass(slots=True)
class Signs:
    """Of life, of work that is long: how many files this process has opened."""

    files: int = 0


signs = Signs()


@dataclass(frozen=True, slots=True)
class Ref:
    store: Store
    name: str
    sha256: str

    def read(self) -> bytes:
        """The bytes, checked."""
        signs.files += 1
        data = self.store.read(self.name)
        check(data, self.sha256, self.store.where(self.name))
        return data

    @contextlib.contextmanager
    def local(self) -> Iterator[Path]:
        """A file to memory-map while the block runs; its reader checks what it touches."""
        signs.files += 1
        with self.store.local(self.name) as file:
            yield copies.open_path(file)

    def looked_at(self, look: Callable[[Path], T]) -> T:
        """What ``look`` finds in the local file. If it fails, and the file is a copy that was spoilt here, it
        looks at one that is fetched anew; so what it raises is of the object.
        """
        with self.local() as path:
            try:
                return look(path)
            except Exception:
                if digest(path) == self.sha256 or not self.store.forget(self.name):
                    raise
        say(f"the copy here of {self.store.where(self.name)} was spoilt; it is fetched again")
        with self.local() as path:
            return look(path)

    @contextlib.contextmanager
    def mapped(self) -> Iterator[Path]:
        """A file to memory-map while the block runs, whose bytes were checked: all processes of a machine
        share it.
        """
        with self.looked_at(self._checked) as file:
            yield copies.open_path(file)

    def _checked(self, path: Path) -> BinaryIO:
        if (found := digest(path)) != self.sha256:
            told = f"sha256 {found[:16]}…, its manifest says {self.sha256[:16]}…"
            raise Corrupt(f"{self.store.where(self.name)} has {told}; delete its folder")
        return path.open("rb")

    @staticmethod
    def each_mapped(files: Iterable[Ref]) -> Iterator[Path]:
        """One after the other, each until the next one is asked for."""
        for ref in files:
            with ref.mapped() as path:
                yield path


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
