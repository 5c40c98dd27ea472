"""Which members have which value of a fact: for every value the rows, side by side.

Legend: N rows, V values, F pairs of a row and a value of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from retrieval.serving.admission import Mask


@dataclass(frozen=True, slots=True, kw_only=True)
class Facet:
    num_rows: int
    places: Mapping[str, int]
    """Of the values, by value."""
    starts_V1: NDArray[np.int64]
    rows_F: NDArray[np.int32]
    """Those of value v are ``[starts[v] : starts[v + 1]]``, each once."""

    @classmethod
    def of(cls, column: pa.Array) -> Facet:
        """Of strings, or of lists of strings; nulls have no value."""
        listed = pa.types.is_list(column.type)
        rows_F = np.asarray(pc.list_parent_indices(column)) if listed else np.arange(len(column))
        coded = (pc.list_flatten(column) if listed else column).dictionary_encode()
        codes_F = np.asarray(pc.fill_null(coded.indices, -1), np.int64)
        known_F = codes_F >= 0
        # Sorted by value, then by row; a row that names a value twice has it once.
        pairs_F = np.unique(codes_F[known_F] * len(column) + rows_F[known_F])
        values = coded.dictionary.to_pylist()
        edges_V1 = np.arange(len(values) + 1, dtype=np.int64) * len(column)
        return cls(
            num_rows=len(column),
            places={value: place for place, value in enumerate(values)},
            starts_V1=np.searchsorted(pairs_F, edges_V1),
            rows_F=(pairs_F % max(1, len(column))).astype(np.int32),
        )

    def mask(self, wanted: Iterable[str]) -> Mask:
        """Rows that have one of the values [N]; those that nobody has match nothing."""
        found_N = np.zeros(self.num_rows, np.bool_)
        for place in (self.places[value] for value in wanted if value in self.places):
            found_N[self.rows_F[self.starts_V1[place] : self.starts_V1[place + 1]]] = True
        return found_N

    def counts(self, among_N: Mask) -> dict[str, int]:
        """Rows ``among`` that have each value; values of none are left out."""
        if not self.places:
            return {}
        found_V = np.add.reduceat(among_N[self.rows_F], self.starts_V1[:-1], dtype=np.int64).tolist()
        return {value: found_V[place] for value, place in self.places.items() if found_V[place]}
