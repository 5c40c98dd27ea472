"""What the records of the members said that their rights hang on, and no catalog repeats: as columns.

The surprising rule: records are parsed by Arrow, a shard at a time, and validated nowhere. They were when
they came; a million of them would take minutes.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pa_json

from infra.corpus import Corpus, Version
from pipeline import refs, schema, tables
from pipeline.records import RECORDS

STRINGS = pa.list_(pa.string())
SAID = pa.schema(
    [
        pa.field("provider", pa.string()),
        pa.field("asset_id", pa.string()),
        pa.field("delivery_id", pa.string()),
        pa.field("license_ids", STRINGS),
        pa.field("is_editorial", pa.bool_()),
        pa.field("title", pa.string()),
        pa.field("credit_line", pa.string()),
        pa.field("attribution_text", pa.string()),
        pa.field("date_created", pa.string()),
        pa.field(
            "contributor", pa.struct([pa.field("id", pa.string()), pa.field("display_name", pa.string())])
        ),
        pa.field("releases", pa.struct([pa.field("model_release_ids", STRINGS)])),
    ]
)
"""Fields of an asset's record, by their own names."""
BESIDE = (schema.RECORD, schema.EXTRACTED)
BLOCK_BYTES = 16 << 20
"""Parsed at a time; a record has at most 64 KiB."""


def read(corpus: Corpus, version: Version, members: pa.Table) -> Iterator[tuple[np.ndarray, pa.Table]]:
    """For each slot the rows of its members, and their records: the columns of SAID and of BESIDE."""
    records = corpus.artifact(version, "records").shards
    slots = members[schema.SLOT.name].combine_chunks().dictionary_encode()
    codes_N = np.asarray(slots.indices)
    for code, slot in enumerate(slots.dictionary.to_pylist()):
        rows = np.flatnonzero(codes_N == code)
        uids = members[schema.UID.name].take(pa.array(rows))
        table = tables.read_parquet(refs.of(corpus.store, records[slot], RECORDS), [schema.UID, *BESIDE])
        yield rows, parsed(table.take(pc.index_in(uids, value_set=table[schema.UID.name])))


def parsed(records: pa.Table) -> pa.Table:
    """Each record is one line of JSON that we wrote."""
    found = SAID.empty_table()
    if records.num_rows:
        lines = "\n".join(records[schema.RECORD.name].to_pylist())
        found = pa_json.read_json(
            pa.BufferReader(lines.encode()),
            read_options=pa_json.ReadOptions(block_size=BLOCK_BYTES, use_threads=False),
            parse_options=pa_json.ParseOptions(explicit_schema=SAID, unexpected_field_behavior="ignore"),
        )
    for column in BESIDE:
        found = found.append_column(column, records[column.name])
    return found
