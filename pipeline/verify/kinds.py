"""What some bytes are, whatever their name: told by how they begin.

The surprising rule: ``binary`` is what nobody knows. It is searched as it stands, and is no failure.
"""

from __future__ import annotations

import io
import re
import struct
import tarfile
from collections.abc import Iterator
from typing import Any

from pipeline.verify import texts

BLOCK = 1 << 20
PNG, JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
COMPRESSED = {
    b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"BZh": "bz2",
    b"\xfd7zXZ\0": "xz",
    b"\x04\x22\x4d\x18": "lz4",
}
NAMED = {
    ".tar": "tar",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".npy": "npy",
    ".gz": "gzip",
    ".zst": "zstd",
    ".zstd": "zstd",
    ".faiss": "faiss",
    ".safetensors": "safetensors",
    ".zip": "zip",
    ".npz": "zip",
}
"""What a file of that name has to be."""
MARKED = frozenset({"png", "npy", "zip", "zstd", "xz", "lz4", "parquet"})
"""Kinds that begin with 4 bytes or more of their own: hardly by chance."""
MARKS = {
    **COMPRESSED,
    b"PAR1": "parquet",
    b"PARE": "parquet",
    b"ARROW1": "arrow",
    b"\x93NUMPY": "npy",
    PNG: "png",
    JPEG: "jpeg",
    b"PK\3\4": "zip",
}
FAISS = re.compile(rb"I[xwHNLpBr][A-Za-z0-9]{2}")
WIDE = (b"\xff\xfe", b"\xfe\xff", b"\0\0\xfe\xff")
"""Byte order marks of UTF-16 and UTF-32."""
LEAST_HEADER = 10
CONTINUES = b"\xff\xff\xff\xff"


def kind_of(data: memoryview) -> str:
    """By content alone."""
    head = bytes(data[:16])
    kind = next((kind for mark, kind in MARKS.items() if head.startswith(mark)), "")
    if kind:
        return kind
    if is_stream(head, len(data)):
        return "arrow"
    if is_tar(data):
        return "tar"
    if FAISS.match(head) and b"\0" in head[4:]:
        return "faiss"
    if len(data) > LEAST_HEADER and head[8:9] == b"{" and struct.unpack("<Q", head[:8])[0] <= len(data) - 8:
        return "safetensors"
    return "text" if head.startswith(WIDE) or texts.is_text(data) else "binary"


def is_stream(head: bytes, size: int) -> bool:
    """Whether it begins like a stream of Arrow: its first message has to fit."""
    if len(head) < LEAST_HEADER or not head.startswith(CONTINUES):
        return False
    told = int.from_bytes(head[4:8], "little", signed=True)
    return 0 < told < size and told % 8 == 0


def is_tar(data: memoryview) -> bool:
    """Whether the first block is a header by its checksum, or all is empty blocks."""
    if len(data) < tarfile.BLOCKSIZE:
        return False
    head = bytes(data[: tarfile.BLOCKSIZE])
    told = head[148:156].strip(b" \0")
    if not told or any(byte not in b"01234567" for byte in told):
        return len(data) % tarfile.BLOCKSIZE == 0 and len(data) <= BLOCK and not any(data)
    return int(told, 8) == sum(head[:148]) + sum(head[156:]) + 8 * 32


def chunks(data: memoryview) -> Iterator[tuple[str, int, int]]:
    """(name, start, end) of the content of each chunk of a PNG."""
    at = len(PNG)
    while at + 8 <= len(data):
        size, name = struct.unpack_from(">I4s", data, at)
        end = at + 8 + size
        if end + 4 > len(data):
            raise ValueError(f"chunk {name.decode('latin-1')} of a PNG is cut short")
        yield name.decode("latin-1"), at + 8, end
        at = end + 4


class Window(io.RawIOBase):
    """Bytes as a file, without a copy."""

    def __init__(self, data: memoryview) -> None:
        self._data, self._at = data, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: len(self._data)}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer: Any) -> int:
        found = self._data[self._at : self._at + len(buffer)]
        buffer[: len(found)] = found
        self._at += len(found)
        return len(found)


def within(place: str, inner: str) -> str:
    return f"{place} > {inner}" if place else inner
