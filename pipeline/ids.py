"""The append-only table of int64 ids, by which the index knows assets. An id is never given twice.

A corpus register: each segment is a Parquet file of (uid, id), and new ones are added for uids not seen
before.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from infra.corpus import Corpus, Version
from infra.storage import Store
from pipeline import refs, schema, tables

REGISTER = "ids"
ERASED = ""
"""In place of a uid."""
SEGMENT_ROWS = 8_000_000
"""Most of a segment: 240 MB, far below what a store writes at once."""


def given(store: Store, version: Version) -> list[pa.Table]:
    """The table's segments, oldest first."""
    return [tables.read_parquet(ref) for ref in refs.registered(store, version, REGISTER)]


def named(rows: pa.Table) -> dict[str, int]:
    """By uid. The id of an asset that was erased stays taken, and has no name."""
    found = dict(zip(rows["uid"].to_pylist(), rows["id"].to_pylist(), strict=True))
    found.pop(ERASED, None)
    return found


def table(store: Store, version: Version) -> dict[str, int]:
    """Every id ever given, by uid."""
    return {uid: number for rows in given(store, version) for uid, number in named(rows).items()}


def extend(corpus: Corpus, version: Version, uids: Sequence[str]) -> Version:
    """Give the next ids to the uids that have none, in their order."""
    before = given(corpus.store, version)
    known = {uid for rows in before for uid in named(rows)}
    new = [uid for uid in dict.fromkeys(uids) if uid not in known]
    if not new:
        return version
    first = sum(rows.num_rows for rows in before)
    for start in range(0, len(new), SEGMENT_ROWS):
        some = new[start : start + SEGMENT_ROWS]
        ids = range(first + start, first + start + len(some))
        segment = tables.typed({"uid": some, "id": pa.array(ids)}, schema.IDS)
        version = corpus.append(version, REGISTER, tables.to_parquet(segment))
    return version
