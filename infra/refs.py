"""A reference to a file whose content is known by its sha256: what tasks are made of.

Where the file lies is a convenience; only the sha256 enters a key.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from infra.artifact import check
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

    def local(self) -> Path:
        """A file to memory-map; its reader checks what it touches."""
        return self.store.local(self.name)
