"""Personal data in the words of catalog rows: counted by kind, or taken out."""

from __future__ import annotations

import collections
from collections.abc import Mapping

import pyarrow as pa

from pipeline import schema
from pipeline.filtering import pii


def findings(batch: pa.Table) -> Mapping[str, pa.ChunkedArray]:
    """How many of each kind stand in a row's caption and keywords."""
    captions, keywords = (batch[column.name].to_pylist() for column in (schema.DESCRIPTION, schema.KEYWORDS))
    rows = [
        collections.Counter(
            kind for text in (caption or "", *(words or ())) for _, _, kind in pii.spans(text)
        )
        for caption, words in zip(captions, keywords, strict=True)
    ]
    return {kind: pa.chunked_array([[row[kind] for row in rows]], pa.int32()) for kind in pii.KINDS}


def redacted(rows: pa.Table) -> pa.Table:
    """The same rows with placeholders for it. What the image's own tar says beside it stays as delivered."""
    captions = [pii.redacted(text) for text in rows[schema.DESCRIPTION.name].to_pylist()]
    keywords = [[pii.redacted(word) for word in words] for words in rows[schema.KEYWORDS.name].to_pylist()]
    for column, values in ((schema.DESCRIPTION, captions), (schema.KEYWORDS, keywords)):
        at = rows.schema.get_field_index(column.name)
        rows = rows.set_column(at, column, pa.array(values, column.type))
    return rows
