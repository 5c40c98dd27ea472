"""Which neighbors an example may see: none that is itself, a duplicate, hidden by a licence, or too alike.

Two searches go out, by the target's image and by its text (arXiv 2309.02591, section 2.1), and their answers
alternate. The surprising rule: whichever search found it, a candidate is judged by both. A picture that is
almost the target's own is refused even when only its caption led to it, since a model would learn to copy it.

Legend: B targets, K neighbors of one search, C = 2 K candidates, D embedding, M members.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from infra.settings import Section
from retrieval.index import MAX_K, Index
from retrieval.judging import inner_products
from retrieval.segments import Floats, Ids

VIA = ("image", "text")
"""What the codes in :attr:`Candidates.via` mean."""

# Targets judged at a time: 64 x 256 candidates x 512 dimensions are 34 MB, and 17 MB are their likenesses.
_BLOCK_ROWS = 64

JUDGED = 3
"""Times the candidates wanted that are compared with each other."""


class NeighborConfig(Section):
    """Which neighbors an example may see."""

    candidates: int = Field(32, ge=1)
    """Kept for a target, best first."""
    fetch: int = Field(128, ge=1, le=MAX_K)
    """Neighbors asked of each search, before anything is refused."""
    max_score: float = Field(0.9, gt=0, le=1)
    """Cosine to the target's image or text above which a candidate is refused (CM3Leon and RA-CM3: 0.9)."""
    max_likeness: float = Field(0.9, gt=0, le=1)
    """Cosine to a candidate already chosen above which one is refused (RA-CM3: 0.9)."""
    max_citations: int | None = Field(None, ge=1)
    """Most targets of one call that may cite an asset; None for no limit."""
    max_contributor_share: float | None = Field(None, gt=0, le=1)
    """Most of a call's citations that may go to one contributor, of as many as the targets could have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Members:
    """What is known of the index's ids. ``ids`` [M] are sorted; equal ``groups`` [M] are duplicates."""

    ids: Ids
    groups: NDArray[np.int64]
    contributors: NDArray[np.int64]
    """[M] Equal numbers are one contributor."""
    admissible: NDArray[np.bool_]
    """[M] Whether the licence and the split let it be anybody's neighbor."""

    def rows(self, ids: Ids) -> NDArray[np.int64]:
        """Where ids of any shape stand. ValueError for one that is not a member."""
        rows = np.searchsorted(self.ids, ids)
        unknown = self.ids[np.minimum(rows, len(self.ids) - 1)] != ids
        if unknown.any():
            raise ValueError(f"id {ids[unknown][0]} is no member; hand over the members of all segments")
        return rows


@dataclass(frozen=True, slots=True)
class Sides:
    """Normalised vectors [B, D] of pictures and of captions."""

    images: Floats
    texts: Floats

    def __getitem__(self, rows: slice | Ids) -> Sides:
        return Sides(self.images[rows], self.texts[rows])

    @property
    def both(self) -> tuple[Floats, Floats]:
        return self.images, self.texts


@dataclass(frozen=True, slots=True, kw_only=True)
class Targets:
    """Who asks: member ids [B], what candidates are judged against, and what is searched with."""

    ids: Ids
    whole: Sides
    queries: Sides
    """After dropout."""

    def __getitem__(self, rows: slice) -> Targets:
        return Targets(ids=self.ids[rows], whole=self.whole[rows], queries=self.queries[rows])


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidates:
    """Ragged lists, best first: those of target b are ``[starts[b] : starts[b + 1]]``."""

    starts: NDArray[np.int64]
    """[B + 1]"""
    ids: Ids
    scores: Floats
    """Cosine of the candidate's document to the query that found it."""
    via: NDArray[np.uint8]
    """Which side that was: an index into VIA."""
    reach_B2: Floats
    """Score of the last that each search fetched, -inf where it fetched all there is. What is less like the
    query cannot have moved anything: neither it nor its going."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ranked:
    """One list for each target, best first: [B, K], or [B, C] once two of them alternate."""

    ids: Ids
    scores: Floats
    keep: NDArray[np.bool_]
    """Whether nothing speaks against the candidate so far."""
    reach: Floats
    """[B, 1] of one search, [B, 2] of both."""


def choose(targets: Targets, index: Index, members: Members, config: NeighborConfig) -> Candidates:
    """At most ``config.candidates`` for each target; fewer when nothing else is left in what was fetched."""
    num = len(targets.ids)
    starts = range(0, max(1, num), _BLOCK_ROWS)
    ranked = [_rank(_whole(targets[at : at + _BLOCK_ROWS]), index, members, config) for at in starts]
    ids_BC = np.concatenate([one.ids for one in ranked])[:num]
    keep_BC = np.concatenate([one.keep for one in ranked])[:num]
    if config.max_citations is not None:
        keep_BC &= citations_before(ids_BC, keep_BC) < config.max_citations
    if config.max_contributor_share is not None:
        most = int(config.max_contributor_share * config.candidates * len(targets.ids))
        contributors_BC = members.contributors[members.rows(ids_BC)]
        keep_BC &= citations_before(contributors_BC, keep_BC) < most
    keep_BC &= np.cumsum(keep_BC, axis=1) <= config.candidates
    via_BC = np.broadcast_to(np.arange(ids_BC.shape[1]) % len(VIA), ids_BC.shape)
    return Candidates(
        starts=np.concatenate([[0], np.cumsum(keep_BC.sum(axis=1))]).astype(np.int64),
        ids=ids_BC[keep_BC],
        scores=np.concatenate([one.scores for one in ranked])[:num][keep_BC],
        via=via_BC[keep_BC].astype(np.uint8),
        reach_B2=np.concatenate([one.reach for one in ranked])[:num],
    )


def _whole(targets: Targets) -> Targets:
    """A block of always so many, its last one repeated: sums depend on the shape, and what a target finds
    must not depend on how many others ask.
    """
    num = len(targets.ids)
    if num in (0, _BLOCK_ROWS):
        return targets
    rows = np.minimum(np.arange(_BLOCK_ROWS), num - 1)
    sides = (Sides(one.images[rows], one.texts[rows]) for one in (targets.whole, targets.queries))
    return Targets(ids=targets.ids[rows], whole=next(sides), queries=next(sides))


def _rank(targets: Targets, index: Index, members: Members, config: NeighborConfig) -> _Ranked:
    lists = []
    for query_BD in targets.queries.both:
        found = index.search(query_BD, config.fetch)
        vectors_BKD = index.vectors(found.ids.ravel()).reshape(*found.ids.shape, index.width)
        likest_BK = np.maximum(*(inner_products(side_BD, vectors_BKD) for side_BD in targets.whole.both))
        keep_BK = _allowed(targets.ids, found.ids, members) & (likest_BK <= config.max_score)
        reach_B1 = found.scores[:, -1:] if found.ids.shape[1] == config.fetch else _everything(found.ids)
        ranked = _Ranked(ids=found.ids, scores=found.scores, keep=keep_BK, reach=reach_B1)
        lists.append(_moved_up(ranked))
    mixed = _alternating(*lists)
    return replace(mixed, keep=_distinct(mixed, index, config))


def _everything(ids_BK: Ids) -> Floats:
    return np.full((len(ids_BK), 1), -np.inf, np.float32)


def _allowed(targets_B: Ids, ids_BK: Ids, members: Members) -> NDArray[np.bool_]:
    """Not of the target's duplicate group, which holds the target too, and licensed to be a neighbor."""
    rows_BK = members.rows(ids_BK)
    groups_B1 = members.groups[members.rows(targets_B)][:, None]
    return np.asarray((members.groups[rows_BK] != groups_B1) & members.admissible[rows_BK])


def _moved_up(ranked: _Ranked) -> _Ranked:
    """Kept ones first, in their order, so that the two lists alternate among what is left of them."""
    order_BK = np.argsort(~ranked.keep, axis=1, kind="stable")
    return replace(
        ranked,
        ids=np.take_along_axis(ranked.ids, order_BK, axis=1),
        scores=np.take_along_axis(ranked.scores, order_BK, axis=1),
        keep=np.take_along_axis(ranked.keep, order_BK, axis=1),
    )


def _alternating(by_image: _Ranked, by_text: _Ranked) -> _Ranked:
    return _Ranked(
        ids=_zipped(by_image.ids, by_text.ids),
        scores=_zipped(by_image.scores, by_text.scores),
        keep=_zipped(by_image.keep, by_text.keep),
        reach=np.concatenate((by_image.reach, by_text.reach), axis=1),
    )


T = TypeVar("T", bound=np.generic)


def _zipped(one_BK: NDArray[T], other_BK: NDArray[T]) -> NDArray[T]:
    """[B, 2 K]: a column of one, a column of the other."""
    rows, columns = one_BK.shape
    return np.stack((one_BK, other_BK), axis=2).reshape(rows, len(VIA) * columns)


def _distinct(mixed: _Ranked, index: Index, config: NeighborConfig) -> NDArray[np.bool_]:
    """Kept candidates, less those that are, or are too like, one kept before them [B, C].

    Of a target only the first are looked at, three times as many as are wanted: products grow by the square.
    """
    looked = min(JUDGED * config.candidates, mixed.keep.shape[1])
    first_BC = np.argsort(~mixed.keep, axis=1, kind="stable")[:, :looked]
    ids_BC = np.take_along_axis(mixed.ids, first_BC, axis=1)
    keep_BC = np.take_along_axis(mixed.keep, first_BC, axis=1)
    vectors_BCD = index.vectors(ids_BC.ravel()).reshape(*ids_BC.shape, index.width)
    clash_BCC = (vectors_BCD @ vectors_BCD.transpose(0, 2, 1)) > config.max_likeness
    # A zero vector is not even like itself.
    clash_BCC |= ids_BC[:, :, None] == ids_BC[:, None, :]
    for c in range(1, looked):
        keep_BC[:, c] &= ~(clash_BCC[:, c, :c] & keep_BC[:, :c]).any(axis=1)
    distinct_BC = np.zeros_like(mixed.keep)
    np.put_along_axis(distinct_BC, first_BC, keep_BC, axis=1)
    return distinct_BC


def citations_before(ids_BC: Ids, keep_BC: NDArray[np.bool_]) -> NDArray[np.int64]:
    """How many kept citations of the same id come before each, the better-placed ones first, then by target.

    >>> citations_before(np.array([[7, 8], [7, 9]]), np.array([[True, True], [True, True]]))
    array([[0, 0],
           [1, 0]])
    """
    by_place, kept = ids_BC.T.ravel(), keep_BC.T.ravel().astype(np.int64)
    order = np.argsort(by_place, kind="stable")
    grouped, running = by_place[order], np.cumsum(kept[order]) - kept[order]
    counts = np.empty(len(order), np.int64)
    counts[order] = running - running[np.searchsorted(grouped, grouped)]
    return counts.reshape(ids_BC.shape[::-1]).T


def draw(via_C: Sequence[int], num: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """``num`` places, in their order, drawn from the first two by image and the first two by text.

    CM3Leon retrieves "two documents each" and keeps three of the four (arXiv 2309.02591, section 2.1). All of
    them come back when there are fewer than ``num``.
    """
    codes_C = np.asarray(via_C)
    pool = np.sort(np.concatenate([np.flatnonzero(codes_C == code)[:2] for code in range(len(VIA))]))
    return np.sort(rng.choice(pool, min(num, len(pool)), replace=False))
