"""For every asset, the ordered candidates it may see as context: the reference form of augmented examples.

The memory is the training split, for training and for validation targets alike, as at inference: nothing
held out is ever shown to a model that trains. Candidates belong to the generation of their target and look
back only, so a later delivery leaves them as they are.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from infra.artifact import Made
from pipeline import embed, numerics, refs, rows, schema, tables
from pipeline.embed import EMBEDDINGS
from pipeline.indexing import MEMBERS, SEGMENT
from pipeline.outcomes import KEPT
from pipeline.split import TRAIN
from pipeline.step import ROWS, Report, Source, Step, Task, generation
from retrieval import exclude
from retrieval.exclude import NeighborConfig
from retrieval.index import Index

NEIGHBORS = "neighbors.parquet"


def step(config: NeighborConfig) -> Step:
    device = numerics.device()
    return Step(
        name="neighbors",
        revision=3,
        inputs=("split", "embed", "queries", "index"),
        settings=config,
        numerics=numerics.profile(threads=1, libraries=("faiss-gpu", "numpy"), device=device),
        tasks=list_tasks,
        open=lambda: functools.partial(choose, config=config, gpus=device == "cuda"),
        workers=numerics.workers(cpus=1, gpus=1.0),
    )


def list_tasks(source: Source) -> Sequence[Task]:
    """One task a slot; it reads the index as it was when the slot's delivery came."""
    split, embed, queries = (source.artifact(name).shards for name in ("split", "embed", "queries"))
    segments = sorted(source.artifact("index").shards.items())
    return [
        Task(
            slot=slot,
            reads={
                "rows": (refs.of(source.store, shard, ROWS),),
                "embeddings": (refs.of(source.store, embed[slot], EMBEDDINGS),),
                "queries": (refs.of(source.store, queries[slot], EMBEDDINGS),),
                **{
                    role: refs.each(
                        source.store,
                        (part for name, part in segments if generation(name) <= generation(slot)),
                        file,
                    )
                    for role, file in (("segments", SEGMENT), ("members", MEMBERS))
                },
            },
        )
        for slot, shard in split.items()
    ]


def choose(task: Task, _report: Report, *, config: NeighborConfig, gpus: bool = False) -> Made:
    table = rows.kept(task.only("rows"))
    if table.num_rows == 0:  # duplicates alone: their vectors have no width
        return Made(files={NEIGHBORS: tables.to_parquet(schema.NEIGHBORS.empty_table())}, counts={KEPT: 0})
    whole, dropped = (
        exclude.Sides(*embed.vectors(tables.read_ipc(task.only(role)))) for role in ("embeddings", "queries")
    )
    memory = open_memory(task.reads["segments"], task.reads["members"], gpus=gpus)
    targets = exclude.Targets(
        ids=np.array([memory.id_of[uid] for uid in table["uid"].to_pylist()], np.int64),
        whole=whole,
        queries=dropped,
    )
    found = exclude.choose(targets, memory.index, memory.members, config)
    columns = {name: table[name].to_pylist() for name in ("uid", "revision", "split")}
    columns["candidates"] = list(listed(found, memory))
    neighbors = pa.table(columns, schema=schema.NEIGHBORS)
    return Made(files={NEIGHBORS: tables.to_parquet(neighbors)}, counts={KEPT: neighbors.num_rows})


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """The index with what the choice asks of its members."""

    index: Index
    members: exclude.Members
    id_of: dict[str, int]
    facts: dict[int, dict[str, Any]]


@functools.lru_cache(maxsize=1)
def open_memory(segments: tuple[refs.Ref, ...], members: tuple[refs.Ref, ...], *, gpus: bool) -> Memory:
    table = pa.concat_tables([tables.read_parquet(ref) for ref in members]).sort_by(schema.ID.name)
    admissible = pc.and_(table[schema.MAY_BE_NEIGHBOR.name], pc.equal(table[schema.SPLIT.name], TRAIN))
    facts = table.select([schema.ID.name, schema.UID.name, schema.REVISION.name]).to_pylist()
    return Memory(
        index=Index.open([ref.mapped() for ref in segments], gpus=gpus),
        members=exclude.Members(
            ids=np.asarray(table[schema.ID.name]),
            groups=coded(table[schema.GROUP.name]),
            contributors=coded(table[schema.CONTRIBUTOR.name]),
            admissible=np.asarray(admissible),
        ),
        id_of={row["uid"]: row["id"] for row in facts},
        facts={row["id"]: row for row in facts},
    )


def coded(column: pa.ChunkedArray) -> NDArray[np.int64]:
    """Equal numbers for equal values."""
    return np.asarray(column.combine_chunks().dictionary_encode().indices).astype(np.int64)


def listed(found: exclude.Candidates, memory: Memory) -> Iterator[list[dict[str, Any]]]:
    """The candidates of each target as the column has them."""
    for start, stop in pairwise(found.starts.tolist()):
        yield [
            {
                "uid": memory.facts[int(found.ids[i])]["uid"],
                "revision": memory.facts[int(found.ids[i])]["revision"],
                "score": float(found.scores[i]),
                "via": exclude.VIA[found.via[i]],
            }
            for i in range(start, stop)
        ]
