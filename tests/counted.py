"""A store in memory that counts what it is asked, in S3's questions: a listing tells a thousand names."""

from __future__ import annotations

import hashlib
import io
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from infra.storage import Store

PAGE = 1000
"""Names of one answer to a listing, as on S3."""


@dataclass(frozen=True, slots=True)
class Counted(Store):
    objects: dict[str, bytes] = field(default_factory=dict, compare=False, repr=False)
    asked: Counter[str] = field(default_factory=Counter, compare=False)
    """Questions by kind: ``get``, ``put``, ``head``, ``list`` and ``delete``."""
    moved: Counter[str] = field(default_factory=Counter, compare=False)
    """Bytes by kind: ``get`` and ``put``."""
    _lock: threading.Lock = field(default_factory=threading.Lock, compare=False, repr=False)

    @property
    def uri(self) -> str:
        return f"memory://{self.root}"

    def tell(self, kind: str, size: int = 0, times: int = 1) -> None:
        with self._lock:
            self.asked[kind] += times
            self.moved[kind] += size

    def read(self, name: str, *, at_most: int | None = None) -> bytes:
        self.tell("get")
        if name not in self.objects:
            raise self.missing(name)
        data = self.objects[name][:at_most]
        self.tell("get", len(data), times=0)
        return data

    def range(self, name: str, offset: int, size: int) -> bytes:
        return self.read(name)[offset : offset + size]

    def open(self, name: str) -> BinaryIO:
        return io.BytesIO(self.read(name))

    def write(self, name: str, data: bytes) -> None:
        self.tell("put", len(data))
        self.objects[name] = data

    def create(self, name: str, data: bytes) -> bool:
        self.tell("put", len(data))
        return self.objects.setdefault(name, data) is data

    def exists(self, name: str) -> bool:
        self.tell("head")
        return name in self.objects

    def size(self, name: str) -> int:
        self.tell("head")
        if name not in self.objects:
            raise self.missing(name)
        return len(self.objects[name])

    def sizes(self, prefix: str = "") -> dict[str, int]:
        found = {name: len(data) for name, data in self.objects.items() if name.startswith(prefix)}
        self.tell("list", times=max(1, -(-len(found) // PAGE)))
        return found

    def stamp(self, name: str) -> str:
        return hashlib.sha256(self.read(name)).hexdigest()

    def stamps(self, prefix: str = "") -> dict[str, str]:
        return {name: hashlib.sha256(self.objects[name]).hexdigest() for name in self.sizes(prefix)}

    def delete(self, names: Sequence[str]) -> None:
        self.tell("delete", times=len(names))
        for name in names:
            self.objects.pop(name, None)

    def local(self, name: str) -> Path:
        raise self.missing(name)
