"""``pardalis models-affected``: the runs that saw an asset, how often, and as what.

Exact, from the packs that the runs read: which sequences hold a span of the asset is looked up in their
blocks, and whether a run has passed a sequence is where it stands in the run's order. The surprising rule:
whatever was blanked as it was read counts as seen; the answer may name a model too many, never one too few.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from infra import runs
from infra.artifact import Corrupt, find_artifact
from infra.corpus import Corpus
from infra.options import ReadOptions, answer
from infra.pieces import PiecesSection
from infra.runs import Run
from pipeline import packs
from pipeline.blocks import Blocks, block_rows
from pipeline.packed import Role
from pipeline.split import TRAIN
from trainer.instruct import build as instruct
from trainer.instruct import listing
from trainer.order import MAIN, EpochOrder, Source, StreamSection
from trainer.spans import Ints

ONCE = PiecesSection(cache_mib=0, ahead_mib=64)
"""Blocks are read once, and put no trainer's out of the machine's folder."""


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

    def times(self, told: Mapping[str, Any], name: str, order: Mapping[str, Any]) -> Ints:
        """How often a run passed each sequence."""
        epoch, row = int(told["epoch"]), int(told["row"])
        last = EpochOrder(self.source.block_rows, StreamSection(**order), epoch, name=name)
        return epoch + (last.positions(self.sequences) < row)


def models_affected(uid: str, *, options: ReadOptions | None = None) -> None:
    """List the runs whose packs hold an asset, how often each of them saw it, and as target or neighbor.

    Example: pardalis models-affected fluent-emoji:1f34e --corpus demo/corpus

    Parameters
    ----------
    uid
        PROVIDER:ASSET_ID
    """
    if ":" not in uid:
        raise ValueError(f"{uid!r} names no asset; write it as PROVIDER:ASSET_ID")
    options = options or ReadOptions()
    found = affected(options.open(), uid)
    facts = [{**asdict(one), "is_affected": one.is_affected} for one in found]
    text = "\n".join(map(told, found)) or f"no run on this corpus has packs that hold {uid}"
    answer(facts, text, json=options.json)


def affected(corpus: Corpus, uid: str) -> list[Affected]:
    """Each run on any version of the corpus whose packs hold the asset, whether it has passed it or not."""
    held: dict[tuple[str, str], Holding | None] = {}
    found = []
    for run, name, source in sources(corpus):
        made = source.get("step", packs.STEP), source["pack"]
        if made not in held:
            held[made] = holding(corpus, *made, uid)
        facts = {
            "identity": run.identity,
            "folder": run.begun.get("folder"),
            "source": name,
            "version": source["version"],
            "epoch": source["epoch"],
            "row": source["row"],
        }
        holds = held[made]
        if holds is None:
            found.append(Affected(**facts, is_known=False))
        elif len(holds.sequences):
            found.append(Affected(**facts, is_known=True, **passed(run, name, source, holds)))
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


def sources(corpus: Corpus) -> Iterator[tuple[Run, str, Mapping[str, Any]]]:
    """Of every run on packs of this corpus: its sources that are, by name, and how far it got in them."""
    for run in runs.listed(corpus):
        if "pack" not in run.begun:  # it fits a tokenizer, and saw pictures
            continue
        nowhere = {"version": run.begun["version"], "pack": run.begun["pack"], "epoch": 0, "row": 0}
        of_run = run.reached.get("sources", {MAIN: nowhere})
        for name, source in of_run.items():
            made = source.get("step", packs.STEP), source["pack"]
            if source["pack"] == run.begun["pack"] or find_artifact(corpus.store, *made):
                yield run, name, source


def holding(corpus: Corpus, step: str, key: str, uid: str) -> Holding | None:
    """The sequences of the packs for training that hold the asset, or what was derived of it; None if the
    packs are gone.

    One block is in memory at a time.
    """
    artifact = find_artifact(corpus.store, step, key)
    if artifact is None:
        return None
    uids = [uid]
    if step == instruct.STEP:
        uids += sorted(listing.derived_from(corpus.store, artifact, {uid}))
    shards = packs.placed(corpus.store, packs.slots_of(artifact, TRAIN))
    rows_N = block_rows(shard.info for shard in shards)
    first_N = np.cumsum(rows_N) - rows_N
    found, roles = [np.zeros(0, np.int64)], [np.zeros(0, np.uint8)]
    with contextlib.closing(Blocks(shards, keep=1, pieces=ONCE)) as blocks:
        blocks.expect(range(len(blocks)))
        try:
            for number, first in enumerate(first_N.tolist()):
                row_H, role_H = blocks.block(number).holding(*uids)
                found.append(first + row_H)
                roles.append(role_H)
        except FileNotFoundError:
            return None
    sequence_H, role_H = np.concatenate(found), np.concatenate(roles)
    return Holding(
        sequences=np.unique(sequence_H),
        num_as_target=len(np.unique(sequence_H[role_H != Role.NEIGHBOR])),
        num_as_neighbor=len(np.unique(sequence_H[role_H == Role.NEIGHBOR])),
        source=Source(block_rows=rows_N),
    )


def passed(run: Run, name: str, source: Mapping[str, Any], holds: Holding) -> dict[str, Any]:
    """What a run has passed of the sequences."""
    blocks = source.get("blocks", holds.source.blocks())
    if blocks != holds.source.blocks():
        raise Corrupt(
            f"run {run.identity} read packs {source['pack']} with blocks {blocks}, and the artifact of that "
            f"key has {holds.source.blocks()}; restore it from a copy"
        )
    times_S = holds.times(source, name, run.reached.get("order", {}))
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
    held = f"{one.num_sequences} sequences ({one.num_as_target} as target, {one.num_as_neighbor} as neighbor)"
    reached = f"it reached row {one.row} of epoch {one.epoch}"
    if not one.times:
        return f"{where}: not affected; {held}, none of which it has passed: {reached}"
    return f"{where}: affected; {held}, {one.num_passed} of them passed, {one.times} times in all: {reached}"
