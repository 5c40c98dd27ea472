"""Which of several copies stays: the one whose licences reach furthest, then the largest, as configured.

The surprising rule: who stays is settled with the delivery that opens a group. A better copy that comes later
is a duplicate all the same, since what was kept may be in a model by then.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline import schema
from pipeline.duplicates import Preference
from pipeline.likeness.signatures import Rows

# N rows
Worth = NDArray[np.int64]
GRANTS = (schema.MAY_BE_NEIGHBOR, schema.MAY_BE_SHOWN, schema.MAY_DERIVE)
RELEASES = ("unlimited", "not_applicable", "limited", "unknown", "none")
"""Of the people in a picture, the best first: where none is needed, nothing can be withdrawn."""
READS = (*GRANTS, schema.LICENSES, schema.WIDTH, schema.HEIGHT, schema.RELEASE)


def ranks(rows: pa.Table, order: tuple[Preference, ...]) -> Rows:
    """Each row's place, 0 the best, of rows that stand in the order in which they were seen."""
    worths = [worth for name in order for worth in WORTHS[name](rows)]
    best_first = np.lexsort([np.arange(rows.num_rows), *(-worth_N for worth_N in reversed(worths))])
    ranks_N = np.empty(rows.num_rows, np.int64)
    ranks_N[best_first] = np.arange(rows.num_rows)
    return ranks_N


def _licence_breadth(rows: pa.Table) -> list[Worth]:
    """Capabilities that are granted, then licences that grant them."""
    granted = [_numbers(rows[column.name]) for column in GRANTS]
    return [np.sum(granted, 0), _numbers(pc.list_value_length(rows[schema.LICENSES.name]))]


def _resolution(rows: pa.Table) -> list[Worth]:
    return [_numbers(rows[schema.WIDTH.name]) * _numbers(rows[schema.HEIGHT.name])]


def _release(rows: pa.Table) -> list[Worth]:
    place = pc.index_in(rows[schema.RELEASE.name], pa.array(RELEASES))
    return [-_numbers(place)]


def _first_seen(rows: pa.Table) -> list[Worth]:
    return [-np.arange(rows.num_rows)]


def _numbers(column: Any) -> Worth:
    return np.asarray(column).astype(np.int64)


WORTHS: Mapping[Preference, Callable[[pa.Table], list[Worth]]] = {
    "licence_breadth": _licence_breadth,
    "resolution": _resolution,
    "release": _release,
    "first_seen": _first_seen,
}
"""More is better."""
