"""Catalog rows that are still kept, alone or with their images: what the later steps start from."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from pipeline import archive, outcomes, refs, schema, tables
from pipeline.split import TRAIN


def kept(ref: refs.Ref, columns: Sequence[pa.Field] | None = None) -> pa.Table:
    """All columns, or some, of which the outcome is one."""
    return outcomes.kept(tables.read_parquet(ref, columns))


def training(ref: refs.Ref, columns: Sequence[pa.Field] | None = None) -> pa.Table:
    """Kept rows of the training split: all that a fit may see. Of some columns the split is one too."""
    rows = kept(ref, columns)
    return rows.filter(pc.equal(rows[schema.SPLIT.name], TRAIN))


def with_images(rows: pa.Table, tar: refs.Ref) -> pa.Table:
    """Append the encoded training image of every row."""
    found = archive.images(tar.read())
    images = [found[key] for key in rows[schema.KEY.name].to_pylist()]
    return rows.append_column(schema.IMAGE, pa.array(images, schema.IMAGE.type))
