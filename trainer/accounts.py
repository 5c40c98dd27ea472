"""The accounts of a corpus, counted in the bytes: catalog rows, spans in packs, the order of every run.

The surprising rule: what belongs to several accounts counts in full for each of them, so the accounts of a
kind may add up to more than the totals, which count everything once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from infra.artifact import artifact_name
from infra.corpus import Corpus, Version
from infra.storage import Missing
from pipeline import packs
from pipeline.examples import kind_of
from pipeline.split import TRAIN
from trainer import passing, tallies
from trainer.instruct import build as instruct
from trainer.owners import Owners, Register
from trainer.passing import Packed, Reading
from trainer.spans import Ints
from trainer.tallies import NUM_TOKENS

TOKENS = ("target_text_tokens", "target_image_tokens", "neighbor_text_tokens", "neighbor_image_tokens")
"""Of the packs for training, of all steps that make packs."""
FIELDS = ("assets", *TOKENS, "held_out_tokens", "times_seen", "times_retrieved", "times_served")
"""``times_seen``: passes of a document that has it as target, or given beside an answer; ``times_retrieved``:
as neighbor; ``times_served``: answers of the search service that named it."""
STEPS = (packs.STEP, instruct.STEP)
Made = tuple[str, str]
"""Step and key of packs."""


class Account(dict[str, int]):
    """Counts by field; zero where nothing was added."""

    def __missing__(self, name: str) -> int:
        return 0

    def add(self, counts: Mapping[str, int]) -> None:
        for name, count in counts.items():
            self[name] += count


@dataclass(frozen=True, slots=True, kw_only=True)
class Book:
    """All accounts, and what they add up to where everything counts once."""

    totals: Account = field(default_factory=Account)
    contributors: dict[str, Account] = field(default_factory=lambda: defaultdict(Account))
    licenses: dict[str, Account] = field(default_factory=lambda: defaultdict(Account))
    pairs: dict[tuple[str, str], Account] = field(default_factory=lambda: defaultdict(Account))

    def add(self, owners: Owners, counts: Mapping[str, int]) -> None:
        self.totals.add(counts)
        for contributor in owners.contributors:
            self.contributors[contributor].add(counts)
        for license_ in owners.licenses:
            self.licenses[license_].add(counts)
        for pair in owners.pairs:
            self.pairs[pair].add(counts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """A source of a run, and what it amounts to."""

    reading: Reading
    counts: Mapping[str, int] | None
    """None: its packs are gone, and nobody can tell."""


def kept(
    corpus: Corpus, version: Version, served: Mapping[str, int] | None = None
) -> tuple[Book, list[Read]]:
    """The book of a version, and of every run on any version of the corpus.

    ``served``: by uid, the answers of services that named it.
    """
    book, read = Book(), list[Read]()
    register = Register.of(corpus, version)
    for owners, number in register.num_kept.items():
        book.add(owners, {"assets": number})
    for uid, times in (served or {}).items():
        book.add(register.of_uid(uid), {"times_served": times})
    own = {(step, version.artifacts[step]) for step in STEPS if step in version.artifacts}
    readings: dict[Made, list[Reading]] = {made: [] for made in sorted(own)}
    for reading in passing.readings(corpus):
        readings.setdefault(reading.made, []).append(reading)
    for made, mine in readings.items():
        try:
            amounts = enter(book, corpus, made, mine, version if made in own else None)
        except FileNotFoundError as error:
            if made in own:
                raise Missing(
                    f"version {version.number} lists packs of step {made[0]!r} that are not all there: "
                    f"{error}; restore them from a copy"
                ) from error
            amounts = [None] * len(mine)
        read += [Read(reading=one, counts=counts) for one, counts in zip(mine, amounts, strict=True)]
    return book, read


def enter(
    book: Book, corpus: Corpus, made: Made, readings: Sequence[Reading], version: Version | None
) -> Sequence[Mapping[str, int] | None]:
    """Add what packs hold, where they are a ``version``'s, and what was passed of them; of each reading what
    it passed. Raises ``FileNotFoundError``, with nothing added, where something of the packs is gone.
    """
    packed = Packed.find(corpus, *made)
    if packed is None:
        raise Missing(corpus.store.where(artifact_name(*made)))
    by = version or corpus.version(int(readings[0].source["version"]))
    register = Register.of(corpus, by, packed)
    tally = tallies.walked(packed, readings)
    held_out = tallies.Tally() if version is None else of_held_out(corpus, packed)
    passed = np.zeros(2 * len(readings), np.int64)
    for uid, counts_C in tally:
        book.add(register.of_uid(uid), amounts(counts_C, is_listed=version is not None))
        passed += counts_C[NUM_TOKENS:]
    for uid, counts_C in held_out:
        book.add(register.of_uid(uid), {"held_out_tokens": int(counts_C.sum())})
    return [
        {"times_seen": seen, "times_retrieved": retrieved}
        for seen, retrieved in passed.reshape(-1, 2).tolist()
    ]


def amounts(counts_C: Ints, *, is_listed: bool) -> dict[str, int]:
    """By field, of one uid's counts as :mod:`trainer.tallies` has them."""
    seen, retrieved = counts_C[NUM_TOKENS:].reshape(-1, 2).sum(axis=0).tolist()
    tokens = dict(zip(TOKENS, counts_C[:NUM_TOKENS].tolist(), strict=True)) if is_listed else {}
    return {**tokens, "times_seen": seen, "times_retrieved": retrieved}


def of_held_out(corpus: Corpus, packed: Packed) -> tallies.Tally:
    """Of the packs of all other kinds that were made with these."""
    found = tallies.Tally()
    for kind in sorted({kind_of(slot) for slot in packed.artifact.shards} - {TRAIN}):
        other = Packed.of(corpus, packed.artifact, kind)
        for uid, counts_C in tallies.walked(other):
            found.add([uid], counts_C[None])
    return found
