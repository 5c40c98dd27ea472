"""Blocks of many packed shards, by number: on this disk, or fetched from a store as they are needed.

A block is verified once a process, at first touch. Shapes: N blocks.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from infra.artifact import Corrupt, check_part
from infra.copies import open_path
from infra.pieces import Piece, Pieces, PiecesSection
from infra.storage import LocalStore, Store
from pipeline import shards
from pipeline.shards import Block, BlockInfo, ShardInfo

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """A shard as a manifest lists it; the order of the shards numbers blocks and rows."""

    store: Store
    name: str
    info: ShardInfo
    revoked: Collection[str] = frozenset()
    """Uids that are blanked as it is read."""

    @staticmethod
    def file(path: Path, info: ShardInfo) -> Shard:
        return Shard(store=LocalStore(str(path.absolute().parent)), name=path.name, info=info)

    @property
    def where(self) -> str:
        return self.store.where(self.name)

    @property
    def is_local(self) -> bool:
        return isinstance(self.store, LocalStore)


def block_rows(packs: Iterable[ShardInfo]) -> Ints:
    """[N]: rows of each block."""
    return np.array([block["rows"] for info in packs for block in info["blocks"]], np.int64)


class Blocks:
    """Open in one process; ``keep`` blocks stay parsed, and what is revoked is not in them."""

    def __init__(self, packs: Sequence[Shard], *, keep: int, pieces: PiecesSection | None = None) -> None:
        for shard in packs:
            shards.check_format(shard.info, shard.where)
        self._shards = packs
        self._keep = max(keep, 1)
        num_blocks = np.array([len(shard.info["blocks"]) for shard in packs], np.int64)
        self._shard_of = np.repeat(np.arange(len(packs)), num_blocks)
        self._first = np.cumsum(num_blocks) - num_blocks
        self._open: dict[int, Block] = {}
        self._expected: set[int] = set()
        self._files: dict[int, pa.Buffer] = {}
        self._verified = bytearray(len(self._shard_of))
        are_local = all(shard.is_local for shard in packs)
        self._pieces = None if are_local else Pieces(pieces or PiecesSection())

    @property
    def are_local(self) -> bool:
        return self._pieces is None

    def __len__(self) -> int:
        return len(self._shard_of)

    def block(self, number: int) -> Block:
        """Raises ``Corrupt``, naming the block, if its bytes are not those that were written."""
        found = self._open.get(number)
        if found is None:
            if len(self._open) >= self._keep:
                del self._open[next(iter(self._open))]  # the oldest: a window is read once, and left behind
            found = self._open[number] = self._read(number)
        return found

    def of(self, numbers: Sequence[int]) -> list[Block]:
        """The block of each number."""
        held = self._open.get
        return [held(number) or self.block(number) for number in numbers]

    def expect(self, numbers: Iterable[int]) -> None:
        """They will be asked for, in this order; what is not on this disk is fetched ahead."""
        if self._pieces is not None:
            new = [number for number in numbers if number not in self._open and number not in self._expected]
            self._expected.update(new)
            places = [self._place(number) for number in new]
            self._pieces.expect(_piece(*place) for place in places if not place[0].is_local)

    def close(self) -> None:
        if self._pieces is not None:
            self._pieces.close()

    def _place(self, number: int) -> tuple[Shard, int, BlockInfo]:
        shard = self._shards[self._shard_of[number]]
        block = number - int(self._first[self._shard_of[number]])
        return shard, block, shard.info["blocks"][block]

    def _read(self, number: int) -> Block:
        shard, block, place = self._place(number)
        if self._pieces is not None and not shard.is_local:
            self._expected.discard(number)
            data = self._pieces.get(_piece(shard, block, place))
            return shards.opened(data, shard.info, place).without(shard.revoked)
        data = self._mapped(int(self._shard_of[number])).slice(place["offset"], place["bytes"])
        if not self._verified[number]:
            check_part(data, place["bytes"], place["xxh3"], f"block {block} of {shard.where}")
            self._verified[number] = True
        return shards.opened(data, shard.info, place).without(shard.revoked)

    def _mapped(self, number: int) -> pa.Buffer:
        """A shard's file. None stays open: a mapping lives as long as an array that views it."""
        found = self._files.get(number)
        if found is None:
            shard = self._shards[number]
            with shard.store.local(shard.name) as file, pa.memory_map(str(open_path(file))) as mapped:
                found = mapped.read_buffer()
            if found.size != shard.info["bytes"]:
                raise Corrupt(
                    f"{shard.where} has {found.size} bytes, its manifest says {shard.info['bytes']}; "
                    "fetch it again"
                )
            if len(self._files) >= MAPPED:
                del self._files[next(iter(self._files))]
            self._files[number] = found
        return found


MAPPED = 4096
"""Shards that stay mapped: 16 GB of addresses; a process may have 65,530 mappings."""


def _piece(shard: Shard, block: int, place: BlockInfo) -> Piece:
    return Piece(
        title=f"block {block}",
        store=shard.store,
        name=shard.name,
        offset=place["offset"],
        size=place["bytes"],
        xxh3=place["xxh3"],
    )
