"""What a replica is asked, and what it answers: ids, words and vectors, and nobody's rights.

Legend: D embedding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from retrieval.segments import Floats, Ids
from retrieval.serving.queries import Given, Picture, Words
from retrieval.serving.subsets import Among
from tokenizer_service.serving.looking import Unfit


@dataclass(frozen=True, slots=True)
class Like:
    """A member of the index, by id."""

    id: int


Sought = Words | Given | Like
"""A part of a search that needs no decoder."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Asked:
    """One search, as a replica is asked it."""

    parts: tuple[Sought | Picture, ...]
    weights: tuple[float, ...]
    k: int
    among: Among
    without: tuple[int, ...] = ()
    """Ids among them that may not."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ready:
    """The same with a vector in place of its picture."""

    asked: Asked
    parts: tuple[Sought, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ranked:
    """Best first."""

    ids: Ids
    scores: Floats
    batch: int
    """Searches of its batch, told by the first of them; 0 by the others, so that batches can be counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancelled:
    """The parts of a mix left no direction to look in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forgotten:
    """The ids that may answer were named, and are not remembered here: they have to be sent."""


Answer = Ranked | Cancelled | Forgotten
"""Of a desk that searched."""
Found = Ranked | Unfit | Cancelled


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What answers: told with them."""

    encoder: str
    fingerprint: str
    width: int
    """D."""
    vectors: int


class Searching(Protocol):
    """What the door asks: this process's desk, or replicas on a cluster."""

    async def search(self, asked: Asked) -> Found: ...

    async def alive(self) -> bool: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What a service serves with, fixed while it runs."""

    max_batch: int
    """Searches a batch."""
    wait_s: float
    """That a search waits for others."""
    lookers: int
    """Processes that decode pictures, a replica."""
    threads: int
    """That multiply, a replica."""
