"""The order in which a run sees sequences: a function of (seed, epoch) alone, never of ranks or workers.

Blocks are permuted and dealt to lanes; rows are shuffled inside a lane's window of a few blocks; lanes are
read in turn, and one that has ended is passed over. The surprising rule: nothing is materialised but the
windows under the cursor, so an epoch of any size begins, or resumes anywhere, in milliseconds.

Shapes: P positions asked for, L lanes, W windows of a lane.
"""

from __future__ import annotations

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
