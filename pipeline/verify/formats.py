"""Opens bytes by what they are, whatever their name, and hands over what they hold.

The surprising rule: nothing is executed and nothing grows without a bound. What unpacks to more than
``budget`` bytes, is nested too deep, or claims to be what it is not, raises :class:`Unread`; bytes of no
known kind are handed over raw.
"""

from __future__ import annotations

import bz2
import io
import lzma
import struct
import tarfile
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Protocol

import faiss
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.verify import texts
from pipeline.verify.kinds import BLOCK, COMPRESSED, NAMED, Window, chunks, kind_of, within

DEEPEST = 8
BUDGET = 4 << 30
"""Bytes that one file may unpack to, all together."""
BATCH_ROWS = 4096


class Unread(ValueError):
    """Bytes that should be readable, and are not."""

    def __init__(self, place: str, why: str) -> None:
        super().__init__(f"{place}: {why}" if place else why)


class TooLarge(Unread):
    """They unpack to more than is read."""


class Sight(Protocol):
    """What looks at the things that were opened. ``place`` says where in the file they are."""

    def raw(self, data: memoryview, place: str, parts: list[Part], /) -> None:
        """The bytes of a file, or of what was unpacked from one, with the parts that are known of it."""

    def name(self, name: str, place: str, /) -> None: ...
    def text(self, data: bytes, place: str, /) -> None: ...
    def member(self, name: str, data: memoryview, place: str, /) -> None:
        """A file in an archive, beside what :meth:`raw` saw of its bytes."""

    def batch(self, batch: pa.RecordBatch, place: str, row: int, schema: pa.Schema, /) -> None: ...
    def array(self, values: NDArray[Any], place: str, /) -> None: ...
    def binary(self, data: memoryview, place: str, /) -> None:
        """Bytes of no known kind, in which numbers may lie."""

    def index(self, index: Any, place: str, /) -> None: ...


@dataclass(frozen=True, slots=True)
class Part:
    """A named stretch of some bytes."""

    start: int
    end: int
    name: str


@dataclass(slots=True)
class Opener:
    """Of one file: counts what is unpacked."""

    sight: Sight
    budget: int = BUDGET
    kinds: set[str] = field(default_factory=set)

    def open(self, data: memoryview, name: str, place: str = "", depth: int = 0, *, new: bool = True) -> None:
        """``new``: bytes that no earlier :meth:`Sight.raw` saw."""
        if depth > DEEPEST:
            raise Unread(place, f"packed {depth} deep; unpack it and verify what is in it")
        kind = kind_of(data)
        wanted = NAMED.get(PurePosixPath(name).suffix.lower()) if depth == 0 else None
        if wanted is not None and kind not in (wanted, *COMPRESSED.values()) and len(data):
            raise Unread(place, f"no {wanted}, though it is named so")
        self.kinds.add(kind)
        parts: list[Part] = []
        try:
            if kind in OPENERS:
                parts = OPENERS[kind](self, data, place, depth) or []
        except Unread:
            raise
        except (MemoryError, pa.ArrowMemoryError):
            raise Unread(place, "needs more memory than a reader may take") from None
        except Exception as error:  # noqa: BLE001  # hostile bytes raise anything at all
            told = " ".join(str(error).split())[:200]
            raise Unread(place, f"no {kind} that can be read: {type(error).__name__}: {told}") from None
        finally:  # what cannot be opened is searched as it stands
            if new:
                self.sight.raw(data, place, parts)

    def take(self, size: int, place: str) -> None:
        self.budget -= size
        if self.budget < 0:
            raise TooLarge(
                place, "unpacks to more than is read of one file; unpack it elsewhere, or delete it"
            )

    def tar(self, data: memoryview, place: str, depth: int) -> list[Part]:
        parts = []
        with tarfile.open(fileobj=Window(data), mode="r:", ignore_zeros=True) as tar:
            for member in tar:
                inner = within(place, member.name)
                self.sight.name(member.name, within(place, "a member's name"))
                for said in (member.linkname, *member.pax_headers.values()):
                    if said:
                        self.sight.name(said, inner)
                if member.isreg():
                    start, end = member.offset_data, member.offset_data + member.size
                    if end > len(data) or member.sparse is not None:
                        raise Unread(inner, "is cut short, or has holes")
                    parts.append(Part(member.offset, end, member.name))
                    self.sight.member(member.name, data[start:end], inner)
                    self.open(data[start:end], member.name, inner, depth + 1, new=False)
                vars(tar)["members"].clear()  # a tar of a million members must not stay in memory
            if not parts and any(data[:BLOCK]):
                raise Unread(place, "a tar without members")
        return parts

    def zip(self, data: memoryview, place: str, depth: int) -> None:
        with zipfile.ZipFile(Window(data)) as archive:
            for member in archive.infolist():
                inner = within(place, member.filename)
                self.sight.name(member.filename, within(place, "a member's name"))
                with archive.open(member) as file:
                    found = memoryview(self._read(file, inner))
                self.sight.member(member.filename, found, inner)
                self.open(found, member.filename, inner, depth + 1)

    def compressed(self, data: memoryview, place: str, depth: int) -> None:
        kind = kind_of(data)
        inner = within(place, f"{kind}'s content")
        if kind == "gzip":
            found = self._inflated(data, inner, zlib.MAX_WBITS | 16)
        elif kind == "bz2":
            with bz2.BZ2File(Window(data)) as stream:
                found = self._read(stream, inner)
        elif kind == "xz":
            with lzma.LZMAFile(io.BufferedReader(Window(data))) as stream:
                found = self._read(stream, inner)
        else:
            with pa.CompressedInputStream(pa.BufferReader(pa.py_buffer(data)), kind) as unpacked:
                found = self._read(unpacked, inner)
        self.open(memoryview(found), "", inner, depth + 1)

    def _read(self, stream: Any, place: str) -> bytes:
        found = bytearray()
        while piece := stream.read(BLOCK):
            self.take(len(piece), place)
            found += piece
        return bytes(found)

    def _inflated(self, data: memoryview, place: str, window: int) -> bytes:
        """All members of a gzip, or one zlib stream."""
        found, rest = bytearray(), bytes(data)
        while rest:
            engine = zlib.decompressobj(window)
            while not engine.eof:
                piece = engine.decompress(rest, BLOCK)
                rest = engine.unconsumed_tail
                self.take(len(piece), place)
                found += piece
                if not piece and not engine.eof:
                    raise Unread(place, "the stream is cut short")
            rest = engine.unused_data.lstrip(b"\0")
            if window == zlib.MAX_WBITS:
                break
        return bytes(found)

    def png(self, data: memoryview, place: str, depth: int) -> None:
        for name, start, end in chunks(data):
            inner = within(place, f"chunk {name}")
            if name == "zTXt":
                keyword = bytes(data[start:end]).partition(b"\0")[0]
                packed = data[start + len(keyword) + 2 : end]
            elif name == "iTXt":
                keyword, _, rest = bytes(data[start:end]).partition(b"\0")
                if rest[:1] != b"\1":
                    self._as_text(data[start:end], inner)
                    continue
                _, _, rest = rest[2:].partition(b"\0")
                packed = memoryview(rest.partition(b"\0")[2])
            elif name == "tEXt":
                self._as_text(data[start:end], inner)
                continue
            elif name in ("iCCP", "eXIf"):
                continue
            else:
                continue
            self.open(memoryview(self._inflated(packed, inner, zlib.MAX_WBITS)), "", inner, depth + 1)

    def _as_text(self, data: memoryview, place: str) -> None:
        self.sight.text(bytes(data), place)

    def words(self, data: memoryview, place: str, depth: int) -> None:
        whole = texts.wide_text(data)
        if len(data) > texts.LONGEST:
            raise Unread(place, f"a text of over {texts.LONGEST} bytes; split it, or delete it")
        if whole is not None:
            self.take(len(whole), place)
            self.sight.raw(memoryview(whole), within(place, "as UTF-8"), [])
        told = bytes(data) if whole is None else whole
        self.sight.text(told, place)
        joined, parts = bytearray(), []  # small ones are searched together: 0.1 ms each would add up
        for offset, inner in texts.encoded(told):
            at = f"base64 at {offset}"
            self.take(len(inner), within(place, at))
            if kind_of(memoryview(inner)) not in ("binary", "text"):
                self.open(memoryview(inner), "", within(place, at), depth + 1)
            else:
                parts.append(Part(len(joined), len(joined) + len(inner), at))
                joined += inner + b"\0"
        if joined:
            self.sight.raw(memoryview(bytes(joined)), place, parts)

    def parquet(self, data: memoryview, place: str, _depth: int) -> None:
        with pq.ParquetFile(pa.BufferReader(pa.py_buffer(data)), page_checksum_verification=False) as file:
            schema, row = file.schema_arrow, 0
            for batch in file.iter_batches(BATCH_ROWS, use_threads=False):
                self.sight.batch(batch, place, row, schema)
                row += batch.num_rows
            if not row:
                self.sight.batch(pa.RecordBatch.from_pylist([], schema=schema), place, 0, schema)

    def arrow(self, data: memoryview, place: str, _depth: int) -> None:
        source = pa.BufferReader(pa.py_buffer(data))
        if bytes(data[:6]) == b"ARROW1":
            with pa.ipc.open_file(source) as file:
                self._batches((file.get_batch(n) for n in range(file.num_record_batches)), file.schema, place)
        else:
            with pa.ipc.open_stream(source) as stream:
                self._batches(stream, stream.schema, place)

    def _batches(self, batches: Any, schema: pa.Schema, place: str) -> None:
        row = 0
        for batch in batches:
            batch.validate(full=True)
            self.sight.batch(batch, place, row, schema)
            row += batch.num_rows
        if not row:
            self.sight.batch(pa.RecordBatch.from_pylist([], schema=schema), place, 0, schema)

    def npy(self, data: memoryview, place: str, _depth: int) -> None:
        source = Window(data)
        version = np.lib.format.read_magic(source)
        head = (
            np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        )
        shape, fortran, dtype = head(source)
        if dtype.hasobject or dtype.names is not None:
            self.sight.binary(data, place)
            return
        values = np.frombuffer(data, dtype, offset=source.tell())
        self.sight.array(values.reshape(shape, order="F" if fortran else "C"), place)

    def safetensors(self, data: memoryview, place: str, _depth: int) -> None:
        (size,) = struct.unpack_from("<Q", data)
        self.sight.text(bytes(data[8 : 8 + size]), within(place, "header"))
        self.sight.binary(data[8 + size :], within(place, "tensors"))

    def segment(self, data: memoryview, place: str, _depth: int) -> None:
        faiss.set_deserialization_vector_byte_limit(max(len(data), 1 << 30))
        self.sight.index(faiss.deserialize_index(np.frombuffer(data, np.uint8)), place)

    def unknown(self, data: memoryview, place: str, _depth: int) -> None:
        self.sight.binary(data, place)


OPENERS: dict[str, Any] = {
    "tar": Opener.tar,
    "zip": Opener.zip,
    "gzip": Opener.compressed,
    "zstd": Opener.compressed,
    "bz2": Opener.compressed,
    "xz": Opener.compressed,
    "lz4": Opener.compressed,
    "png": Opener.png,
    "text": Opener.words,
    "parquet": Opener.parquet,
    "arrow": Opener.arrow,
    "npy": Opener.npy,
    "safetensors": Opener.safetensors,
    "faiss": Opener.segment,
    "binary": Opener.unknown,
}
