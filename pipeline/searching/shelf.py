"""Stored pictures and chosen neighbors, read one by one: a shard holds a thousand, and a page shows sixty.

The surprising rule: a tar is read through once, to learn where its pictures lie. After that a picture is one
read of its own bytes, also from S3.
"""

from __future__ import annotations

import functools
import tarfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from infra.corpus import Corpus, Version
from infra.storage import Store
from pipeline import refs, schema, tables
from pipeline.neighbors import NEIGHBORS
from pipeline.step import IMAGES
from retrieval.serving.shelf import Candidate, Example

BUFFER_BYTES = 1 << 20
"""Read at a time while a tar is read through: on S3 a request for each header would take longer."""
_reading = [threading.Lock() for _ in range(16)]
TARS, TABLES = 1024, 16
"""That are remembered: 150 kB and 1 MB each."""


@dataclass(frozen=True, slots=True)
class Place:
    offset: int
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Shelf:
    """By the rows of ``members``."""

    store: Store
    members: pa.Table
    tars: Mapping[str, str]
    """Names of the images, by slot."""
    neighbors: Mapping[str, refs.Ref]
    """By slot; none where they were never chosen."""

    @staticmethod
    def of(corpus: Corpus, version: Version, members: pa.Table) -> Shelf:
        images = corpus.artifact(version, "images").shards
        chosen = corpus.artifact(version, "neighbors").shards if "neighbors" in version.artifacts else {}
        return Shelf(
            store=corpus.store,
            members=members,
            tars={slot: shard.name(IMAGES) for slot, shard in images.items()},
            neighbors={slot: refs.of(corpus.store, shard, NEIGHBORS) for slot, shard in chosen.items()},
        )

    def image(self, row: int) -> bytes:
        tar = self.tars[self._fact(schema.SLOT, row)]
        with _reading[hash(tar) % len(_reading)]:  # a page asks for sixty at once: one of them reads the tar
            place = places(self.store, tar)[self._fact(schema.KEY, row)]
        with self.store.open(tar) as file:
            file.seek(place.offset)
            return file.read(place.size)

    def example(self, row: int) -> Example | None:
        ref = self.neighbors.get(self._fact(schema.SLOT, row))
        table = schema.NEIGHBORS.empty_table() if ref is None else chosen(ref)
        mine = table.filter(pc.equal(table[schema.UID.name], self._fact(schema.UID, row))).to_pylist()
        if not mine:
            return None
        listed = mine[0][schema.CANDIDATES.name]
        return Example(
            split=mine[0][schema.SPLIT.name],
            candidates=[Candidate(uid=one["uid"], score=one["score"], via=one["via"]) for one in listed],
        )

    def _fact(self, column: pa.Field, row: int) -> str:
        found: str = self.members[column.name][row].as_py()
        return found


@functools.lru_cache(maxsize=TARS)
def places(store: Store, tar: str) -> Mapping[str, Place]:
    """Of the JPEGs of a tar that we wrote, by key."""
    with store.open(tar) as file, tarfile.open(fileobj=file, mode="r|", bufsize=BUFFER_BYTES) as members:
        return {
            member.name.removesuffix(".jpg"): Place(member.offset_data, member.size)
            for member in members
            if member.name.endswith(".jpg")
        }


@functools.lru_cache(maxsize=TABLES)
def chosen(ref: refs.Ref) -> pa.Table:
    return tables.read_parquet(ref)
