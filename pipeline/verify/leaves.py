"""The values of a table, however deep they are nested, each with the row of the table that holds it.

The surprising rule: what a reader would pass over is read too: dictionary entries that no row uses, and the
fields of a struct that is null.

Shapes: N values of a leaf.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

Row = Callable[[int], int]
DEEPEST = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Bytes:
    """Strings, or byte strings, end to end."""

    path: tuple[str, ...]
    is_text: bool
    data: memoryview
    ends_N: NDArray[np.int64]
    """[N + 1]: where each begins, and the last ends."""
    row: Row

    def value(self, number: int) -> bytes:
        return bytes(self.data[self.ends_N[number] : self.ends_N[number + 1]])

    def at(self, offset: int) -> int:
        """The number of the value that holds a byte."""
        return int(np.searchsorted(self.ends_N, offset, "right")) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbers:
    path: tuple[str, ...]
    values_N: NDArray[Any]
    ends_L: NDArray[np.int64] | None
    """Where each list begins, and the last ends; None where they stand alone."""
    row: Row


Leaf = Bytes | Numbers


def of(batch: pa.RecordBatch) -> Iterator[Leaf]:
    """ValueError for a type that nobody here can read."""
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        yield from _leaves(column, (name,), lambda number: number, None, 0)


def _leaves(
    array: Any, path: tuple[str, ...], row: Row, ends: NDArray[np.int64] | None, depth: int
) -> Iterator[Leaf]:
    kind = array.type
    if depth > DEEPEST:
        raise ValueError(f"column {'.'.join(path)[:80]} is nested deeper than {DEEPEST}")
    types = pa.types
    if isinstance(kind, pa.BaseExtensionType):
        yield from _leaves(array.storage, path, row, ends, depth + 1)
    elif types.is_dictionary(kind):
        yield from _leaves(array.dictionary, path, _first_use(array, row), None, depth + 1)
    elif types.is_struct(kind):
        for at in range(kind.num_fields):
            yield from _leaves(array.field(at), (*path, kind.field(at).name), row, None, depth + 1)
    elif types.is_map(kind):
        lengths = _lengths(
            array.cast(pa.list_(pa.struct([("key", kind.key_type), ("value", kind.item_type)])))
        )
        for name, part in (("key", array.keys), ("value", array.items)):
            yield from _leaves(part, (*path, name), _within(lengths, row), lengths, depth + 1)
    elif types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        lengths = _lengths(array)
        yield from _leaves(array.flatten(), path, _within(lengths, row), lengths, depth + 1)
    elif types.is_null(kind):
        return
    else:
        yield _flat(array, path, row, ends)


def _lengths(array: Any) -> NDArray[np.int64]:
    found = pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False)
    return np.concatenate([[0], np.cumsum(found, dtype=np.int64)])


def _within(ends: NDArray[np.int64], row: Row) -> Row:
    return lambda number: row(int(np.searchsorted(ends, number, "right")) - 1)


def _first_use(array: Any, row: Row) -> Row:
    """Row of the first use of an entry of a dictionary; -1 if there is none."""
    indices = pc.fill_null(array.indices, -1).to_numpy(zero_copy_only=False)

    def first(number: int) -> int:
        (found,) = np.nonzero(indices == number)
        return row(int(found[0])) if len(found) else -1

    return first


def _flat(array: Any, path: tuple[str, ...], row: Row, ends: NDArray[np.int64] | None) -> Leaf:
    kind, types = array.type, pa.types
    if kind in (pa.string(), pa.binary(), pa.large_string(), pa.large_binary()):
        return _strings(array, path, row, is_text=kind in (pa.string(), pa.large_string()))
    if types.is_fixed_size_binary(kind):
        raw = memoryview(array.buffers()[1] or b"")[array.offset * kind.byte_width :]
        at = np.arange(len(array) + 1, dtype=np.int64) * kind.byte_width
        return Bytes(path=path, is_text=False, data=raw[: at[-1]], ends_N=at, row=row)
    if str(kind) in ("string_view", "binary_view"):
        wide = pa.large_string() if str(kind) == "string_view" else pa.large_binary()
        return _strings(array.cast(wide), path, row, is_text=wide == pa.large_string())
    if types.is_integer(kind) or types.is_floating(kind):
        data = array.buffers()[1]
        flat = np.frombuffer(data if data is not None else b"", np.dtype(kind.to_pandas_dtype()))
        return Numbers(
            path=path, values_N=flat[array.offset : array.offset + len(array)], ends_L=ends, row=row
        )
    if types.is_boolean(kind) or types.is_temporal(kind) or types.is_decimal(kind):
        return Numbers(path=path, values_N=np.zeros(0, np.int8), ends_L=None, row=row)
    raise ValueError(f"column {'.'.join(path)[:80]} has type {str(kind)[:80]}, which is not read")


def _strings(array: Any, path: tuple[str, ...], row: Row, *, is_text: bool) -> Bytes:
    kind = np.int64 if array.type in (pa.large_string(), pa.large_binary()) else np.int32
    _, where, data = array.buffers()
    if where is None or not len(array):
        ends = np.zeros(len(array) + 1, np.int64)
        return Bytes(path=path, is_text=is_text, data=memoryview(b""), ends_N=ends, row=row)
    offsets = np.frombuffer(where, kind)[array.offset : array.offset + len(array) + 1].astype(np.int64)
    raw = memoryview(data if data is not None else b"")[offsets[0] : offsets[-1]]
    return Bytes(path=path, is_text=is_text, data=raw, ends_N=offsets - offsets[0], row=row)
