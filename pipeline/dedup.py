"""The dedup step: one task a generation, judged against everything that came before.

Three passes, the surest first: equal bytes, one picture by hash and signature, and, where it is switched on,
one subject by the encoder's features. One member of a group stays; the others are rejected, and are kept as
links, so that what befalls it finds them. The surprising rule: nothing that was told of an earlier generation
changes: new rows join its groups as duplicates, or open groups of their own.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from infra.artifact import Made
from pipeline import embed, erasing, numerics, outcomes, refs, schema, tables
from pipeline.duplicates import DuplicateConfig
from pipeline.embed import FEATURES
from pipeline.likeness import linking, semantic
from pipeline.likeness.gathering import READS, gathered
from pipeline.likeness.linking import Seen
from pipeline.outcomes import KEPT
from pipeline.step import ROWS, Before, Report, Source, Step, Task, generation
from retrieval.encoders import normalised

LINKS = "links.parquet"
"""One for each generation: its rows that are out, and which row each of them repeats."""


def step(config: DuplicateConfig, *, few: int = semantic.FEW) -> Step:
    """``few``: up to so many rows features are compared each with each, without clusters."""
    by_features = config.semantic_threshold is not None
    return Step(
        name="dedup",
        revision=2,
        inputs=("screen", "features") if by_features else ("screen",),
        settings=config,
        numerics=numerics.profile(threads=1, libraries=("faiss-gpu", "numpy")) if by_features else {},
        tasks=functools.partial(list_tasks, by_features=by_features),
        open=lambda: functools.partial(judge, config=config, few=few),
        erase=alone,
        erasable=are_alone,
    )


def list_tasks(source: Source, *, by_features: bool) -> Sequence[Task]:
    """One task a generation; it reads its own shards and those of every generation before it."""
    roles = {"rows": ("screen", ROWS)} | ({"features": ("features", FEATURES)} if by_features else {})
    artifacts = {role: (source.artifact(name), file) for role, (name, file) in roles.items()}
    slots: dict[str, list[str]] = {}
    for slot in sorted(source.artifact("screen").shards):
        slots.setdefault(generation(slot), []).append(slot)
    reads = {
        name: {
            f"{role} {name}": tuple(
                refs.of(source.store, artifact.shards[slot], file) for slot in slots[name]
            )
            for role, (artifact, file) in artifacts.items()
        }
        for name in slots
    }
    return [
        Task(
            slot=name,
            reads={
                role: files for earlier in slots if earlier <= name for role, files in reads[earlier].items()
            },
            facts={"slots": slots[name]},
        )
        for name in slots
    ]


def judge(task: Task, _report: Report, *, config: DuplicateConfig, few: int) -> Made:
    names = sorted(role.partition(" ")[2] for role in task.reads if role.startswith("rows "))
    rows = gathered(
        (
            (outcomes.kept(tables.read_parquet(ref, READS)) for ref in task.reads[f"rows {name}"])
            for name in names
        ),
        config.keeper,
    )
    seen = Seen(
        rows=rows,
        vectors_ND=features(task, rows.table) if config.semantic_threshold is not None else None,
        few=few,
    )
    judged, links = linking.judged(seen, config)
    files = {LINKS: tables.to_parquet(links)}
    for slot, uids in zip(task.facts["slots"], rows.own, strict=True):
        own = judged.take(pc.index_in(uids, judged[schema.UID.name]))
        files[f"{slot}.parquet"] = tables.to_parquet(own)
    counts = Counter({KEPT: judged.num_rows - links.num_rows})
    counts.update(f"rejected:{code}" for code in links[schema.FOUND_BY.name].to_pylist())
    return Made(files=files, counts=counts, facts={"comparisons": dict(sorted(seen.counts.items()))})


def are_alone(before: Before) -> bool:
    """Whether nothing that is gone was like another picture of the shard: groups are told of none then."""
    links = erasing.table_of(LINKS, before.read(LINKS))
    named = {
        uid for name in (schema.UID, schema.KEEPER, schema.GROUP) for uid in links[name.name].to_pylist()
    }
    also = {uid for some in links[schema.ALSO_LIKE.name].to_pylist() for uid in some}
    return before.gone.isdisjoint(named | also)


def alone(_task: Task, before: Before) -> Made:
    """Pictures that repeat none, and that none repeats, are dropped; the other slots' files stay."""
    names = [name for name in before.shard.files if name != LINKS]
    tables_ = {name: erasing.table_of(name, before.read(name)) for name in names}
    left = {name: erasing.dropped(table, before.gone) for name, table in tables_.items()}
    files = {name: tables.to_parquet(left[name]) for name in names if len(left[name]) < len(tables_[name])}
    num_gone = sum(len(tables_[name]) - len(left[name]) for name in names)
    counts = {**before.shard.counts, KEPT: before.shard.counts[KEPT] - num_gone}
    kept = before.shard.lent(*(name for name in before.shard.files if name not in files))
    return Made(files=files, kept=kept, counts=counts, facts=before.shard.facts)


def features(task: Task, table: pa.Table) -> NDArray[np.float32]:
    """Image features of the rows, in their order, of unit length."""
    columns = [schema.UID.name, schema.IMAGE_FEATURES.name]
    found = [
        tables.read_ipc(ref).select(columns)
        for role in task.reads
        if role.startswith("features ")
        for ref in task.reads[role]
    ]
    return normalised(embed.matrix(embed.of_rows(table, pa.concat_tables(found))[schema.IMAGE_FEATURES.name]))
