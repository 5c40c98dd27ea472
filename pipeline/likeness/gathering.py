"""Rows of all deliveries in the order in which they were first seen, read shard by shard.

What is compared of a row takes 1,552 bytes, and all rows so far are judged in one task: so it is in memory
once, and of a shard's table only 100 bytes a row are kept. The surprising rule: signatures stay where they
came, though rows are sorted by uid when a delivery is whole; each row knows where its own stands.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline import schema
from pipeline.duplicates import Preference
from pipeline.likeness import keepers
from pipeline.likeness.lookalikes import Looks
from pipeline.likeness.signatures import Growing, Rows

# N rows, W = 4 words of a sha256
NAMES = (schema.UID, schema.REVISION)
SMALL = (*NAMES, schema.PHASH, schema.PHASH_MIRRORED, *keepers.READS)
"""Some 100 bytes a row, which are sorted."""
READS = (*SMALL, schema.OUTCOME, schema.SHA256, schema.STRUCTURE, schema.TINT)
AT = "at"
"""Column of the small tables: where the row came, among all rows of all shards."""
WORDS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathered:
    """Rows by delivery, then by uid."""

    table: pa.Table
    """NAMES."""
    starts: tuple[int, ...]
    """The first row of each delivery, then the number of rows."""
    looks: Looks
    sha256_NW: NDArray[np.uint64]
    rank_N: Rows
    """Each row's place among all if it were to stay, 0 the best."""
    own: tuple[pa.ChunkedArray, ...]
    """The uids of the last delivery, shard by shard, as they came."""


def gathered(deliveries: Iterable[Iterable[pa.Table]], keeper: tuple[Preference, ...]) -> Gathered:
    """``deliveries``: READS of rows to be judged, by shard, best read as they are asked for."""
    signatures, digests, starts = Growing(), bytearray(), [0]
    sorted_: list[pa.Table] = []
    own: list[pa.ChunkedArray] = []
    for shards in deliveries:
        parts = []
        for rows in shards:
            at = np.arange(len(signatures), len(signatures) + rows.num_rows)
            signatures.add(rows)
            digests += bytes.fromhex("".join(rows[schema.SHA256.name].to_pylist()))
            parts.append(rows.select([field.name for field in SMALL]).append_column(AT, pa.array(at)))
        own = [part[schema.UID.name] for part in parts]
        sorted_.append(pa.concat_tables(parts).sort_by(schema.UID.name))
        starts.append(len(signatures))
    table = pa.concat_tables(sorted_)
    at_N = _numbers(table, AT, np.int64)
    return Gathered(
        table=table.select([field.name for field in NAMES]),
        starts=tuple(starts),
        looks=Looks(
            signatures=signatures.signatures(),
            hashes_N=_numbers(table, schema.PHASH.name, np.uint64),
            mirrored_N=_numbers(table, schema.PHASH_MIRRORED.name, np.uint64),
            at_N=at_N,
        ),
        sha256_NW=np.frombuffer(digests, np.uint64).reshape(-1, WORDS)[at_N],
        rank_N=keepers.ranks(table, keeper),
        own=tuple(own),
    )


def _numbers(table: pa.Table, name: str, kind: type[np.generic]) -> NDArray[Any]:
    return np.asarray(table[name]).astype(kind)
