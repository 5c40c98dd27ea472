"""What was made of assets, by the tables that say so: whoever derives leaves one beside its packs.

The surprising rule: nothing is known here of what was made. A table of examples names the assets that each
hangs on, ``sources``, and the uids that were made for it, ``derived``; both go where a source goes.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from collections.abc import Set as AbstractSet

import pyarrow.parquet as pq

from infra.artifact import Artifact, Shard
from infra.storage import Store
from pipeline import refs

SOURCES, DERIVED = "sources", "derived"


def tables_of(store: Store, shard: Shard) -> Iterator[tuple[str, pq.ParquetFile]]:
    """(file, table of examples), not read yet but for its schema."""
    for name in (name for name in shard.files if name.endswith(".parquet")):
        file = pq.ParquetFile(io.BytesIO(refs.of(store, shard, name).read()))
        if SOURCES in file.schema_arrow.names:
            yield name, file


def derived_from(store: Store, artifact: Artifact, gone: AbstractSet[str]) -> frozenset[str]:
    """What was derived from any of these assets: it goes where they go."""
    if not gone:
        return frozenset()
    found: set[str] = set()
    for shard in artifact.shards.values():
        for _, file in tables_of(store, shard):
            for row in file.read(columns=[SOURCES, DERIVED]).to_pylist():
                if not gone.isdisjoint(row[SOURCES]):
                    found.update(row[DERIVED])
    return frozenset(found)
