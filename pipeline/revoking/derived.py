"""What later packages made of the assets, without what hangs on one that is gone.

The surprising rule: nothing is known here of what that is. An artifact that no step of the pipeline makes has
packs, and beside them a table as :mod:`pipeline.derivation` reads it; whoever leaves one is understood.
"""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa

from infra.artifact import Artifact, Made, Shard, publish_shard
from infra.corpus import Version
from infra.storage import Store
from pipeline import erasing, plan, tables
from pipeline.derivation import SOURCES, derived_from, tables_of
from pipeline.jobs import Job
from pipeline.revoking import blanking


def without(work: Job, head: Version, version: Version, gone: frozenset[str]) -> Version:
    known = {step.name for step in plan.steps(work.config)}
    for name in sorted(set(head.artifacts) - known):
        left = of_artifact(work, work.corpus.artifact(head, name), gone)
        version = blanking.listed(work.corpus.store, head, version, left)
    return version


def of_artifact(work: Job, artifact: Artifact, gone: frozenset[str]) -> Artifact:
    store = work.corpus.store
    everything = gone | derived_from(store, artifact, gone)
    left = blanking.blanked(store, artifact, everything, {}, {}, work.log)
    shards = {slot: tabled(store, shard, gone) for slot, shard in left.shards.items()}
    if all(shards[slot] is shard for slot, shard in artifact.shards.items()):
        return artifact
    return replace(left, key=blanking.key_of(artifact.key, gone), shards=shards)


def tabled(store: Store, shard: Shard, gone: frozenset[str]) -> Shard:
    """Without the rows of examples that had any of them for a source."""
    files = {}
    for name, file in tables_of(store, shard):
        table = erasing.as_written(file)
        stays = [gone.isdisjoint(some) for some in table[SOURCES].to_pylist()]
        if not all(stays):
            files[name] = tables.to_parquet(table.filter(pa.array(stays)))
    if not files:
        return shard
    kept = shard.lent(*(name for name in shard.files if name not in files))
    made = Made(files=files, kept=kept, counts=shard.counts, facts=shard.facts)
    return publish_shard(store, shard.step, blanking.key_of(shard.key, gone), made)
