"""``pardalis models-affected``: the runs that saw an asset, how often, and as what.

Exact, from the packs that the runs read: which sequences hold a span of the asset is looked up in their
blocks, and whether a run has passed a sequence is where it stands in the run's order. The surprising rule:
whatever was blanked as it was read counts as seen; the answer may name a model too many, never one too few.
So of an asset that was erased every run is named that passed anything of what was: packs do not tell one of
these from another.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from infra import runs
from infra.corpus import Corpus
from infra.options import ReadOptions, answer
from infra.runs import Run
from pipeline import derivation, erased, naming, shards
from pipeline.packed import Role
from trainer import passing
from trainer.instruct import build as instruct
from trainer.order import Source
from trainer.passing import Packed, Reading
from trainer.spans import Ints


@dataclass(frozen=True, slots=True, kw_only=True)
class Affected:
    """A run, and a source of its, of whose sequences some hold the asset."""

    identity: str
    folder: str | None
    """Where the run was trained, if it said so; it may have been moved since."""
    source: str
    """Empty for the run's own packs."""
    version: int
    is_known: bool
    """False where the packs are gone: it may have seen the asset, and nobody can tell."""
    is_named: bool = True
    """False where the asset was erased: the counts are of all that was, and may be of others."""
    num_sequences: int = 0
    """That hold a span of the asset."""
    num_as_target: int = 0
    num_as_neighbor: int = 0
    """Of these, as which it is in them; it may be both in one. What an instruction example is given goes with
    its target.
    """
    num_passed: int = 0
    """Sequences that the run has passed at least once."""
    times: int = 0
    """How often it passed one, all counted."""
    epoch: int = 0
    row: int = 0
    """How far it got: epochs that are whole, and rows of the one after."""
    through: str | None = None
    """The run that passed them, where this one was tuned from its weights."""

    @property
    def is_affected(self) -> bool:
        return self.times > 0 or not self.is_known


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """The sequences of some packs that hold an asset."""

    sequences: Ints
    num_as_target: int
    num_as_neighbor: int
    source: Source


def models_affected(uid: str, *, options: ReadOptions | None = None) -> None:
    """List the runs whose packs hold an asset, how often each of them saw it, and as target or neighbor.

    Example: pardalis models-affected fluent-emoji:1f34e --corpus demo/corpus

    Parameters
    ----------
    uid
        PROVIDER:ASSET_ID
    """
    naming.check_uid(uid)
    options = options or ReadOptions()
    found = affected(options.open(), uid)
    facts = [{**asdict(one), "is_affected": one.is_affected} for one in found]
    text = "\n".join(map(told, found)) or f"no run on this corpus has packs that hold {uid}"
    answer(facts, text, json=options.json)


def affected(corpus: Corpus, uid: str) -> list[Affected]:
    """Each run on any version of the corpus whose packs hold the asset, whether it has passed it or not."""
    gone = erased.by_slot(corpus.store, corpus.head()).values()
    is_named = not any(erased.hashed(uid) in hashes for hashes in gone)
    uids = [uid] if is_named else [uid, shards.NOBODY]
    held: dict[tuple[str, str], Holding | None] = {}
    found = []
    for reading in passing.readings(corpus):
        if reading.made not in held:
            held[reading.made] = holding(corpus, *reading.made, uids)
        holds = held[reading.made]
        if holds is None:
            found.append(Affected(**reading.facts, is_known=False))
        elif len(holds.sequences):
            counts = passed(reading, holds)
            found.append(Affected(**reading.facts, is_known=True, is_named=is_named, **counts))
    return [*found, *tuned_from(corpus, found)]


def tuned_from(corpus: Corpus, found: Sequence[Affected]) -> Iterator[Affected]:
    """Runs whose first weights are those of an affected one, and whose of these in turn: for each, as often
    as that run passed a sequence.
    """
    waiting = [one for one in found if one.is_affected]
    told = [run for run in runs.listed(corpus) if base_of(run)]
    while waiting:
        base = waiting.pop()
        for run in told:
            if base_of(run) == base.identity:
                through = base.through or base.identity
                one = replace(base, identity=run.identity, folder=run.begun.get("folder"), through=through)
                waiting.append(one)
                yield one


def base_of(run: Run) -> str | None:
    """The run whose weights it began with."""
    base = run.begun.get("config", {}).get("base")
    return None if base is None else str(base["identity"])


def holding(corpus: Corpus, step: str, key: str, uids: Sequence[str]) -> Holding | None:
    """The sequences of the packs for training that hold the assets, or what was derived of them; None if the
    packs are gone.

    One block is in memory at a time.
    """
    packed = Packed.find(corpus, step, key)
    if packed is None:
        return None
    found, roles = [np.zeros(0, np.int64)], [np.zeros(0, np.uint8)]
    try:
        if step == instruct.STEP:
            uids = [*uids, *sorted(derivation.derived_from(corpus.store, packed.artifact, {*uids}))]
        for first, block in packed.each():
            row_H, role_H = block.holding(*uids)
            found.append(first + row_H)
            roles.append(role_H)
    except FileNotFoundError:
        return None
    sequence_H, role_H = np.concatenate(found), np.concatenate(roles)
    return Holding(
        sequences=np.unique(sequence_H),
        num_as_target=len(np.unique(sequence_H[role_H != Role.NEIGHBOR])),
        num_as_neighbor=len(np.unique(sequence_H[role_H == Role.NEIGHBOR])),
        source=packed.source,
    )


def passed(reading: Reading, holds: Holding) -> dict[str, Any]:
    """What a run has passed of the sequences."""
    times_S = reading.times(reading.order(holds.source), holds.sequences)
    return {
        "num_sequences": len(holds.sequences),
        "num_as_target": holds.num_as_target,
        "num_as_neighbor": holds.num_as_neighbor,
        "num_passed": int((times_S > 0).sum()),
        "times": int(times_S.sum()),
    }


def told(one: Affected) -> str:
    """A run in a line."""
    where = f"run {one.identity} ({one.folder or 'folder unknown'}), version {one.version}"
    where += f", source {one.source}" if one.source else ""
    where += f", through the weights of run {one.through}" if one.through else ""
    if not one.is_known:
        return f"{where}: its packs are gone, so nobody can tell; take it for affected"
    held = "" if one.is_named else "the asset was erased; of all that was, "
    held += (
        f"{one.num_sequences} sequences ({one.num_as_target} as target, {one.num_as_neighbor} as neighbor)"
    )
    reached = f"it reached row {one.row} of epoch {one.epoch}"
    if not one.times:
        return f"{where}: not affected; {held}, none of which it has passed: {reached}"
    return f"{where}: affected; {held}, {one.num_passed} of them passed, {one.times} times in all: {reached}"
