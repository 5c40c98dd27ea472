"""A reader as the mutated inputs see it: bytes in, and a result or a refusal that is documented."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.fuzz.mutate import mutated

MOST_COST = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    name: str
    read: Callable[[bytes], object]
    refusals: tuple[type[Exception], ...]
    seeds: Sequence[bytes]
    seal: Callable[[bytes], bytes] | None = None
    """Mends the checksums of a mutated input, which is done at times, so that mutations get past them."""
    change: Callable[[bytes, random.Random], bytes] | None = None
    """Changes a seed as the document that it is, which is done at times, for the same reason."""

    cost: int = 1
    """At most ``MOST_COST``: of so many turns of a cheap one, this has one."""

    def draw(self, seed: int, number: int) -> bytes:
        """The input of that number: the same whichever came before."""
        rng = random.Random(f"{seed}:{self.name}:{number}")  # noqa: S311  # no secrets here
        raw = rng.choice(self.seeds)
        if self.change is not None and rng.random() < 0.6:
            return self.change(raw, rng)
        raw = mutated(raw, self.seeds, rng)
        return self.seal(raw) if self.seal is not None and rng.random() < 0.7 else raw
