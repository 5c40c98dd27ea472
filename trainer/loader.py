"""Batches of a stream, made in this process or by workers beside it, and where they stand.

The surprising rule: what is saved counts the batches that were taken, not those that workers made ahead; so a
run goes on with any number of workers and ranks, and neither skips nor repeats a row.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Generic, Self, TypeVar

from pydantic import Field
from torch.utils.data import DataLoader

from infra.pieces import PiecesSection
from trainer.order import State
from trainer.stream import PackedStream

T = TypeVar("T")


class LoaderSection(PiecesSection):
    """``[trainer.loader]``: who makes the batches, how blocks are fetched. No part of a run's identity."""

    workers: int = Field(default=0, ge=0)
    """Processes that make batches beside each rank; 0: the rank does it between its steps."""
    prefetch: int = Field(default=2, ge=1)
    """Batches that each of them makes ahead."""
    timeout_s: float = Field(default=600, ge=0)
    """A worker that gives nothing for so long ends the run with an error; 0 waits for ever."""


class Loader(Generic[T]):
    """An iterator over the batches of a stream that can be saved, and set anywhere."""

    def __init__(
        self, stream: PackedStream[T], section: LoaderSection | None = None, *, pinned: bool = False
    ) -> None:
        self._stream = stream
        self._section = section or LoaderSection()
        self._pinned = pinned
        self._batches: Iterator[T] | None = None
        self._taken = 0

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        if self._batches is None:
            self._batches = self._begun()
        batch = next(self._batches)
        self._taken += 1
        return batch

    def _begun(self) -> Iterator[T]:
        workers = self._section.workers
        if not workers:
            return self._stream.cursor()
        loader: DataLoader[T] = DataLoader(
            self._stream,
            batch_size=None,
            num_workers=workers,
            prefetch_factor=self._section.prefetch,
            timeout=self._section.timeout_s,
            pin_memory=self._pinned,
        )
        return iter(loader)

    def state(self) -> State:
        """JSON from which any number of ranks and workers goes on behind the last batch taken."""
        return self._stream.state_after(self._taken)

    def seek(self, state: Mapping[str, Any], *, remix: bool = False) -> None:
        """Go there; what workers made ahead is dropped."""
        self.close()
        self._stream.load_state_dict(state, remix=remix)

    def close(self) -> None:
        """End the workers, and what fetches ahead."""
        batches, self._batches, self._taken = self._batches, None, 0
        if close := getattr(batches, "close", None):
            close()
