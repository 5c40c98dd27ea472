"""Registers and kept deliveries without the assets that are gone.

The surprising rule: an append-only register is written anew here, and nowhere else. Numbers that were given
stay taken, or an id would one day mean another picture.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc

from infra.corpus import Corpus, Folded, Version
from pipeline import erasing, ids, schema, tables, withdrawn
from pipeline.deliveries import kept
from pipeline.step import generation

UID = schema.UID.name


def scrubbed(corpus: Corpus, version: Version, slots: Mapping[str, Collection[str]]) -> Version:
    """The version with registers and kept rows in which nothing of these assets stands, by slot."""
    gone = {uid for some in slots.values() for uid in some}
    version = _rewritten(corpus, version, ids.REGISTER, lambda table: nameless(table, gone))
    version = _rewritten(corpus, version, withdrawn.REGISTER, lambda table: erasing.dropped(table, gone))
    deliveries = tuple(
        _without_rows(corpus, folded, number, slots) for number, folded in enumerate(version.deliveries)
    )
    return replace(version, deliveries=deliveries)


def nameless(table: pa.Table, gone: Collection[str]) -> pa.Table:
    """The id table: an id that was given stays taken."""
    named = pc.is_in(table[UID], value_set=pa.array(sorted(gone), pa.string()))
    at = table.schema.get_field_index(UID)
    return table.set_column(at, schema.UID, pc.if_else(named, ids.ERASED, table[UID]))


def _rewritten(
    corpus: Corpus, version: Version, register: str, change: Callable[[pa.Table], pa.Table]
) -> Version:
    """Segments that change are others from now on; the rest keep their names."""
    names = []
    for name, data in zip(
        version.registers.get(register, ()), corpus.segments(version, register), strict=True
    ):
        table = erasing.table_of("segment.parquet", data)
        changed = change(table)
        if changed.equals(table):
            names.append(name)
            continue
        written = tables.to_parquet(changed)
        names.append(f"registers/{register}/{hashlib.sha256(written).hexdigest()}")
        corpus.store.create(names[-1], written)
    return replace(version, registers={**version.registers, register: tuple(names)}) if names else version


def _without_rows(
    corpus: Corpus, folded: Folded, number: int, slots: Mapping[str, Collection[str]]
) -> Folded:
    """A delivery whose kept tables and lists no longer hold the rows; tars have none to hold."""
    mine = {
        int(slot.partition("-")[2]): some for slot, some in slots.items() if int(generation(slot)) == number
    }
    if not mine:
        return folded
    return kept.without(corpus.store, folded, mine)
