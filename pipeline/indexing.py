"""The index artifact: one segment for each generation, and beside its vectors who its members are.

A delivery that arrives later adds a segment and leaves the others alone. Every kept asset is a member, with
its id and its duplicate group; a vector has only one whose licences grant ``retrieval_index``. What may be
shown is a column that the searcher checks.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from infra.artifact import Made, Shard
from infra.corpus import Corpus, Version
from infra.storage import Store
from pipeline import embed, ids, numerics, refs, rows, schema, tables
from pipeline.embed import EMBEDDINGS
from pipeline.outcomes import KEPT
from pipeline.step import ROWS, Report, Source, Step, Task, generation
from retrieval import align, index
from retrieval.index import IndexConfig

SEGMENT = "segment.faiss"
MEMBERS = "members.parquet"


def step(config: IndexConfig) -> Step:
    return Step(
        name="index",
        revision=2,
        inputs=("split", "embed"),
        settings=config,
        numerics=numerics.profile(threads=1, libraries=("faiss-gpu", "numpy")),
        tasks=list_tasks,
        open=lambda: functools.partial(build_segment, config=config),
    )


def register(corpus: Corpus, version: Version) -> Version:
    """Give ids to the kept assets of the split artifact that have none. Only the lease's holder may call
    it.
    """
    shards = corpus.artifact(version, "split").shards
    return ids.extend(
        corpus, version, kept_uids(corpus.store, [shard for _, shard in sorted(shards.items())])
    )


def kept_uids(store: Store, shards: Sequence[Shard]) -> list[str]:
    return [uid for shard in shards for uid in rows.kept(refs.of(store, shard, ROWS))["uid"].to_pylist()]


def list_tasks(source: Source) -> Sequence[Task]:
    """One task a generation, if anything of it was kept."""
    split, embed = source.artifact("split").shards, source.artifact("embed").shards
    known = ids.segments(source.store, source.version)
    tasks = []
    for name in sorted({generation(slot) for slot in split}):
        slots = sorted(slot for slot in split if generation(slot) == name)
        uids = set(kept_uids(source.store, [split[slot] for slot in slots]))
        if not uids:
            continue
        reads = {
            "rows": tuple(refs.of(source.store, split[slot], ROWS) for slot in slots),
            "embeddings": tuple(refs.of(source.store, embed[slot], EMBEDDINGS) for slot in slots),
            # Only the segments of the id table that know a member: later ones must not change the key.
            "ids": tuple(ref for ref in known if not uids.isdisjoint(ids.read(ref))),
        }
        tasks.append(Task(slot=name, reads=reads))
    return tasks


def build_segment(task: Task, _report: Report, *, config: IndexConfig) -> Made:
    table = pa.concat_tables([rows.kept(ref) for ref in task.reads["rows"]])
    vectors = pa.concat_tables([tables.read_ipc(ref) for ref in task.reads["embeddings"]])
    known = {uid: number for ref in task.reads["ids"] for uid, number in ids.read(ref).items()}
    table = table.add_column(0, schema.ID, pa.array([known[uid] for uid in table["uid"].to_pylist()]))
    members = table.select(schema.MEMBERS.names)
    granted = np.asarray(members[schema.MAY_BE_NEIGHBOR.name])
    vectors_ND = align.document_vectors(*embed.vectors(vectors))
    segment = index.build_segment(np.asarray(members["id"])[granted], vectors_ND[granted], config)
    files = {SEGMENT: segment, MEMBERS: tables.to_parquet(members)}
    return Made(files=files, counts={KEPT: members.num_rows})
