"""Check deliveries without writing: the steps of ingestion, over a store that keeps aside what they write.

The surprising rule: nothing here decides anything. What ``--check`` tells is what ``ingest`` would write,
made by the same functions, and thrown away.
"""

from __future__ import annotations

import collections
import contextlib
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc

from infra.corpus import Corpus, Version
from infra.storage import LocalStore, Missing, Store
from infra.telemetry import Log
from pipeline import build, deciding, fetching, folding, records, refs, schema, tables
from pipeline.config import Config
from pipeline.deliveries import kept
from pipeline.engine import Inline
from pipeline.outcomes import KEPT
from pipeline.reasons import code_of, rule_of
from pipeline.step import ROWS, generation

Row = tuple[int, str, str]
"""(revision, outcome, first reason) of a catalog row; the reason is empty where the row is kept."""
MAX_EXAMPLE = 300
"""Characters of a reason that is told as an example."""
MAX_LEAVING = 5


@dataclass(frozen=True, slots=True)
class Overlay(Store):
    """Reads fall through to ``below``, which stays as it is; what is written goes to the folder ``root``."""

    below: Store

    @property
    def uri(self) -> str:
        return self.below.uri

    @property
    def above(self) -> Store:
        return LocalStore(self.root)

    def _holder(self, name: str) -> Store:
        return self.above if self.above.exists(name) else self.below

    def read(self, name: str, *, at_most: int | None = None) -> bytes:
        try:
            return self.above.read(name, at_most=at_most)
        except Missing:
            return self.below.read(name, at_most=at_most)

    def range(self, name: str, offset: int, size: int) -> bytes:
        return self._holder(name).range(name, offset, size)

    def open(self, name: str) -> BinaryIO:
        return self._holder(name).open(name)

    def write(self, name: str, data: bytes) -> None:
        self.above.write(name, data)

    def create(self, name: str, data: bytes) -> bool:
        return not self.below.exists(name) and self.above.create(name, data)

    def exists(self, name: str) -> bool:
        return self._holder(name).exists(name)

    def size(self, name: str) -> int:
        return self._holder(name).size(name)

    def sizes(self, prefix: str = "") -> dict[str, int]:
        return {**self.below.sizes(prefix), **self.above.sizes(prefix)}

    def stamp(self, name: str) -> str:
        return self._holder(name).stamp(name)

    def stamps(self, prefix: str = "") -> dict[str, str]:
        return {**self.below.stamps(prefix), **self.above.stamps(prefix)}

    def delete(self, names: Sequence[str]) -> None:
        raise PermissionError(f"{names} would be deleted while {self.uri} is only checked")

    def local(self, name: str) -> BinaryIO:
        return self._holder(name).local(name)

    def forget(self, name: str) -> bool:
        return self._holder(name).forget(name)


@contextlib.contextmanager
def aside(corpus: Corpus | None) -> Iterator[Corpus]:
    """The corpus, or an empty one, to write on for as long as the block runs."""
    with TemporaryDirectory(prefix="pardalis-check-") as folder:
        below = LocalStore(str(Path(folder, "empty"))) if corpus is None else corpus.store
        yield Corpus(Overlay(str(Path(folder, "written")), below))


def check(
    corpus: Corpus | None, deliveries: Sequence[str], config: Config, as_of: datetime
) -> dict[str, Any]:
    """What ``ingest`` would decide and change. Raises what it would raise; writes nothing that stays."""
    with aside(corpus) as scratch:
        head = scratch.head()
        version = replace(folding.fold(scratch, head, deliveries), as_of=as_of.isoformat())
        steps = (
            fetching.unfollowed(config.pipeline.fetch),
            records.step(),
            deciding.step(config.pipeline.purpose, as_of),
        )
        # In this process: a cluster would keep session files, and cannot see the folder.
        version = build.run(scratch, version, steps, Inline(), Log())
        before = catalog(scratch, head) if "decide" in head.artifacts else {}
        after = catalog(scratch, version)
        return {
            "as_of": version.as_of,
            "deliveries": [
                told(scratch.store, version, number, after) for number in arriving(head, version, deliveries)
            ],
            "changes": changes(before, after),
            "leaving": leaving(before, after),
        }


def refused(corpus: Corpus, version: Version, since: int) -> Iterator[tuple[str, Row]]:
    """(uid, row) of what ingestion did not keep of the deliveries from number ``since`` on."""
    for slot, shard in corpus.artifact(version, "images").shards.items():
        if int(generation(slot)) >= since:
            table = tables.read_parquet(refs.of(corpus.store, shard, ROWS))
            yield from told_by(table.filter(pc.not_equal(table[schema.OUTCOME.name], KEPT)))


def catalog(corpus: Corpus, version: Version) -> dict[str, dict[str, Row]]:
    """Rows by slot and uid."""
    shards = corpus.artifact(version, "decide").shards
    return {
        slot: dict(told_by(tables.read_parquet(refs.of(corpus.store, shard, ROWS))))
        for slot, shard in shards.items()
    }


def told_by(table: pa.Table) -> Iterator[tuple[str, Row]]:
    columns = (schema.UID, schema.REVISION, schema.OUTCOME, schema.REASONS)
    rows = zip(*(table[column.name].to_pylist() for column in columns), strict=True)
    for uid, revision, outcome, reasons in rows:
        yield uid, (revision, outcome, reasons[0] if reasons and outcome != KEPT else "")


def arriving(head: Version, version: Version, deliveries: Sequence[str]) -> list[int]:
    """Generations of what is new, or was named though it is folded in already."""
    named = {Store.at(uri).uri for uri in deliveries}
    return [
        number
        for number, folded in enumerate(version.deliveries)
        if number >= len(head.deliveries) or folded.uri in named
    ]


def told(
    store: Store, version: Version, number: int, rows: Mapping[str, Mapping[str, Row]]
) -> dict[str, Any]:
    """A delivery and its decisions: rows in, kept, and ``OUTCOME:CODE`` for the others."""
    folded = version.deliveries[number]
    batches = kept.batches(store, folded.sha256, folded.batches)
    mine = {uid: row for slot in rows if int(generation(slot)) == number for uid, row in rows[slot].items()}
    return {
        "uri": folded.uri,
        "provider": folded.provider,
        "delivery_id": folded.delivery_id,
        "sequence": folded.sequence,
        "addresses": sum(batch.addresses for batch in batches),
        "decisions": {"in": len(mine), KEPT: 0, **tally(mine.values())},
        "examples": examples(mine.items()),
    }


def tally(rows: Iterable[Row]) -> dict[str, int]:
    return dict(sorted(collections.Counter(map(kind, rows)).items()))


def kind(row: Row) -> str:
    """What is counted: the outcome, and the code of its reason."""
    _, outcome, why = row
    return f"{outcome}:{code_of(why)}" if why else outcome


def examples(rows: Iterable[tuple[str, Row]]) -> dict[str, str]:
    """For each kind of row that is not kept, one asset with its reason, or the rule behind it."""
    found: dict[str, str] = {}
    for uid, row in rows:
        why = row[2]
        if why and kind(row) not in found:
            detail = why.partition(": ")[2].partition("\n")[0][:MAX_EXAMPLE]
            found[kind(row)] = f"{uid}: {rule_of(why) or detail or why}"
    return dict(sorted(found.items()))


def changes(
    before: Mapping[str, Mapping[str, Row]], after: Mapping[str, Mapping[str, Row]]
) -> dict[str, int]:
    """Against the corpus as it is: assets that are ``new`` in it, and by reason the rows that it would lose.

    ``superseded`` is such a reason: of a row whose asset comes again, in a higher revision.
    """
    known = {uid for rows in before.values() for uid in rows}
    arrived = {uid for slot, rows in after.items() if slot not in before for uid in rows}
    both = [(then, after[slot][uid]) for slot, rows in before.items() for uid, then in rows.items()]
    lost = collections.Counter(code_of(now[2]) for then, now in both if then[1] == KEPT != now[1])
    again = sum(then[1] != KEPT == now[1] for then, now in both)
    return {"new": len(arrived - known), "superseded": 0, **dict(sorted(lost.items())), "kept again": again}


def leaving(
    before: Mapping[str, Mapping[str, Row]], after: Mapping[str, Mapping[str, Row]]
) -> dict[str, str]:
    """The first assets of which no row would be kept any more, and why."""
    stays = {uid for rows in after.values() for uid, row in rows.items() if row[1] == KEPT}
    gone = (
        (uid, kind(after[slot][uid]))
        for slot, rows in before.items()
        for uid, row in rows.items()
        if row[1] == KEPT and uid not in stays
    )
    return dict(itertools.islice(gone, MAX_LEAVING))


def text(found: Mapping[str, Any]) -> str:
    """The answer for people: a line for each delivery, then what would change."""
    lines = [f"rights as of {found['as_of']}; nothing was written"]
    for delivery in found["deliveries"]:
        name = f"{delivery['provider']} {delivery['delivery_id']} (number {delivery['sequence']})"
        counts = ", ".join(f"{outcome} {rows}" for outcome, rows in delivery["decisions"].items())
        lines.append(f"  {name}: {counts}")
        lines += told_examples(delivery["examples"])
        if delivery["addresses"]:
            lines.append(
                f"    {delivery['addresses']} images lie at addresses, which a check does not follow"
            )
    changed = ", ".join(f"{kind} {num}" for kind, num in found["changes"].items())
    lines.append(f"  against the corpus: {changed}")
    lines += [f"    out: {uid} ({why})" for uid, why in found["leaving"].items()]
    return "\n".join(lines)


def told_examples(found: Mapping[str, str]) -> list[str]:
    return [f"    {name}, such as {example}" for name, example in found.items()]
