"""A row for each example: its prompt, its sources and, of held-out ones, the pixels that are compared with.

The surprising rule: a derived picture has a uid of its own, and whoever refuses an asset must refuse what was
derived from it; :func:`pipeline.derivation.derived_from` says what that is.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from infra.artifact import Artifact
from infra.storage import Store
from pipeline import derivation, refs, tables
from pipeline.colors import Pixels
from pipeline.examples import Holders
from pipeline.reviewing import thumbnails
from pipeline.schema import column
from trainer import tasks
from trainer.instruct import importing
from trainer.instruct.world import Example

RECORDS = "records.parquet"

EXAMPLE = column("example", pa.string(), "id of the example, as its document has it")
TASK = column("task", pa.string(), "its name")
SEGMENT = pa.struct([pa.field("text", pa.string()), pa.field("picture", pa.string())])
PROMPT = column("prompt", pa.list_(SEGMENT), "text or uid of a picture, in order; the target among them")
SOURCES = column(
    derivation.SOURCES, pa.list_(pa.string()), "assets of which anything in it was made or taken"
)
PICTURES = column(
    "pictures",
    pa.list_(pa.struct([pa.field("uid", pa.string()), pa.field("image", pa.binary())])),
    "of a held-out example every picture, as PNG",
)
DERIVED = column(derivation.DERIVED, pa.list_(pa.string()), "uids that were made for it")
LICENSES = column("licenses", pa.list_(pa.string()), "PROVIDER:ID of every licence that all of it hangs on")
COPIES = column("copies", pa.int32(), "documents that it has in the packs")
TABLE = pa.schema([EXAMPLE, TASK, PROMPT, SOURCES, DERIVED, LICENSES, COPIES, PICTURES])


def told(
    found: Mapping[str, Example],
    held: Mapping[str, int],
    holders: Holders,
    originals: Mapping[str, Pixels] | None,
) -> pa.Table:
    """A row for each example; with ``originals``, those of assets, the pixels of all its pictures."""

    def of_rows() -> Iterator[dict[str, Any]]:
        for name, example in sorted(found.items()):
            yield {
                EXAMPLE.name: name,
                TASK.name: tasks.NAMES[type(example.record)],
                PROMPT.name: importing.segments(example.record),
                SOURCES.name: list(example.sources),
                DERIVED.name: example.derived,
                LICENSES.name: sorted({name for uid in example.sources for name in holders[uid][0]}),
                COPIES.name: held[name],
                PICTURES.name: [] if originals is None else shown(example, originals),
            }

    return tables.of_rows(of_rows(), TABLE)


def shown(example: Example, originals: Mapping[str, Pixels]) -> list[dict[str, Any]]:
    named = {one.uid for one in tasks.pictures(example.record)}
    found = (
        (uid, example.pictures[uid] if uid in example.pictures else originals[uid]) for uid in sorted(named)
    )
    return [{"uid": uid, "image": thumbnails.encoded(picture)} for uid, picture in found]


def decoded(image: bytes) -> Pixels:
    with Image.open(io.BytesIO(image)) as opened_image:
        return np.asarray(opened_image.convert("RGB"))


def sources_of(store: Store, artifact: Artifact) -> dict[str, frozenset[str]]:
    """Of everything that was derived, by uid, the assets of the examples that it is in; none for what was
    made of no asset.
    """
    found: dict[str, frozenset[str]] = {}
    for shard in artifact.shards.values():
        table = tables.read_parquet(refs.of(store, shard, RECORDS), [SOURCES, DERIVED])
        for row in table.to_pylist():
            sources = frozenset(row[SOURCES.name])
            for uid in row[DERIVED.name]:
                found[uid] = found.get(uid, frozenset()) | sources
    return found
