"""A shard of the corpus as the card reads it: catalog rows, what their records say beside, and terms found.

The surprising rule: words of a row that rights refused are read only where the refusal is about what is
pictured (:data:`ABOUT_CONTENT`), so that the card can say whom such a rule hits; they are counted and not
kept. Of what no licence admits, what was taken back and what its own file reserves, no word is looked at.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj
from numpy.typing import NDArray

from infra.artifact import Corrupt
from infra.corpus import Corpus, Version
from pipeline import outcomes, refs, schema, tables
from pipeline.card.matching import Ints, Matcher
from pipeline.records import RECORDS
from pipeline.reviewing import catalogs

ABOUT_CONTENT = ("release", "adult", "minors", "editorial")
"""Codes of ``pipeline.reasons`` that judge what is pictured."""
STEPS = ("decide", "images", "filter", "screen", "dedup")
"""That take rows out, in their order."""
Bools = NDArray[np.bool_]

_COUNTRY = pa.struct([("country", pa.string())])
_TEXT = pa.struct([("lang", pa.string()), ("origin", pa.string()), ("text", pa.string())])
TOLD = pa.schema(
    [
        ("description", pa.string()),
        ("keywords", pa.list_(pa.string())),
        ("descriptions", pa.list_(_TEXT)),
        ("is_editorial", pa.bool_()),
        ("is_adult", pa.bool_()),
        ("has_minors", pa.string()),
        ("has_property", pa.string()),
        ("releases", pa.struct([("model", pa.string()), ("property", pa.string())])),
        ("location", _COUNTRY),
        ("contributor", _COUNTRY),
        ("date_created", pa.string()),
    ]
)
"""What a record says that the catalog has no column for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Which rows name what: pairs of a row and a label, each once and sorted."""

    rows: Ints
    labels: Ints

    def of(self, mask: Bools) -> Found:
        """Those of the rows that are marked."""
        kept = mask[self.rows]
        return Found(rows=self.rows[kept], labels=self.labels[kept])

    def counts(self, num_labels: int) -> Ints:
        """[num_labels]: rows of each label."""
        return np.bincount(self.labels, minlength=num_labels).astype(np.int64)


@dataclass(frozen=True, kw_only=True)
class Part:
    slot: str
    rows: pa.Table
    """The fullest catalog's, whatever became of them."""
    told: pa.Table
    """:data:`TOLD`, row by row beside ``rows``."""
    matcher: Matcher

    @cached_property
    def kept(self) -> Bools:
        return np.asarray(outcomes.is_kept(self.rows), np.bool_)

    @cached_property
    def codes(self) -> pa.Array:
        """The code that each row is counted under; empty while it is kept."""
        return codes_of(self.rows[schema.REASONS.name].combine_chunks())

    @cached_property
    def settled_by(self) -> pa.Array:
        return self.rows[schema.SETTLED_BY.name].combine_chunks()

    @cached_property
    def readable(self) -> Bools:
        """Whose words are looked at."""
        about = pc.and_(
            pc.equal(self.settled_by, "decide"), pc.is_in(self.codes, value_set=pa.array(ABOUT_CONTENT))
        )
        return np.asarray(pc.or_(pc.not_equal(self.settled_by, "decide"), about), np.bool_) | self.kept

    @cached_property
    def found(self) -> Found:
        """Terms in caption and keywords of the rows that are read."""
        mask = pa.array(self.readable)
        words = self.told.filter(mask)
        rows, labels = self.matcher.rows(flat(words["description"]), flat(words["keywords"]))
        return Found(rows=np.flatnonzero(self.readable)[rows], labels=labels)

    @property
    def providers(self) -> pa.Array:
        """What stands before the colon of an uid."""
        return pc.replace_substring_regex(self.rows[schema.UID.name].combine_chunks(), ":.*", "")

    def column(self, field: pa.Field) -> pa.Array:
        return self.rows[field.name].combine_chunks()

    def kept_rows(self) -> pa.Table:
        return self.rows.filter(pa.array(self.kept))

    def kept_told(self) -> pa.Table:
        return self.told.filter(pa.array(self.kept))


def flat(column: pa.ChunkedArray) -> pa.Array:
    """One array, with the empty value for null."""
    found = column.combine_chunks()
    if pa.types.is_list(found.type):
        return pa.array([], found.type) if not len(found) else pc.coalesce(found, pa.scalar([], found.type))
    return pc.fill_null(found, "")


def codes_of(reasons: pa.ListArray) -> pa.Array:
    """The code of the first reason of each row; empty where there is none.

    >>> codes_of(pa.array([["restricted:generation", "expired"], []])).to_pylist()
    ['restricted', '']
    """
    first = pc.fill_null(pc.list_value_length(reasons), 0)
    has = np.asarray(pc.greater(first, 0), np.bool_)
    at = np.asarray(reasons.offsets)[:-1][has] - np.asarray(reasons.offsets)[0]
    texts = pc.replace_substring_regex(pc.list_flatten(reasons).take(pa.array(at)), ":.*", "")
    place = np.where(has, np.cumsum(has) - 1, len(texts))
    return pa.concat_arrays([texts.cast(pa.string()), pa.array([""])]).take(pa.array(place))


def read(corpus: Corpus, version: Version, matcher: Matcher) -> Iterator[Part]:
    """Every shard of the version, one in memory at a time."""
    records = corpus.artifact(version, "records")
    for slot, rows in catalogs.fullest(corpus, version):
        ref = refs.of(corpus.store, records.at(slot), RECORDS)
        table = tables.read_parquet(ref, [schema.UID, schema.RECORD])
        if not table[schema.UID.name].combine_chunks().equals(rows[schema.UID.name].combine_chunks()):
            raise Corrupt(
                f"{ref.store.where(ref.name)} and the catalog's shard {slot} list other assets; build again"
            )
        yield Part(slot=slot, rows=rows, told=parsed(table[schema.RECORD.name]), matcher=matcher)


def parsed(records: pa.ChunkedArray) -> pa.Table:
    """The fields of :data:`TOLD`; null for a record that is none."""
    if not len(records):
        return TOLD.empty_table()
    lines = pc.fill_null(records, "{}").combine_chunks()
    data = pc.binary_join(pa.ListArray.from_arrays([0, len(lines)], lines), "\n")[0].as_buffer()
    return pj.read_json(
        pa.BufferReader(data),
        read_options=pj.ReadOptions(use_threads=False, block_size=data.size + 1),
        parse_options=pj.ParseOptions(explicit_schema=TOLD, unexpected_field_behavior="ignore"),
    ).select(TOLD.names)
