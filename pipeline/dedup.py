"""The dedup step: one task a generation, judged against everything that came before.

Groups of earlier rows never change: a new row joins the group of the earliest-seen picture that it is the
same as, or opens one under its own uid. The first seen stays; the others are rejected and named after it.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from infra.artifact import Made
from pipeline import duplicates, refs, rows, schema, tables
from pipeline.duplicates import DuplicateConfig, Signatures
from pipeline.outcomes import KEPT
from pipeline.step import ROWS, Report, Source, Step, Task, generation

JUDGED = pa.schema([schema.UID, schema.GROUP, schema.VERDICT])


def step(config: DuplicateConfig) -> Step:
    return Step(
        name="dedup",
        inputs=("filter",),
        settings=config,
        tasks=list_tasks,
        open=lambda: functools.partial(judge, config=config),
    )


def list_tasks(source: Source) -> Sequence[Task]:
    """One task a generation; it reads its own rows and those of every generation before it."""
    shards = sorted(source.artifact("filter").shards.items())
    names = sorted({generation(slot) for slot, _ in shards})
    rows_of = {
        name: tuple(refs.of(source.store, shard, ROWS) for slot, shard in shards if generation(slot) == name)
        for name in names
    }
    return [
        Task(
            slot=name,
            reads={earlier: rows_of[earlier] for earlier in names if earlier <= name},
            facts={"slots": [slot for slot, _ in shards if generation(slot) == name]},
        )
        for name in names
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """Rows grouped so far, in the order in which they were delivered."""

    uids: list[str]
    digests: list[str]
    groups: list[str]
    signatures: Signatures

    def digest_of(self) -> dict[str, str]:
        return dict(zip(self.uids, self.digests, strict=True))


def judge(task: Task, _report: Report, *, config: DuplicateConfig) -> Made:
    *before, own = (task.reads[name] for name in sorted(task.reads))
    seen = functools.reduce(lambda sofar, files: grouped(sofar, files, config), before, nothing())
    now = grouped(seen, own, config)
    known, digests = set(seen.uids), now.digest_of()
    files, counts, at = {}, {KEPT: 0}, len(seen.uids)
    for slot, ref in zip(task.facts["slots"], own, strict=True):
        uids = rows.kept(ref)["uid"].to_pylist()
        groups = now.groups[at : at + len(uids)]
        verdicts = []
        for place, (uid, group) in enumerate(zip(uids, groups, strict=True), start=at):
            found = "uid_seen" if uid in known else repeats(uid, group, now.digests[place], digests)
            known.add(uid)
            verdicts.append(found and f"rejected:{found}: {group}")
            outcome = f"rejected:{found}" if found else KEPT
            counts[outcome] = counts.get(outcome, 0) + 1
        at += len(uids)
        judged = pa.table({"uid": uids, "group": groups, "verdict": verdicts}, schema=JUDGED)
        files[f"{slot}.parquet"] = tables.to_parquet(judged)
    return Made(files=files, counts=counts)


def nothing() -> Seen:
    return Seen(uids=[], digests=[], groups=[], signatures=duplicates.signatures([]))


def grouped(seen: Seen, files: Sequence[refs.Ref], config: DuplicateConfig) -> Seen:
    """With one generation more. What earlier rows were told never changes."""
    table = pa.concat_tables([rows.kept(ref) for ref in files])
    uids = table[schema.UID.name].to_pylist()
    new = duplicates.from_columns(table)
    found = duplicates.group(uids, new, earlier=seen.signatures, groups=seen.groups, config=config)
    return Seen(
        uids=[*seen.uids, *uids],
        digests=[*seen.digests, *table[schema.SHA256.name].to_pylist()],
        groups=[*seen.groups, *found.names],
        signatures=duplicates.joined(seen.signatures, new),
    )


def repeats(uid: str, group: str, digest: str, digests: Mapping[str, str]) -> str | None:
    """How the row repeats the first of its group; None if it is the first."""
    if uid == group:
        return None
    return "exact_duplicate" if digests[group] == digest else "near_duplicate"
