"""The order in which a run sees sequences: a function of (seed, epoch) alone, never of ranks or workers.

Blocks are permuted and dealt to lanes; rows are shuffled inside a lane's window of a few blocks; lanes are
read in turn, and one that has ended is passed over. Several corpora are mixed by weight, each in its own
order. The surprising rule: nothing is materialised but the windows under the cursor, so an epoch of any size
begins, or resumes anywhere, in milliseconds.

Shapes: B rows of a step, P positions asked for, L lanes, R rows of the widest window, W windows of a lane,
M sources.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple, Self

import numpy as np
import xxhash
from pydantic import Field

from infra.settings import Section
from trainer.spans import Ints, Keys, derive, root


class StreamSection(Section):
    """``[trainer.stream]``."""

    seed: int = Field(default=0, ge=0)
    """Of the order and of the masks."""
    rows_per_step: int = Field(default=32, ge=1)
    """Over all ranks; a multiple of their number."""
    lanes: int = Field(default=256, ge=1)
    """Blocks read side by side; no more than there are blocks. Part of the order."""
    window_blocks: int = Field(default=4, ge=1)
    """Blocks of a lane whose rows are shuffled together. Part of the order."""


def permutation(key: Keys, size: int) -> Ints:
    """Of [0, size), the same under every version of NumPy."""
    return np.argsort(derive(key, np.arange(size)), kind="stable")


class EpochOrder:
    """Position in an epoch to sequence: the number of a row in the order of the shards."""

    def __init__(self, block_rows: Ints, section: StreamSection, epoch: int, *, name: str = "") -> None:
        key = derive(source_key(section.seed, name), epoch)
        self._key = derive(key, 1)
        self._block_rows = block_rows
        self._first_row = np.cumsum(block_rows) - block_rows
        self._window_blocks = section.window_blocks
        num_lanes = min(section.lanes, len(block_rows))
        blocks = permutation(derive(key, 0), len(block_rows))
        self._blocks = blocks
        self._lanes = [blocks[lane::num_lanes] for lane in range(num_lanes)]
        self._turns = _Turns(np.array([block_rows[lane].sum() for lane in self._lanes]))
        self._ends = [self._window_ends(lane) for lane in self._lanes]
        # The window under the cursor of each lane: its rows in their order, and which of the lane's they are.
        widest = max(int(np.diff(ends_W, prepend=0).max()) for ends_W in self._ends)
        self._window_LR = np.empty((num_lanes, widest), np.int64)
        self._from_L, self._upto_L = np.zeros((2, num_lanes), np.int64)

    def _window_ends(self, blocks: Ints) -> Ints:
        """[W]: rows of the lane up to the end of each window."""
        firsts = np.arange(0, len(blocks), self._window_blocks)
        return np.cumsum(np.add.reduceat(self._block_rows[blocks], firsts))

    def sequences(self, position_P: Ints) -> Ints:
        lane_P, index_P = self._turns.at(position_P)
        found_P = np.empty_like(position_P)
        left = np.arange(len(position_P))
        while len(left):
            lane, index = lane_P[left], index_P[left]
            here = (self._from_L[lane] <= index) & (index < self._upto_L[lane])
            inside = lane[here]
            found_P[left[here]] = self._window_LR[inside, index[here] - self._from_L[inside]]
            left = left[~here]
            # A lane's next window is opened when all that were asked for of this one have been told.
            for place in left[np.unique(lane_P[left], return_index=True)[1]].tolist():
                self._open(int(lane_P[place]), int(index_P[place]))
        return found_P

    def positions(self, sequence_P: Ints) -> Ints:
        """The inverse of :meth:`sequences`: where each of them stands in the epoch."""
        block_P = np.searchsorted(self._first_row, sequence_P, side="right") - 1
        dealt_P, lane_P = np.divmod(np.argsort(self._blocks)[block_P], len(self._lanes))
        window_P = dealt_P // self._window_blocks
        index_P = np.empty_like(sequence_P)
        for lane, window in np.unique(np.stack((lane_P, window_P), axis=1), axis=0).tolist():
            here = (lane_P == lane) & (window_P == window)
            self._open(lane, int(self._ends[lane][window]) - 1)
            first, upto = self._from_L[lane], self._upto_L[lane]
            rows = self._window_LR[lane, : upto - first]
            by_row = np.argsort(rows)
            index_P[here] = first + by_row[np.searchsorted(rows, sequence_P[here], sorter=by_row)]
        return self._turns.of(lane_P, index_P)

    def _open(self, lane: int, index: int) -> None:
        """Shuffle the window of a lane that holds row ``index``."""
        ends_W = self._ends[lane]
        window = int(np.searchsorted(ends_W, index, side="right"))
        blocks = self._lanes[lane][window * self._window_blocks :][: self._window_blocks]
        rows = np.concatenate([self._first_row[b] + np.arange(self._block_rows[b]) for b in blocks])
        key = derive(derive(self._key, lane), window)
        self._window_LR[lane, : len(rows)] = rows[permutation(key, len(rows))]
        self._from_L[lane], self._upto_L[lane] = ends_W[window] - len(rows), ends_W[window]


class _Turns:
    """Lanes read in turn, one row each, those that have ended passed over."""

    def __init__(self, rows_L: Ints) -> None:
        self._levels = np.unique(np.concatenate(([0], rows_L)))
        self._open = [np.flatnonzero(rows_L > level) for level in self._levels]
        self._start = np.array([np.minimum(rows_L, level).sum() for level in self._levels])

    def at(self, position_P: Ints) -> tuple[Ints, Ints]:
        """Lane, and row in the lane."""
        level_P = np.searchsorted(self._start, position_P, side="right") - 1
        lane_P, index_P = np.empty_like(position_P), np.empty_like(position_P)
        for level in np.unique(level_P):
            here = level_P == level
            lanes = self._open[level]
            round_, turn = np.divmod(position_P[here] - self._start[level], len(lanes))
            lane_P[here], index_P[here] = lanes[turn], self._levels[level] + round_
        return lane_P, index_P

    def of(self, lane_P: Ints, index_P: Ints) -> Ints:
        """The inverse of :meth:`at`."""
        level_P = np.searchsorted(self._levels, index_P, side="right") - 1
        position_P = np.empty_like(index_P)
        for level in np.unique(level_P):
            here = level_P == level
            lanes = self._open[level]
            rounds = index_P[here] - self._levels[level]
            turns = np.searchsorted(lanes, lane_P[here])
            position_P[here] = self._start[level] + rounds * len(lanes) + turns
        return position_P


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Which share of every step one process makes."""

    rank: int = 0
    ranks: int = 1
    worker: int = 0
    workers: int = 1


def check_part(part: Part) -> None:
    if not 0 <= part.rank < part.ranks:
        raise ValueError(f"rank {part.rank} of {part.ranks}: give both, the rank from 0 to {part.ranks - 1}")


def check_ranks(section: StreamSection, ranks: int) -> None:
    if section.rows_per_step % ranks:
        raise ValueError(
            f"trainer.stream.rows_per_step {section.rows_per_step} is no multiple of {ranks} ranks"
        )


MAIN = ""
"""Name of the source of a stream that has but one; the run's own corpus where several are mixed."""


def source_key(seed: int, name: str) -> Keys:
    """What a source's order and masks are drawn from, whatever it is mixed with."""
    return derive(root(seed), xxhash.xxh3_64_intdigest(name.encode())) if name else root(seed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Rows of one corpus in a mixture."""

    name: str = MAIN
    block_rows: Ints
    weight: float = 1.0
    """Rows drawn from it, against the weights of the others."""

    @property
    def num_rows(self) -> int:
        return int(self.block_rows.sum())

    def blocks(self) -> str:
        """Fingerprint of the sizes of its blocks: with the seed, all that its order hangs on."""
        return xxhash.xxh3_64_hexdigest(np.ascontiguousarray(self.block_rows, "<i8").data)


CYCLE = 4096
"""Rows in which every source comes as often as its weight says: weights are kept to 1 part in 4,096."""


class Mixture:
    """Which source each position draws from, and how many rows the source gave before."""

    def __init__(self, sources: Sequence[Source], seed: int) -> None:
        self.counts_M = apportioned({source.name: source.weight for source in sources})
        self._key = derive(root(seed), 2**63)
        self._cycle = lru_cache(4)(self._drawn)

    def at(self, position_P: Ints) -> tuple[Ints, Ints]:
        """Number of the source, and index among its rows."""
        if len(self.counts_M) == 1:
            return np.zeros_like(position_P), position_P
        cycle_P, turn_P = np.divmod(position_P, CYCLE)
        source_P, index_P = np.empty_like(position_P), np.empty_like(position_P)
        for cycle in np.unique(cycle_P).tolist():
            here = cycle_P == cycle
            sources, indices = self._cycle(cycle)
            source_P[here], index_P[here] = sources[turn_P[here]], indices[turn_P[here]]
        return source_P, cycle_P * self.counts_M[source_P] + index_P

    def taken(self, position: int) -> Ints:
        """[M]: rows of each source before a position."""
        if len(self.counts_M) == 1:
            return np.array([position])
        cycle, turn = divmod(position, CYCLE)
        begun_M = np.bincount(self._cycle(cycle)[0][:turn], minlength=len(self.counts_M))
        return cycle * self.counts_M + begun_M

    def _drawn(self, cycle: int) -> tuple[Ints, Ints]:
        """[CYCLE]: the source of each turn, and how many turns of the cycle it had before."""
        labels = np.repeat(np.arange(len(self.counts_M)), self.counts_M)
        sources = labels[permutation(derive(self._key, cycle), CYCLE)]
        indices = np.empty_like(sources)
        for source, count in enumerate(self.counts_M.tolist()):
            indices[sources == source] = np.arange(count)
        return sources, indices


def apportioned(weights: Mapping[str, float]) -> Ints:
    """[M]: turns of a cycle, by largest remainder.

    >>> apportioned({"pairs": 3.0, "edits": 1.0}).tolist()
    [3072, 1024]
    """
    for name, weight in weights.items():
        if not weight > 0 or weight * CYCLE < sum(weights.values()):
            raise ValueError(
                f"source {name!r} has weight {weight} of {sum(weights.values())}; give each source at least "
                f"1 part in {CYCLE}, or leave it out"
            )
    exact = np.array([*weights.values()]) * (CYCLE / sum(weights.values()))
    counts_M = np.floor(exact).astype(np.int64)
    counts_M[np.argsort(counts_M - exact, kind="stable")[: CYCLE - counts_M.sum()]] += 1
    return counts_M


class Taken(NamedTuple):
    """Rows of a step; all [B]."""

    source_B: Ints
    epoch_B: Ints
    sequence_B: Ints
    """Number of a row in the order of its source's shards."""


AHEAD_ROWS = 2048
"""Rows whose places are worked out together: 0.2 us each, where a step of 64 alone costs 1 us a row."""


class Walk:
    """An iterator over the steps of one process, without end unless ``epochs`` are counted."""

    def __init__(
        self, sources: Sequence[Source], section: StreamSection, part: Part, *, epochs: int | None = None
    ) -> None:
        check_part(part)
        check_ranks(section, part.ranks)
        if epochs is not None and part.ranks > 1:
            raise ValueError(
                f"{epochs} epochs end for some of {part.ranks} ranks a step before the others, which would "
                "wait for them; count steps, or read with ranks=1"
            )
        if epochs is not None and len(sources) > 1:
            raise ValueError(
                f"{len(sources)} sources are mixed, whose epochs end at different rows; count steps instead "
                f"of {epochs} epochs"
            )
        self._sources = sources
        self._mixture = Mixture(sources, section.seed)
        self._num_rows_M = np.array([source.num_rows for source in sources])
        self._facts = {source.name: facts(source) for source in sources}
        self._section = section
        self._part = part
        self._stop = None if epochs is None else epochs * int(self._num_rows_M[0])
        self._order = lru_cache(2 * len(sources))(self._opened)
        self._seek(0, np.zeros(len(sources), np.int64))

    def _opened(self, source: int, epoch: int) -> EpochOrder:
        found = self._sources[source]
        return EpochOrder(found.block_rows, self._section, epoch, name=found.name)

    def _seek(self, position: int, before_M: Ints) -> None:
        self._at = self._ahead_at = position
        """Where the next step of worker 0 begins, and the next that is to be worked out."""
        self._before_M = before_M
        """Rows of each source that were taken before position 0."""
        self._steps: deque[Taken] = deque()
        self._num_ahead = 0

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Taken:
        taken = self.peek()
        if taken is None:
            raise StopIteration
        self.advance()
        return taken

    def peek(self) -> Taken | None:
        """The next step, which is not taken yet; None behind the last epoch."""
        if not self._steps:
            self.look_ahead()
        return self._steps[0] if self._steps else None

    def advance(self) -> None:
        """The step has been taken: a state goes on behind it."""
        self._num_ahead -= len(self._steps.popleft().sequence_B)
        self._at += self._part.workers * self._section.rows_per_step

    @property
    def num_ahead(self) -> int:
        """Rows worked out and not taken yet."""
        return self._num_ahead

    def look_ahead(self) -> Taken:
        """Work out the steps behind those that are worked out; none behind the last epoch."""
        part, step = self._part, self._section.rows_per_step
        rows = min(AHEAD_ROWS * part.ranks, int(self._num_rows_M.max()))
        num_steps = max(1, rows // step)
        first_K = self._ahead_at + step * (part.worker + part.workers * np.arange(num_steps))
        position_KB = first_K[:, None] + np.arange(part.rank, step, part.ranks)
        self._ahead_at += num_steps * part.workers * step
        if self._stop is not None:
            position_KB = position_KB[position_KB < self._stop]
        taken = self._places(position_KB.reshape(-1))
        width = step // part.ranks
        for first in range(0, len(taken.sequence_B), width):
            self._steps.append(Taken(*(column[first : first + width] for column in taken)))
        self._num_ahead += len(taken.sequence_B)
        return taken

    def _places(self, position_P: Ints) -> Taken:
        source_P, index_P = self._mixture.at(position_P)
        epoch_P, place_P = np.divmod(index_P + self._before_M[source_P], self._num_rows_M[source_P])
        sequence_P = np.empty_like(place_P)
        for source in np.unique(source_P).tolist():
            for epoch in np.unique(epoch_P[source_P == source]).tolist():
                here = (source_P == source) & (epoch_P == epoch)
                sequence_P[here] = self._order(source, epoch).sequences(place_P[here])
        return Taken(source_P, epoch_P, sequence_P)

    def state(self) -> State:
        """JSON from which any number of ranks and workers goes on behind the last step."""
        return self.state_after(0)

    def state_after(self, num_steps: int) -> State:
        """The state so many steps on, of all ranks and workers together."""
        position = self._at + num_steps * self._section.rows_per_step
        if self._stop is not None:
            position = min(position, self._stop)
        taken_M = self._before_M + self._mixture.taken(position)
        return {
            "position": position,
            **self._section.model_dump(include=set(ORDER)),
            "sources": {
                source.name: {
                    **self._facts[source.name],
                    **dict(zip(("epoch", "row"), divmod(taken, rows), strict=True)),
                }
                for source, taken, rows in zip(
                    self._sources, taken_M.tolist(), self._num_rows_M.tolist(), strict=True
                )
            },
        }

    def seek(self, state: Mapping[str, Any], *, remix: bool = False) -> None:
        """Go to where a state was told; ``ValueError`` if it belongs to another order.

        ``remix``: other weights or other sources than the state's may go on. Each source that it knows goes
        on where it stood, a new one begins, and one that is left out is forgotten.
        """
        mine = self._facts
        saved = {
            name: {fact: found[fact] for fact in FACTS if fact in found}
            for name, found in state["sources"].items()
        }
        order = {name: state[name] for name in ORDER}
        expected = self._section.model_dump(include=set(ORDER))
        changed = [name for name in mine.keys() & saved.keys() if _rows(mine[name]) != _rows(saved[name])]
        if order != expected or changed or (mine != saved and not remix):
            advice = "resume with the packs and the trainer.stream settings of the run that saved it"
            raise ValueError(
                f"the saved state belongs to another order: {order | {'sources': saved}}, where this stream "
                f"has {expected | {'sources': mine}}; {advice}, or begin a new run"
            )
        reached_M = np.array(
            [self._reached(state["sources"].get(source.name), source) for source in self._sources]
        )
        position = int(state["position"]) if mine == saved else 0
        self._seek(position, reached_M - self._mixture.taken(position))

    @staticmethod
    def _reached(found: Mapping[str, Any] | None, source: Source) -> int:
        return int(found["epoch"]) * source.num_rows + int(found["row"]) if found else 0


State = dict[str, Any]
ORDER = ("seed", "lanes", "window_blocks")
"""Settings that the order depends on."""
FACTS = ("rows", "blocks", "weight")


def facts(source: Source) -> dict[str, Any]:
    """What of a source the order depends on."""
    return {"rows": source.num_rows, "blocks": source.blocks(), "weight": source.weight}


def _rows(found: Mapping[str, Any]) -> tuple[Any, ...]:
    return found["rows"], found["blocks"]
