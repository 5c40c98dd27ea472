"""A reference to a file whose content is known by its sha256: what tasks are made of.

Where the file lies is a convenience; only the sha256 enters a key.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from infra.artifact import Corrupt, check
from infra.storage import Store


@dataclass(frozen=True, slots=True)
class Ref:
    store: Store
    name: str
    sha256: str

    def read(self) -> bytes:
        """The bytes, checked."""
        data = self.store.read(self.name)
        check(data, self.sha256, self.store.where(self.name))
        return data

    def mapped(self) -> Path:
        """A file to memory-map, whose bytes were checked: all processes of a machine share it."""
        path = self.local()
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != self.sha256:
            told = f"sha256 {found[:16]}…, its manifest says {self.sha256[:16]}…"
            raise Corrupt(f"{path}, of {self.store.where(self.name)}, has {told}; delete it")
        return path

    def local(self) -> Path:
        """A file to memory-map; its reader checks what it touches."""
        return self.store.local(self.name)
