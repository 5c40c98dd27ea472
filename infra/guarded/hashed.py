"""A file that is hashed as it is read, so that what was parsed is what was hashed."""

from __future__ import annotations

import hashlib
from typing import BinaryIO

PIECE = 1024 * 1024
"""Read at a time: from S3, every reading is a question to the server."""


class Hashed:
    """Reads a file forward, in pieces, whatever is asked for, and hashes what it read."""

    def __init__(self, file: BinaryIO, *, most: int) -> None:
        self._file, self._left = file, most
        self._piece = memoryview(b"")
        self.num_bytes = 0
        self.sha256 = hashlib.sha256()

    def read(self, size: int, /) -> bytes:
        """At least one byte and at most ``size``; none at the end."""
        if not self._piece:
            piece = self._file.read(min(PIECE, self._left))
            self._left -= len(piece)
            self.num_bytes += len(piece)
            self.sha256.update(piece)
            self._piece = memoryview(piece)
        found, self._piece = self._piece[:size], self._piece[size:]
        return bytes(found)

    def drain(self) -> None:
        """Read to the end, for the hash alone."""
        while self.read(PIECE):
            pass
