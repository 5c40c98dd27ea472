"""What was found in a file, and where."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    place: str
    item: int
    sub: int
    owner: str = ""
    """Uid of the row that it was found in; empty where there is none."""
    is_near: bool = False
    """Whether a name of a revoked asset stands in the same row."""
    index_id: int = -1
    """Of the vector that it was found in."""


@dataclass(frozen=True, slots=True)
class Wrong:
    """A field that holds what no row may."""

    place: str
    key: str
    value: str


@dataclass(slots=True)
class Seen:
    """What a file was found to hold."""

    hits: list[Hit] = field(default_factory=list)
    wrong: list[Wrong] = field(default_factory=list)
    uids: set[str] = field(default_factory=set)
    claims: dict[int, set[str]] = field(default_factory=dict)
    """Of the ids of the index that are revoked, or came later, the uids whose rows say that it is theirs."""
    counts: dict[tuple[int, int], int] = field(default_factory=dict)
    """Finds of each item and what is looked for of it, told or not."""
    shared: set[tuple[int, int]] = field(default_factory=set)
