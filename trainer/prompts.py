"""Prompts as ids: documents that stop where something is to be written (arXiv 2309.02591, section 2.2).

The surprising rule: there are two ways to ask. What comes last is asked for by stopping in front of it; what
stands earlier is cut, and asked for behind the end of the document, as the CM3 objective trained it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from tokenizer_service import vocabulary

Ids = tuple[int, ...]
T = TypeVar("T")

UNCONDITIONAL: Ids = (vocabulary.EOS, vocabulary.sentinel(0), vocabulary.BREAK)
"""An image whose text was cut, without neighbors: guidance leads away from it (arXiv 2309.02591, eq. 1)."""
CUT: Ids = (vocabulary.sentinel(0),)
"""A segment of which nothing is left."""
ALSO_CUT: Ids = (vocabulary.sentinel(1),)
"""The same, in front of a hole that is asked for. Training numbers cuts by their place, and puts this one's
infill before the hole's, ``<s0> T <eoss> <s1>``, never empty: no prompt of its making hides the words T. So
the hole has the sentinel that stands first behind the end, and what is not asked for the next."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A neighbor in front of a prompt: the ids of its text and of its image."""

    text: Ids
    image: Ids

    @property
    def segments(self) -> tuple[Ids, Ids]:
        return (self.text, self.image)


@dataclass(frozen=True, slots=True)
class Hole:
    """What is cut out of a document: ids [start, stop) of a segment. An empty hole is where text belongs."""

    segment: int
    start: int
    stop: int


def coming(segments: Iterable[Sequence[int]]) -> Ids:
    """``<eos> S1 <break> ... Sn <break>``: one more segment comes next.

    >>> coming([(1030,), (60000, 60001)])
    (1, 1030, 2, 60000, 60001, 2)
    """
    return (vocabulary.EOS, *(token for one in segments for token in (*one, vocabulary.BREAK)))


def infill(segments: Sequence[Sequence[int]], hole: Hole) -> Ids:
    """``<eos> S1 <break> ... Sn <eos> <sentinel:0>``, and a ``<sentinel:0>`` in place of the hole: what was
    cut comes next, then ``<eoss>``.

    >>> infill([(1030, 1031, 1032), (60000,)], Hole(0, 1, 2))
    (1, 1030, 4, 1032, 2, 60000, 1, 4)
    """
    cut = tuple(segments[hole.segment])
    if not 0 <= hole.start <= hole.stop <= len(cut):
        raise ValueError(f"{hole} lies outside its segment, which has {len(cut)} tokens; cut inside it")
    left = (*cut[: hole.start], *CUT, *cut[hole.stop :])
    kept = [left if i == hole.segment else one for i, one in enumerate(segments)]
    return (*coming(kept)[:-1], vocabulary.EOS, *CUT)


def fitting(found: Sequence[T], prompt: Callable[[Sequence[T]], Ids], room: int) -> Sequence[T]:
    """The first of what is found, as many as make a prompt of at most ``room`` tokens; none where none do."""
    while found and len(prompt(found)) > room:
        found = found[:-1]
    return found


def image_prompt(text: Sequence[int], neighbors: Iterable[Pair] = ()) -> Ids:
    """``<eos> T1 <break> I1 <break> ... Tq <break>``: an image comes next."""
    return coming([*_pairs(neighbors), text])


def caption_prompt(
    image: Sequence[int], neighbors: Iterable[Pair] = (), instruction: Sequence[int] = ()
) -> Ids:
    """``<eos> ... instruction <sentinel:0> <break> I <eos> <sentinel:0>``: the cut text comes next."""
    before = _pairs(neighbors)
    return infill([*before, instruction, image], Hole(len(before), len(instruction), len(instruction)))


def _pairs(neighbors: Iterable[Pair]) -> list[Ids]:
    return [segment for pair in neighbors for segment in pair.segments]
