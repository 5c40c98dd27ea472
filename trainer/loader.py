"""Batches of a stream, made in this process or by workers beside it, and where they stand.

The surprising rule: what is saved counts the batches that were taken, not those that workers made ahead; so a
run goes on with any number of workers and ranks, and neither skips nor repeats a row.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Self, TypeVar

import torch
from numpy.typing import NDArray
from pydantic import Field
from torch.utils.data import DataLoader, IterableDataset

from infra.pieces import PiecesSection
from trainer.order import State
from trainer.stream import Cursor, PackedStream

T = TypeVar("T")
CPU = torch.device("cpu")


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
        self,
        stream: PackedStream[T],
        section: LoaderSection | None = None,
        *,
        device: torch.device = CPU,
    ) -> None:
        """``device`` is where batches of workers go: two bytes a token, from pinned memory."""
        self._stream = stream
        self._section = section or LoaderSection()
        self._device = device
        self._batches: Iterator[T] | None = None
        self._taken = 0

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        if self._batches is None:
            self._batches = self._by_workers() if self._section.workers else self._stream.cursor()
        batch = next(self._batches)
        self._taken += 1
        return batch

    def _by_workers(self) -> Iterator[T]:
        loader: DataLoader[Any] = DataLoader(
            _Sent(self._stream),
            batch_size=None,
            num_workers=self._section.workers,
            prefetch_factor=self._section.prefetch,
            timeout=self._section.timeout_s,
        )
        return map(self._received, loader)

    def _received(self, parcel: _Parcel) -> T:
        sent = [torch.from_numpy(array) for array in parcel.arrays]
        if self._device.type == "cuda":
            sent = [one.pin_memory().to(self._device, non_blocking=True) for one in sent]
        return self._stream.view.receive(sent)

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
        if isinstance(batches, Cursor):
            batches.close()


@dataclass(frozen=True, slots=True)
class _Parcel:
    """Arrays that go through the queue's pipe. As tensors they would go through shared memory, of which each
    costs 0.9 ms to open and to pass on; a batch of 133 kB takes 0.4 ms like this.
    """

    arrays: tuple[NDArray[Any], ...]


class _Sent(IterableDataset[_Parcel]):
    """What workers make of a stream: batches in as few bytes as hold them."""

    def __init__(self, stream: PackedStream[Any]) -> None:
        self._stream = stream

    def __iter__(self) -> Iterator[_Parcel]:
        return map(_Parcel, self._stream.viewed(self._stream.view.send))
