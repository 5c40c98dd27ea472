"""The members of a version's index as columns, in the order of their ids: a million of them are 600 MB."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from infra.artifact import Shard
from infra.corpus import Corpus, Version
from pipeline import outcomes, refs, schema, tables
from pipeline.indexing import MEMBERS
from pipeline.step import ROWS

OF_CATALOG = (
    *(schema.UID, schema.REVISION, schema.KEY, schema.SHA256, schema.DESCRIPTION, schema.KEYWORDS),
    *(schema.CATEGORIES, schema.CONTRIBUTOR, schema.WIDTH, schema.HEIGHT, schema.IMAGE_TYPE),
    *(schema.AI_GENERATED, schema.LICENSES, schema.ATTRIBUTION, schema.MAY_BE_SHOWN, schema.REASONS),
    *(schema.GROUP, schema.SPLIT),
)
OF_INDEX = (schema.ID, schema.MAY_BE_NEIGHBOR)
"""As the index has them: one with a vector may be a neighbor."""
OF_MEMBERS = pa.schema([schema.UID, *OF_INDEX])
FACTS = pa.schema([*OF_CATALOG, schema.SLOT, *OF_INDEX])


def read(corpus: Corpus, version: Version) -> pa.Table:
    """The columns of FACTS, each in one piece."""
    shards = [shard for _, shard in sorted(corpus.artifact(version, "index").shards.items())]
    files = refs.Ref.each_mapped(refs.each(corpus.store, shards, MEMBERS))
    listed = [tables.map_ipc(path).select(OF_MEMBERS.names) for path in files]
    empty = OF_MEMBERS.empty_table()  # where all was taken back
    members = pa.concat_tables([empty, *listed]).sort_by(schema.ID.name)
    kept = [of_slot(corpus, slot, shard) for slot, shard in corpus.artifact(version, "split").shards.items()]
    rows = pa.concat_tables(kept).combine_chunks()
    uid = schema.UID.name
    found = rows.take(pc.index_in(members[uid], value_set=rows[uid]).combine_chunks())
    for column in OF_INDEX:
        found = found.append_column(column, members[column.name])
    return found.combine_chunks()


def of_slot(corpus: Corpus, slot: str, shard: Shard) -> pa.Table:
    rows = tables.read_parquet(refs.of(corpus.store, shard, ROWS), [*OF_CATALOG, schema.OUTCOME])
    rows = outcomes.kept(rows).drop_columns([schema.OUTCOME.name])
    return tables.with_slot(rows, slot)
