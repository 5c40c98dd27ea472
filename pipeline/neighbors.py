"""For every asset, the ordered candidates it may see as context: the reference form of augmented examples.

The memory is the training split, for training and for validation targets alike, as at inference: nothing
held out is ever shown to a model that trains. Candidates belong to the generation of their target and look
back only, so a later delivery leaves them as they are.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from infra.artifact import Made
from pipeline import numerics, refs, rows, schema, tables
from pipeline.embed import EMBEDDINGS, matrix
from pipeline.indexing import MEMBERS, SEGMENT
from pipeline.outcomes import KEPT
from pipeline.split import TRAIN
from pipeline.step import ROWS, Report, Source, Step, Task, generation
from retrieval import exclude
from retrieval.exclude import NeighborConfig
from retrieval.index import Index

NEIGHBORS = "neighbors.parquet"


def step(config: NeighborConfig) -> Step:
    return Step(
        name="neighbors",
        inputs=("split", "embed", "index"),
        settings=config,
        numerics=numerics.profile(threads=1, libraries=("faiss-gpu", "numpy")),
        tasks=list_tasks,
        open=lambda: functools.partial(choose, config=config),
    )


def list_tasks(source: Source) -> Sequence[Task]:
    """One task a slot; it reads the index as it was when the slot's delivery came."""
    split, embed = source.artifact("split").shards, source.artifact("embed").shards
    segments = sorted(source.artifact("index").shards.items())
    return [
        Task(
            slot=slot,
            reads={
                "rows": (refs.of(source.store, shard, ROWS),),
                "embeddings": (refs.of(source.store, embed[slot], EMBEDDINGS),),
                **{
                    role: tuple(
                        refs.of(source.store, part, file)
                        for name, part in segments
                        if name <= generation(slot)
                    )
                    for role, file in (("segments", SEGMENT), ("members", MEMBERS))
                },
            },
        )
        for slot, shard in split.items()
    ]
