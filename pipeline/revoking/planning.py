"""What taking assets back would touch, how much, and for how long: nothing is written.

The surprising rule: the time is of what was measured. Shards that lose rows go at the pace of a whole
revocation in ``make bench NAME=revoke``; what is judged or merged anew takes what this corpus's build took.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from infra import telemetry
from infra.artifact import Shard
from infra.corpus import Corpus, Version
from infra.storage import Store
from pipeline import config, plan, refs, schema, shards, tables
from pipeline.contract import Revocation
from pipeline.derivation import derived_from
from pipeline.jobs import Answer, instant
from pipeline.neighbors import NEIGHBORS
from pipeline.revoking import taking
from pipeline.revoking.compaction import whole
from pipeline.revoking.targets import Gone
from pipeline.settings import Asked
from pipeline.step import Step, generation

PACK = taking.PACK
BYTES_PER_S = 10e6
"""603 MB in 61 s of a core, for 10 of 100,000 assets: most of it goes into neighbors, not copying."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Touched:
    step: str
    shards: int
    of: int
    bytes: int
    seconds: float

    def line(self) -> str:
        told = f"{self.shards} of {self.of} shards, {self.bytes / 1e6:.1f} MB"
        return f"  {self.step:<10} {told:<32} about {telemetry.clock(self.seconds)}"


def planned(asked: Asked, told: Sequence[Revocation], as_of: str | None, *, packs: str) -> Answer:
    corpus = asked.corpus
    found = taking.look(corpus, told, instant(as_of))
    before = whole(corpus, found.head)
    every = plan.steps(config.of(asked.told))
    steps = list(touched(corpus, before, found.gone, every, packs=packs))
    seconds = sum(one.seconds for one in steps)
    facts: dict[str, Any] = {
        "version": found.head.number,
        "revocations": len(found.new),
        "assets": len(found.gone.every),
        "uids": sorted(found.gone.every),
        "steps": {one.step: {**asdict(one), "seconds": round(one.seconds, 1)} for one in steps},
        "bytes": sum(one.bytes for one in steps),
        "seconds": round(seconds, 1),
        "duplicates_listed": list(found.gone.others),
        "near_duplicates_listed": taking.alike(corpus, before, found.gone),
    }
    lines = [f"{facts['assets']} assets of version {found.head.number} would be taken back"]
    lines += [one.line() for one in steps]
    if steps:
        total = f"{facts['bytes'] / 1e6:.1f} MB, about {telemetry.clock(seconds)} of one core"
        lines.append(f"{total}, beside the engine's start")
    lines += taking.to_judge(facts)
    return facts, "\n".join(lines)


def touched(
    corpus: Corpus, version: Version, gone: Gone, steps: Sequence[Step], *, packs: str
) -> Iterator[Touched]:
    """Of each artifact that holds any of them; models stay."""
    known = {step.name for step in steps}
    erasing = {step.name for step in steps if step.erase is not None} | (
        {PACK} if packs == "blank" else set()
    )
    rows = corpus.artifact(version, "records").shards.keys()
    took = seconds_a_shard(corpus.store)
    for step in version.artifacts:
        artifact = corpus.artifact(version, step)
        shards_, every = artifact.shards, gone.every
        if step not in known:
            every |= derived_from(corpus.store, artifact, every)
        mine = {
            slot: shard
            for slot, shard in shards_.items()
            if is_touched(slot, gone, rows) or names(corpus.store, step, shard, every)
        }
        if mine:
            size = sum(file.size for shard in mine.values() for file in shard.files.values())
            # What all rows of a delivery decide together is decided again, and not copied.
            is_copied = step in erasing and (step == PACK or mine.keys() <= rows)
            seconds = size / BYTES_PER_S if is_copied else took.get(step, 0.0) * len(mine)
            yield Touched(step=step, shards=len(mine), of=len(shards_), bytes=size, seconds=seconds)


def is_touched(slot: str, gone: Gone, rows: Collection[str]) -> bool:
    """By where its rows come from: a batch, a try of its addresses, or whole deliveries."""
    if slot.partition(".")[0] in rows:
        return slot.partition(".")[0] in gone.uids
    is_packed = not slot.replace("-", "").isdigit()
    return not is_packed and generation(slot) in {generation(one) for one in gone.uids}


def names(store: Store, step: str, shard: Shard, gone: frozenset[str]) -> bool:
    """Whether rows of others name any of them, as neighbors; or a document has a part of one."""
    if step == "neighbors":
        table = tables.read_parquet(refs.of(store, shard, NEIGHBORS), [schema.CANDIDATES])
        cited = table[schema.CANDIDATES.name].combine_chunks().flatten().field(schema.UID.name)
        named = pc.is_in(cited, value_set=pa.array(sorted(gone), pa.string()))
        return bool(pc.any(named).as_py())
    return any(
        len(block.holding(*gone)[0])
        for name, info in shard.facts.get("packs", {}).items()
        for block in shards.blocks_of(refs.of(store, shard, name).read(), info)
    )


def seconds_a_shard(store: Store) -> Mapping[str, float]:
    """By step, of a worker, as the newest job that made any of its shards measured it."""
    found = telemetry.known(store)
    return {step: one.seconds for step, one in found.items() if one.seconds is not None}
