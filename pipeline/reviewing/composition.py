"""What a corpus is made of, and how that shifts when rows are removed: pure functions on Arrow tables.

A *dimension* gives each row its values: one (image type) or several (categories, terms for people).
A share is of rows, so the shares of a dimension with several values may add up to more than one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline import schema
from pipeline.reviewing import identity_terms

Z = 1.959964
"""Two-sided 95 %."""
ENOUGH = 20
"""Rows of a value from which its removal rate is compared: with fewer, the interval is wider than a third."""
NONE = "(none)"
BATCH_ROWS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Dimension:
    """The values of rows, as pairs: row ``rows[i]`` has value ``names[values[i]]``, each at most once."""

    name: str
    names: tuple[str, ...]
    rows: NDArray[np.int64]
    values: NDArray[np.int64]

    def counts(self, mask: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Rows of each value among those that ``mask`` marks."""
        return np.bincount(self.values[mask[self.rows]], minlength=len(self.names)).astype(np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shift:
    """What removal did to the rows of one value."""

    value: str
    before: int
    removed: int
    share_before: float
    share_after: float
    rate: float
    """Share of them that was removed."""
    low: float
    high: float
    """Wilson's 95 % interval of the rate."""
    ratio: float
    """To the rate of all rows; 1 where nothing was removed at all."""
    flag: Literal["over-removed", "under-removed"] | None
    """Set where the interval leaves out the rate of all rows and there are :data:`ENOUGH` rows."""


def single(name: str, column: pa.ChunkedArray) -> Dimension:
    """Every row has one value; null and the empty string are :data:`NONE`."""
    texts = pc.fill_null(column, "")
    encoded = pc.if_else(pc.equal(texts, ""), NONE, texts).combine_chunks().dictionary_encode()
    values = np.asarray(encoded.indices, np.int64)
    names = tuple(encoded.dictionary.to_pylist())
    return Dimension(name=name, names=names, rows=np.arange(len(values)), values=values)


def several(name: str, column: pa.ChunkedArray) -> Dimension:
    """Rows of a list column; a row with an empty list has the value :data:`NONE`."""
    lists = column.combine_chunks()
    encoded = pc.list_flatten(lists).dictionary_encode()
    rows, values = (np.asarray(one, np.int64) for one in (pc.list_parent_indices(lists), encoded.indices))
    return of_pairs(name, tuple(encoded.dictionary.to_pylist()), rows, values, total=len(lists))


def of_pairs(
    name: str, names: tuple[str, ...], rows: NDArray[np.int64], values: NDArray[np.int64], *, total: int
) -> Dimension:
    """Each pair once, and :data:`NONE` for the rows that have no value."""
    without = np.setdiff1d(np.arange(total), rows)
    if without.size:
        names = (*names, NONE)
        rows = np.concatenate([rows, without])
        values = np.concatenate([values, np.full(without.size, len(names) - 1)])
    width = max(len(names), 1)
    rows, values = np.divmod(np.unique(rows * width + values), width)
    return Dimension(name=name, names=names, rows=rows, values=values)


def identities(rows: pa.Table) -> list[Dimension]:
    """The terms for people in captions and keywords, a dimension for each axis."""
    found: dict[str, list[tuple[int, str]]] = {axis: [] for axis in identity_terms.TERMS}
    # A loop over rows, since a term may be two words: 35 s of a CPU for a million rows with eight keywords.
    for number, texts in enumerate(texts_of(rows)):
        for axis, group in identity_terms.named(texts):
            found[axis].append((number, group))
    return [of_terms(axis, pairs, rows.num_rows) for axis, pairs in found.items()]


def texts_of(rows: pa.Table) -> Iterator[list[str]]:
    """Caption and keywords, row by row, a batch of them in memory as objects."""
    columns = [schema.DESCRIPTION.name, schema.KEYWORDS.name]
    for batch in rows.select(columns).to_batches(max_chunksize=BATCH_ROWS):
        for caption, keywords in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            yield [caption, *keywords]


def of_terms(axis: str, pairs: Sequence[tuple[int, str]], total: int) -> Dimension:
    names = tuple(identity_terms.TERMS[axis])
    there = sorted({group for _, group in pairs}, key=names.index)
    rows = np.array([row for row, _ in pairs], np.int64)
    values = np.array([there.index(group) for _, group in pairs], np.int64)
    return of_pairs(axis, tuple(there), rows, values, total=total)


SINGLE = (schema.IMAGE_TYPE, schema.AI_GENERATED, schema.PEOPLE, schema.CONTRIBUTOR)


def dimensions(rows: pa.Table) -> list[Dimension]:
    """All that the catalog has columns for; one of an older release has fewer."""
    there = rows.column_names
    found = (
        [several(schema.CATEGORIES.name, rows[schema.CATEGORIES.name])]
        if schema.CATEGORIES.name in there
        else []
    )
    found += [single(column.name, rows[column.name]) for column in SINGLE if column.name in there]
    return [*found, *identities(rows)]


def wilson(hits: int, total: int) -> tuple[float, float]:
    """Wilson's score interval of a share (JASA 1927); everything is possible of nothing.

    >>> tuple(round(end, 4) for end in wilson(10, 100))
    (0.0552, 0.1744)
    """
    if not total:
        return 0.0, 1.0
    share, square = hits / total, Z * Z / total
    middle = (share + square / 2) / (1 + square)
    half = Z * ((share * (1 - share) + square / 4) / total) ** 0.5 / (1 + square)
    # The ends are 0 and 1 exactly where nothing or all was hit; the sums above miss them by rounding.
    return (0.0 if not hits else middle - half), (1.0 if hits == total else middle + half)


def shifts(dimension: Dimension, removed: NDArray[np.bool_]) -> list[Shift]:
    """For every value, the most frequent first, how the rows that are removed change its part."""
    total, lost = len(removed), int(removed.sum())
    before = dimension.counts(np.ones(total, bool)).tolist()
    gone = dimension.counts(removed).tolist()
    found = []
    for value, came, went in zip(dimension.names, before, gone, strict=True):
        low, high = wilson(went, came)
        overall = lost / total
        shift = Shift(
            value=value,
            before=came,
            removed=went,
            share_before=came / total,
            share_after=(came - went) / (total - lost) if lost < total else 0.0,
            rate=went / came,
            low=low,
            high=high,
            ratio=went / came / overall if lost else 1.0,
            flag=flag(low, high, overall) if came >= ENOUGH else None,
        )
        found.append(shift)
    return sorted(found, key=lambda one: (-one.before, one.value))


def flag(low: float, high: float, overall: float) -> Literal["over-removed", "under-removed"] | None:
    if low > overall:
        return "over-removed"
    return "under-removed" if high < overall else None


def distance(dimension: Dimension, removed: NDArray[np.bool_]) -> float:
    """Total variation, 0 to 1, between how often each value stands before and after.

    Half the sum of the differences; 1 too where the removal leaves nothing of what there was.
    """
    before = dimension.counts(np.ones(len(removed), bool))
    after = before - dimension.counts(removed)
    if not before.sum():
        return 0.0
    if not after.sum():
        return 1.0
    return float(np.abs(before / before.sum() - after / after.sum()).sum() / 2)


def concentration(dimension: Dimension, mask: NDArray[np.bool_]) -> Mapping[str, float]:
    """How many values share the rows, the largest one's part, and the effective number: 1 / sum of squares.

    Ten contributors of equal parts count as ten, and as little more than one if one of them has nearly all.
    """
    counts = dimension.counts(mask)
    if not counts.sum():
        return {"count": 0, "largest": 0.0, "effective": 0.0}
    parts = counts / counts.sum()
    return {
        "count": int((counts > 0).sum()),
        "largest": float(parts.max()),
        "effective": float(1 / (parts**2).sum()),
    }
