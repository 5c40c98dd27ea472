"""The order in which a run sees sequences: a function of (seed, epoch) alone, never of ranks or workers.

Blocks are permuted and dealt to lanes; rows are shuffled inside a lane's window of a few blocks; lanes are
read in turn, and one that has ended is passed over. The surprising rule: nothing is materialised but the
windows under the cursor, so an epoch of any size begins, or resumes anywhere, in milliseconds.

Shapes: B rows of a step, P positions asked for, L lanes, W windows of a lane.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, Self

import numpy as np
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

    def __init__(self, block_rows: Ints, section: StreamSection, epoch: int) -> None:
        key = derive(root(section.seed), epoch)
        self._key = derive(key, 1)
        self._block_rows = block_rows
        self._first_row = np.cumsum(block_rows) - block_rows
        self._window_blocks = section.window_blocks
        num_lanes = min(section.lanes, len(block_rows))
        blocks = permutation(derive(key, 0), len(block_rows))
        self._lanes = [blocks[lane::num_lanes] for lane in range(num_lanes)]
        self._turns = _Turns(np.array([block_rows[lane].sum() for lane in self._lanes]))
        self._ends = [self._window_ends(lane) for lane in self._lanes]
        self._windows: dict[int, tuple[int, Ints]] = {}

    def _window_ends(self, blocks: Ints) -> Ints:
        """[W]: rows of the lane up to the end of each window."""
        firsts = np.arange(0, len(blocks), self._window_blocks)
        return np.cumsum(np.add.reduceat(self._block_rows[blocks], firsts))

    def sequences(self, position_P: Ints) -> Ints:
        lane_P, index_P = self._turns.at(position_P)
        pairs = zip(lane_P.tolist(), index_P.tolist(), strict=True)
        return np.array([self._sequence(lane, index) for lane, index in pairs], np.int64)

    def _sequence(self, lane: int, index: int) -> int:
        first, rows = self._windows.get(lane, (0, NO_ROWS))
        if not first <= index < first + len(rows):
            first, rows = self._windows[lane] = self._shuffled(lane, index)
        return int(rows[index - first])

    def _shuffled(self, lane: int, index: int) -> tuple[int, Ints]:
        """The window of a lane that holds row ``index``: its first row, and its sequences in their order."""
        ends_W = self._ends[lane]
        window = int(np.searchsorted(ends_W, index, side="right"))
        blocks = self._lanes[lane][window * self._window_blocks :][: self._window_blocks]
        rows = np.concatenate([self._first_row[b] + np.arange(self._block_rows[b]) for b in blocks])
        key = derive(derive(self._key, lane), window)
        return int(ends_W[window]) - len(rows), rows[permutation(key, len(rows))]


NO_ROWS = np.zeros(0, np.int64)


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Which share of every step one process makes."""

    rank: int = 0
    ranks: int = 1
    worker: int = 0
    workers: int = 1


def check_ranks(section: StreamSection, ranks: int) -> None:
    if section.rows_per_step % ranks:
        raise ValueError(
            f"trainer.stream.rows_per_step {section.rows_per_step} is no multiple of {ranks} ranks"
        )


class Walk:
    """An endless iterator over the steps of one process, each the epochs and the sequences of its rows."""

    def __init__(self, block_rows: Ints, section: StreamSection, part: Part) -> None:
        check_ranks(section, part.ranks)
        self._num_rows = int(block_rows.sum())
        self._section = section
        self._part = part
        self._order = lru_cache(2)(partial(EpochOrder, block_rows, section))
        self._at = 0
        """Where the next step of worker 0 begins, counted through epochs."""

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> tuple[Ints, Ints]:
        part, step = self._part, self._section.rows_per_step
        position_B = self._at + part.worker * step + np.arange(part.rank, step, part.ranks)
        epoch_B, position_B = np.divmod(position_B, self._num_rows)
        epochs = np.unique(epoch_B).tolist()
        sequence_B = np.concatenate([self._order(e).sequences(position_B[epoch_B == e]) for e in epochs])
        self._at += part.workers * step
        return epoch_B, sequence_B

    def state(self) -> State:
        """JSON from which any number of ranks and workers goes on behind the last step."""
        return state_at(self._at, self._num_rows, self._section)

    def seek(self, state: Mapping[str, Any]) -> None:
        self._at = position_of(state, self._num_rows, self._section)


State = dict[str, Any]
ORDER = ("seed", "lanes", "window_blocks")
"""What the order depends on, beside the rows."""


def state_at(at: int, num_rows: int, section: StreamSection) -> State:
    """The state at a position that counts through epochs."""
    epoch, position = divmod(at, num_rows)
    order = section.model_dump(include=set(ORDER))
    return {"epoch": epoch, "position": position, "rows": num_rows, **order}


def position_of(state: Mapping[str, Any], num_rows: int, section: StreamSection) -> int:
    """Raises ValueError if the state belongs to another order."""
    expected = state_at(0, num_rows, section)
    saved = {name: state[name] for name in ("rows", *ORDER)}
    if any(saved[name] != expected[name] for name in saved):
        raise ValueError(
            f"the saved state belongs to another order: {saved}, where this stream has {expected}; resume "
            "with the packs and the trainer.stream settings of the run that saved it, or begin a new run"
        )
    return int(state["epoch"]) * num_rows + int(state["position"])
