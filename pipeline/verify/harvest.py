"""What is known of the revoked assets: everything that stands in rows, members and vectors of theirs.

The surprising rule: columns are not named here. Of whatever stands in a revoked asset's row, words become
texts, numbers become runs or vectors, bytes become pieces; what others share is dropped afterwards.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.verify import naming, numbers, segments, texts
from pipeline.verify.evidence import Item
from pipeline.verify.kinds import JPEG, PNG, chunks
from pipeline.verify.resolving import parsed

LEAST_TEXT = 12
"""Characters of words that are nobody else's by accident."""
NOT_WORDS = re.compile(r"[\d\s:.,TZ+/-]*|[0-9a-f]{16,}")
"""Instants, numbers and hashes."""
HEX_DIGEST = re.compile(r"[0-9a-f]{64}")
NAMES = frozenset(
    {
        *("uid", "group", "keeper", "key", "sources", "also_like", "candidates", "found_by"),
        *("provider", "delivery_id", "contributor", "licenses", "license_ids", "schema"),
        *("outcome", "reasons", "settled_by", "text_tokenizer", "image_tokenizer"),
    }
)
"""Columns and keys whose strings are names of others, or of what all share."""
MADE = frozenset({"derived", "example", "example_id"})
PIECE, PIECES = 24, 8
"""Bytes of a piece of a picture, and how many are kept of one."""


@dataclass(frozen=True, slots=True)
class Wanted:
    names: Mapping[str, str]
    """Uid, or name of what was made of one, to the uid by which it is told."""
    ids: Mapping[int, str]


class Harvester:
    """A sight that keeps what belongs to the revoked."""

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted
        self._numbers = np.array(sorted(wanted.ids), np.int64)
        assets = {name.partition(":")[2] for name in wanted.names}
        self._strings = assets | set(wanted.names) | {name.replace(":", "_", 1) for name in wanted.names}
        self.seen: set[Item] = set()

    def begin(self) -> set[Item]:
        self.seen = set()
        return self.seen

    def raw(self, data: memoryview, place: str, parts: Any) -> None: ...
    def name(self, name: str, place: str) -> None: ...
    def array(self, values: NDArray[Any], place: str) -> None: ...
    def binary(self, data: memoryview, place: str) -> None: ...

    def member(self, name: str, data: memoryview, _place: str) -> None:
        uid = self._wanted.names.get(naming.uid_of_member(name))
        if uid is None:
            return
        if name.endswith((".json", ".txt")):
            record = parsed(bytes(data))
            said = list(texts.strings(record)) if record else [("", bytes(data).decode("utf-8", "replace"))]
            for key, value in said:
                self.seen.update(of_string(uid, key, value))
        else:
            self.seen.update(of_picture(uid, bytes(data)))

    def text(self, data: bytes, _place: str) -> None:
        """Lines of JSON that are about one of them, such as the rows that a delivery was cut into."""
        for _, value in texts.documents(data):
            lines = value if isinstance(value, list) else [value]
            for line in (one for one in lines if isinstance(one, dict)):
                said = list(texts.strings(line))
                if len(said) > LONGEST_ROW:
                    continue  # a manifest or a report: of many
                mine = (one for _, one in said if one in self._strings)
                uid = next((self._uid(one) for one in mine), None)
                if uid:
                    for key, one in said:
                        self.seen.update(of_string(uid, key, one))

    def _uid(self, value: str) -> str | None:
        names = self._wanted.names
        by_key = value.replace("_", ":", 1)
        whole = names.get(value) or names.get(by_key)
        return whole or next((uid for name, uid in names.items() if name.partition(":")[2] == value), None)

    def batch(self, batch: pa.RecordBatch, _place: str, _row: int, schema: pa.Schema) -> None:
        owners: dict[int, str] = {}
        for column in ("uid", "sources"):
            if column in schema.names:
                for number, told in enumerate(batch.column(column).to_pylist()):
                    many = told if isinstance(told, list) else [told]
                    uid = next((self._wanted.names[one] for one in many if one in self._wanted.names), None)
                    if uid is not None:
                        owners.setdefault(number, uid)
        if owners:
            mine = pa.Table.from_batches([batch]).take(pa.array(sorted(owners)))
            for number, told in zip(sorted(owners), mine.to_pylist(), strict=True):
                for name, value in told.items():
                    kind = schema.field(name).type
                    self.seen.update(of_value(owners[number], name, value, kind))

    def index(self, index: Any, _place: str) -> None:
        opened = segments.opened(index)
        if not np.isin(opened.ids_N, self._numbers).any():
            return
        for start, vectors_ND in opened.vectors():
            ids = opened.ids_N[start : start + len(vectors_ND)]
            for at in np.nonzero(np.isin(ids, self._numbers))[0].tolist():
                uid = self._wanted.ids[int(ids[at])]
                self.seen.update(of_vector(uid, vectors_ND[at]))


LONGEST_ROW = 512


def of_value(uid: str, name: str, value: Any, kind: pa.DataType) -> Iterator[Item]:
    """Of one cell, however deep."""
    if isinstance(value, str):
        record = parsed(value.encode()) if value[:1] == "{" else {}
        for key, one in texts.strings(record) if record else [(name, value)]:
            yield from of_string(uid, key, one)
    elif isinstance(value, bytes):
        yield from of_bytes(uid, value)
    elif isinstance(value, dict):
        for inner, one in value.items():
            field = kind.field(inner).type if pa.types.is_struct(kind) else pa.null()
            yield from of_value(uid, inner, one, field)
    elif isinstance(value, list):
        yield from of_list(uid, name, value, getattr(kind, "value_type", pa.null()))
    elif isinstance(value, int) and kind == pa.uint64():
        yield Item("integer", uid, name, value.to_bytes(8, "little"))
    elif isinstance(value, int) and kind == pa.int64() and name == "id":
        yield Item("index_id", uid, name, value.to_bytes(8, "little", signed=True))


def of_list(uid: str, name: str, values: list[Any], element: pa.DataType) -> Iterator[Item]:
    if pa.types.is_integer(element):
        width = numbers.WORDS if name == "ids" else numbers.CODES
        yield from of_run(uid, np.array([one for one in values if one is not None], np.int64), width)
    elif pa.types.is_floating(element):
        yield from of_vector(uid, np.array(values, np.float32))
    else:
        for one in values:
            yield from of_value(uid, name, one, element)


def of_string(uid: str, name: str, value: str) -> Iterator[Item]:
    key = name.rpartition(".")[2]
    if key in MADE:
        yield Item("id", uid, "made", value.encode())
    elif HEX_DIGEST.fullmatch(value) and key not in NAMES:
        yield Item("digest", uid, key, bytes.fromhex(value))
    elif key not in NAMES and not NOT_WORDS.fullmatch(value):
        value = unicodedata.normalize("NFC", value).strip()
        if len(value) >= LEAST_TEXT:
            yield Item("text", uid, key, value.encode("utf-8", "replace"))
        elif " " in value:
            yield Item("unseen", uid, key, b"words that are too short to be told from others'")


def of_run(uid: str, values_N: NDArray[np.int64], width: int) -> Iterator[Item]:
    found = numbers.telling(values_N, width)
    if len(found):
        yield Item("codes", uid, str(width), found.tobytes())
    else:
        why = "image codes" if width == numbers.CODES else "text ids"
        yield Item("unseen", uid, why, b"too few or too plain to be told from others'")


def of_vector(uid: str, vector_D: NDArray[Any]) -> Iterator[Item]:
    vector = np.asarray(vector_D, np.float32)
    if len(vector) >= numbers.SHORTEST_VECTOR and np.isfinite(vector).all() and vector.any():
        yield Item("vector", uid, str(len(vector)), vector.tobytes())


def of_bytes(uid: str, value: bytes) -> Iterator[Item]:
    if value.startswith((PNG, JPEG)) or len(value) > LARGEST_MEASURE:
        yield from of_picture(uid, value)
    elif len(value) == hashlib.sha256().digest_size:
        yield Item("digest", uid, "", value)
    else:
        yield from (Item("blob", uid, "measure", piece) for piece in pieces(value, 0))


LARGEST_MEASURE = 4096


def of_picture(uid: str, data: bytes) -> Iterator[Item]:
    yield Item("digest", uid, "picture", hashlib.sha256(data).digest())
    yield from (Item("blob", uid, "picture", piece) for piece in pieces(data, _body(data)))


def _body(data: bytes) -> int:
    """Where the picture itself begins, behind what pictures of a kind have in common."""
    if data.startswith(JPEG):
        scan = data.find(b"\xff\xda")
        return max(scan, 0) + 16
    if data.startswith(PNG):
        return next((start + 8 for name, start, _ in chunks(memoryview(data)) if name == "IDAT"), 0)
    return 0


def pieces(data: bytes, start: int) -> Sequence[bytes]:
    """Some of it, varied enough to be found in nothing else."""
    places = np.linspace(start, max(start, len(data) - PIECE), 4 * PIECES).astype(int).tolist()
    found = dict.fromkeys(data[at : at + PIECE] for at in places)
    return [one for one in found if len(one) == PIECE and len(set(one)) > PIECE // 2][::1][: 4 * PIECES]
