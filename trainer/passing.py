"""What runs passed of packs: exact, from where each stood in its order at its last checkpoint.

The surprising rule: whatever was blanked as it was read counts as passed. A run is known to the corpora whose
packs it read; of each source it left how many epochs are whole, and how many rows of the one after it passed.

Shapes: N blocks, P sequences asked for, R rows of a block.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from infra import runs
from infra.artifact import MOVED, Artifact, Corrupt, artifact_name, find_artifact
from infra.corpus import Corpus
from infra.pieces import PiecesSection
from infra.runs import Run
from pipeline import packs
from pipeline.blocks import Blocks, Shard, block_rows
from pipeline.shards import Block
from pipeline.split import TRAIN
from trainer.order import MAIN, EpochOrder, Source, StreamSection
from trainer.spans import Ints

ONCE = PiecesSection(cache_mib=0, ahead_mib=64)
"""Blocks are read once, and put no trainer's out of the machine's folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A source that a run reads, and how far it got in it."""

    run: Run
    name: str
    """Empty for the run's own packs."""
    source: Mapping[str, Any]
    """As :func:`trainer.seen.saw` told it last."""

    @property
    def made(self) -> tuple[str, str]:
        """The step that made the packs, and the key of what it made."""
        return self.source.get("step", packs.STEP), self.source["pack"]

    @property
    def facts(self) -> dict[str, Any]:
        """Who read what, and how far: epochs that are whole, and rows of the one after."""
        return {
            "identity": self.run.identity,
            "folder": self.run.begun.get("folder"),
            "source": self.name,
            "version": self.source["version"],
            "epoch": self.source["epoch"],
            "row": self.source["row"],
        }

    def order(self, blocks: Source) -> EpochOrder:
        """Of the epoch under way; :class:`Corrupt` if the run read other blocks under this key."""
        found = self.source.get("blocks", blocks.blocks())
        if found != blocks.blocks():
            raise Corrupt(
                f"run {self.run.identity} read packs {self.source['pack']} with blocks {found}, and the "
                f"artifact of that key has {blocks.blocks()}; restore it from a copy"
            )
        section = StreamSection(**self.run.reached.get("order", {}))
        return EpochOrder(blocks.block_rows, section, int(self.source["epoch"]), name=self.name)

    def times(self, order: EpochOrder, sequence_P: Ints) -> Ints:
        """[P]: how often the run passed each sequence; ``order`` as :meth:`order` gives it."""
        return int(self.source["epoch"]) + (order.positions(sequence_P) < int(self.source["row"]))


def readings(corpus: Corpus) -> Iterator[Reading]:
    """Of every run on packs of this corpus, whatever became of them since."""
    for run in runs.listed(corpus):
        if "pack" not in run.begun:  # it fits a tokenizer, and saw pictures
            continue
        nowhere = {"version": run.begun["version"], "pack": run.begun["pack"], "epoch": 0, "row": 0}
        for name, source in run.reached.get("sources", {MAIN: nowhere}).items():
            found = Reading(run=run, name=name, source=source)
            if source["pack"] == run.begun["pack"] or find_artifact(corpus.store, *found.made):
                yield found


def is_in_order(corpus: Corpus, step: str, key: str) -> bool:
    """Whether the packs that stand under a key are those that were read under it, or these with blanks.

    What was packed anew since is in another order, even where its blocks are as large.
    """
    stands = key
    while MOVED in (told := json.loads(corpus.store.read(artifact_name(step, stands)))):
        stands = told[MOVED]
    if stands == key:
        return True
    versions = (corpus.version(number) for number in corpus.numbers())
    origins = {one.artifacts[step]: one.origin(step) for one in versions if step in one.artifacts}
    return origins.get(stands, stands) == origins.get(key, key)


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """Packs of one kind."""

    artifact: Artifact
    shards: tuple[Shard, ...]
    source: Source

    @classmethod
    def find(cls, corpus: Corpus, step: str, key: str) -> Self | None:
        """Those for training; None if they are gone, or if what stands in their place is in another order."""
        artifact = find_artifact(corpus.store, step, key)
        if artifact is None or not is_in_order(corpus, step, key):
            return None
        return cls.of(corpus, artifact, TRAIN)

    @classmethod
    def of(cls, corpus: Corpus, artifact: Artifact, kind: str) -> Self:
        shards = tuple(packs.placed(corpus.store, packs.slots_of(artifact, kind)))
        rows_N = block_rows(shard.info for shard in shards)
        return cls(artifact=artifact, shards=shards, source=Source(block_rows=rows_N))

    def each(self) -> Iterator[tuple[int, Block]]:
        """The first sequence of each block, and the block; one is in memory at a time.

        Raises ``FileNotFoundError`` where one is gone.
        """
        rows_N = self.source.block_rows
        first_N = np.cumsum(rows_N) - rows_N
        with contextlib.closing(Blocks(self.shards, keep=1, pieces=ONCE)) as blocks:
            blocks.expect(range(len(blocks)))
            for number, first in enumerate(first_N.tolist()):
                yield first, blocks.block(number)
