"""Batches of a stream, made in this process or by workers beside it, and where they stand.

What is saved counts the batches that were taken, not those that workers made ahead; so a run goes on with any
number of workers and ranks, and neither skips nor repeats a row. The surprising rule: arrays go through
nameless memory of the worker (``memfd``), and only its number through the queue. A message of some bytes is
whole or not there, so a worker that is killed while it sends leaves nobody waiting for the rest; and memory
without a name ends with the last process that has it.
"""

from __future__ import annotations

import functools
import itertools
import math
import mmap
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, Self, TypeVar

import numpy as np
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
        section = self._section
        loader: DataLoader[Any] = DataLoader(
            _Sent(self._stream, num_slots=section.prefetch + SPARE_SLOTS),
            batch_size=None,
            num_workers=section.workers,
            prefetch_factor=section.prefetch,
            timeout=section.timeout_s,
            multiprocessing_context=how_to_start(),
            generator=torch.Generator(),  # else it draws from that of dropout, which resuming put back
        )
        return map(functools.partial(self._received, {}), loader)

    def _received(self, slots: dict[tuple[int, int], mmap.mmap], parcel: _Parcel) -> T:
        where = (parcel.pid, parcel.slot)
        if where not in slots:
            slots[where] = _opened(parcel)
        sent = [
            torch.frombuffer(slots[where], dtype=dtype, count=math.prod(shape), offset=offset).view(shape)
            for dtype, shape, offset in parcel.arrays
        ]
        if self._device.type == "cuda":
            # Counts stay: nothing on the device reads them.
            sent = [
                one.pin_memory().to(self._device, non_blocking=True) if one.dim() > 1 else one for one in sent
            ]
        return self._stream.view.receive(sent)

    def state(self) -> State:
        """JSON from which any number of ranks and workers goes on behind the last batch taken."""
        return self._stream.state_after(self._taken)

    def seek(self, state: Mapping[str, Any], *, remix: bool = False) -> None:
        """Go there; what workers made ahead is dropped."""
        self.close()
        self._stream.load_state_dict(state, remix=remix)

    def close(self) -> None:
        """End the workers, and what fetches ahead. It stands where it stood, and may go on."""
        self._stream.load_state_dict(self.state())
        batches, self._batches, self._taken = self._batches, None, 0
        if isinstance(batches, Cursor):
            batches.close()


def how_to_start() -> Literal["fork", "spawn"]:
    """Of workers. A fork takes 0.1 s and a fresh process 4 s, but a process of Ray has threads of gRPC, and a
    lock that one of them holds at a fork is held in the worker for ever.
    """
    ray = sys.modules.get("ray")
    return "spawn" if ray is not None and ray.is_initialized() else "fork"


SPARE_SLOTS = 2
"""Beside one for each batch ahead: the one that is received, and the one that is made when it has been."""


@dataclass(frozen=True, slots=True)
class _Parcel:
    """Where a batch lies."""

    pid: int
    slot: int
    """File descriptor of the worker."""
    arrays: tuple[tuple[torch.dtype, tuple[int, ...], int], ...]
    """Type, shape and offset."""


def _opened(parcel: _Parcel) -> mmap.mmap:
    try:
        descriptor = os.open(f"/proc/{parcel.pid}/fd/{parcel.slot}", os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise RuntimeError(
            f"the worker (pid {parcel.pid}) that made a batch ended before it was read ({error}); resume the "
            "run"
        ) from None
    with os.fdopen(descriptor, "rb") as file:
        return mmap.mmap(file.fileno(), 0)


class _Sent(IterableDataset[_Parcel]):
    """What workers make of a stream: batches in as few bytes as hold them, in slots used in turns."""

    def __init__(self, stream: PackedStream[Any], *, num_slots: int) -> None:
        self._stream = stream
        self._num_slots = num_slots

    def __iter__(self) -> Iterator[_Parcel]:
        slots = itertools.cycle([_Slot() for _ in range(self._num_slots)])
        return (slot.filled(arrays) for slot, arrays in zip(slots, self._batches(), strict=False))

    def _batches(self) -> Iterator[tuple[NDArray[Any], ...]]:
        return self._stream.viewed(self._stream.view.send)


class _Slot:
    """Memory for a batch; as large as the largest that was put there."""

    def __init__(self) -> None:
        self._descriptor = -1
        self._memory: mmap.mmap | None = None

    def filled(self, arrays: Sequence[NDArray[Any]]) -> _Parcel:
        ends = list(
            itertools.accumulate((-(-array.nbytes // ALIGNED) * ALIGNED for array in arrays), initial=0)
        )
        if self._memory is None or len(self._memory) < ends[-1]:
            self._descriptor = os.memfd_create("pardalis-batch")  # the old one stays, for a batch under way
            os.ftruncate(self._descriptor, ends[-1])
            self._memory = mmap.mmap(self._descriptor, ends[-1])
        told = []
        for array, offset in zip(arrays, ends, strict=False):
            np.frombuffer(self._memory, array.dtype, array.size, offset)[:] = array.reshape(-1)
            told.append((getattr(torch, array.dtype.name), array.shape, offset))
        return _Parcel(os.getpid(), self._descriptor, tuple(told))


ALIGNED = 64
"""Bytes; the least that any device's copies like."""
