"""The facts of every member, as columns: what filters look at, and what answers show.

The surprising rule: a row is its member's place in the order of ids, and never leaves this process: replicas
know ids.

Legend: N members.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from retrieval.serving.admission import Admitted, Mask, Rows
from retrieval.serving.facets import Facet
from retrieval.serving.lookup import Lookup

Ids = NDArray[np.int64]

RESULT = pa.schema(
    [
        pa.field("uid", pa.string()),
        pa.field("description", pa.string()),
        pa.field("keywords", pa.list_(pa.string())),
        pa.field("categories", pa.list_(pa.string())),
        pa.field("contributor", pa.string()),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("orientation", pa.string()),
        pa.field("image_type", pa.string()),
        pa.field("ai_generated", pa.string()),
        pa.field("date", pa.date32()),
    ]
)
"""What is told of a member, whoever asks."""
BESIDE = pa.schema(
    [pa.field("id", pa.int64()), pa.field("group", pa.string()), pa.field("reasons", pa.list_(pa.string()))]
)
GIVEN = pa.schema([*(field for field in RESULT if field.name != "orientation"), *BESIDE])
"""What a catalogue is made of, in any order of rows."""
COLUMNS = {
    "category": "categories",
    "contributor": "contributor",
    "image_type": "image_type",
    "orientation": "orientation",
}
"""Of the facets that are the same for every caller, by the name that a query has for them."""
LICENSE = "license"
"""The facet that depends on the caller's purpose."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """What a query narrows its answer by."""

    facets: tuple[tuple[str, frozenset[str]], ...] = ()
    since: date | None = None
    until: date | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogue:
    facts: pa.Table
    """The columns of RESULT, and ``reasons``, in one piece."""
    ids_N: Ids
    """Sorted."""
    groups_N: NDArray[np.int32]
    """Equal for duplicates."""
    days_N: NDArray[np.datetime64]
    """NaT where no date is known."""
    facets: Mapping[str, Facet]
    uids: Lookup

    @classmethod
    def of(cls, given: pa.Table) -> Catalogue:
        """``given`` has the columns of GIVEN."""
        table = given.select(GIVEN.names).cast(GIVEN).sort_by("id")
        facts = table.append_column("orientation", orientation(table["width"], table["height"]))
        facts = facts.select([*RESULT.names, "reasons"]).combine_chunks()
        return cls(
            facts=facts,
            ids_N=np.asarray(table["id"], np.int64),
            groups_N=np.asarray(whole(table["group"]).dictionary_encode().indices, np.int32),
            days_N=np.asarray(table["date"]).astype("datetime64[D]"),
            facets={name: Facet.of(whole(facts[column])) for name, column in COLUMNS.items()},
            uids=Lookup.of(whole(facts["uid"])),
        )

    def __len__(self) -> int:
        return len(self.ids_N)

    def rows(self, ids: Ids) -> Rows:
        """Of ids that are members'."""
        return np.searchsorted(self.ids_N, ids)

    def duplicates(self, row: int) -> Rows:
        """The rows of the same group, its own among them."""
        return np.flatnonzero(self.groups_N == self.groups_N[row])

    def matching(self, where: Where, admitted: Admitted) -> Mask:
        """Members that may be found, and that the filters let pass."""
        found_N = admitted.found_N.copy()
        for name, values in where.facets:
            found_N &= admitted.licensed(values) if name == LICENSE else self.facets[name].mask(values)
        if where.since is not None:
            found_N &= self.days_N >= np.datetime64(where.since)
        if where.until is not None:
            found_N &= self.days_N <= np.datetime64(where.until)
        return found_N


def orientation(width: pa.ChunkedArray, height: pa.ChunkedArray) -> pa.ChunkedArray:
    wide, high = pc.greater(width, height), pc.less(width, height)
    return pc.if_else(wide, "landscape", pc.if_else(high, "portrait", "square"))


def whole(column: pa.ChunkedArray) -> pa.Array:
    """In one piece."""
    found = column.combine_chunks()
    return pa.concat_arrays(found.chunks) if isinstance(found, pa.ChunkedArray) else found
