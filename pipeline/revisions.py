"""Which delivered rows are out of date: of an asset's revisions the highest counts, and it counts whole.

The surprising rule: of equal revisions the first counts, whatever the later one says. Otherwise what was
revoked would be back as soon as it was sent again; a change needs a revision of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pyarrow as pa
import pyarrow.compute as pc

from pipeline import schema

SUPERSEDED = "superseded"
"""The reason of a row whose asset has a higher revision, wherever that was delivered."""
REVISION_SEEN = "revision_seen: raise asset_revision to change an asset"
"""The reason of a row whose very revision was delivered before."""
REVISIONS = pa.schema([schema.UID, schema.REVISION])


def outdated(revisions: Mapping[str, pa.Table]) -> dict[str, dict[str, str]]:
    """For each slot that has such rows: the reason of each, by uid.

    ``revisions`` are the (uid, revision) of every slot; a slot names an asset once at most.
    """
    rows = list(contested(revisions))
    current: dict[str, tuple[int, str]] = {}
    for slot, uid, revision in rows:
        if uid not in current or revision > current[uid][0]:
            current[uid] = (revision, slot)
    found: dict[str, dict[str, str]] = {}
    for slot, uid, revision in rows:
        highest, where = current[uid]
        if slot != where:
            found.setdefault(slot, {})[uid] = SUPERSEDED if revision < highest else REVISION_SEEN
    return found


def contested(revisions: Mapping[str, pa.Table]) -> Iterator[tuple[str, str, int]]:
    """(slot, uid, revision) of the assets that came more than once, in the order of slots."""
    uid, revision = schema.UID.name, schema.REVISION.name
    everything = pa.chunked_array(
        [chunk for table in revisions.values() for chunk in table[uid].chunks], pa.string()
    )
    tally = pc.value_counts(everything)
    several = tally.field("values").filter(pc.greater(tally.field("counts"), 1))
    for slot, table in sorted(revisions.items()):
        rows = table.filter(pc.is_in(table[uid], value_set=several))
        for name, number in zip(rows[uid].to_pylist(), rows[revision].to_pylist(), strict=True):
            yield slot, name, number
