"""What a FAISS index holds: its ids and its vectors, wherever it keeps them.

The surprising rule: lists are read entry by entry and no map of ids is trusted, so a vector is seen under
whatever id it lies, twice, or under none.

Shapes: N vectors, D width.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]
BLOCK = 16384


@dataclass(frozen=True, slots=True)
class Opened:
    ids_N: Ids
    """In the order of the vectors; -1 where no id leads to one. Ids without vectors come last."""
    inner: Any
    """That keeps the vectors; None if there are none."""
    owner: Any
    """What FAISS read: it owns ``inner``."""

    def vectors(self) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """(first, [n, D]) in the order of the ids. RuntimeError where FAISS cannot make them again."""
        if isinstance(self.inner, faiss.IndexIVF):
            yield from self._listed()
        elif self.inner is not None:
            for start in range(0, int(self.inner.ntotal), BLOCK):
                yield start, self.inner.reconstruct_n(start, min(BLOCK, int(self.inner.ntotal) - start))

    def _listed(self) -> Iterator[tuple[int, NDArray[np.float32]]]:
        lists, start = self.inner.invlists, 0
        for number in range(lists.nlist):
            size = lists.list_size(number)
            if size:
                found = np.zeros((size, self.inner.d), np.float32)
                for at in range(size):
                    self.inner.reconstruct_from_offset(number, at, faiss.swig_ptr(found[at]))
                yield start, found
                start += size


def opened(index: Any) -> Opened:
    """Whatever wraps it: a table of ids, or codes that propose what vectors decide."""
    named: Ids | None = None
    owner, index = index, faiss.downcast_index(index)
    while isinstance(index, (faiss.IndexIDMap, faiss.IndexIDMap2)):
        mine = np.asarray(faiss.vector_to_array(index.id_map), np.int64)
        named = mine if named is None else named
        index = faiss.downcast_index(index.index)
    if isinstance(index, faiss.IndexRefine):
        index = faiss.downcast_index(index.refine_index)
    places = _stored(index) if isinstance(index, faiss.IndexIVF) else np.arange(int(index.ntotal))
    return Opened(_named(places, named), index if len(places) else None, owner)


def _named(places_N: Ids, named: Ids | None) -> Ids:
    """The ids of some places, and behind them the ids that no place has."""
    if named is None:
        return places_N
    known = (places_N >= 0) & (places_N < len(named))
    found = np.full(len(places_N), -1, np.int64)
    found[known] = named[places_N[known]]
    return np.concatenate([found, np.setdiff1d(named, found)])


def _stored(index: Any) -> Ids:
    lists = index.invlists
    found = [
        faiss.rev_swig_ptr(lists.get_ids(number), lists.list_size(number)).astype(np.int64)
        for number in range(lists.nlist)
        if lists.list_size(number)
    ]
    return np.concatenate(found) if found else np.zeros(0, np.int64)
