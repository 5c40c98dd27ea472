"""The training images of a corpus as an endless stream of squares, read shard by shard and never all at once.

Surprising rule: the order knows nothing of workers. Shards are dealt to a fixed number of *lanes*, each of
which shuffles a window of its own shards, and the images of a step come from all lanes in turn; a worker owns
whole lanes. So for every number of workers a step sees the same images, and where each lane stands is all
that has to be saved. A shard is read by one worker, or by several where there are fewer shards than lanes.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from infra.corpus import Corpus, Version
from infra.settings import Section
from pipeline import captions, refs, rows, schema
from pipeline.outcomes import KEPT
from pipeline.step import IMAGES, ROWS
from pipeline.tokenizer import emphasis
from pipeline.tokenizer.emphasis import Boxes, EmphasisConfig
from tokenizer_service import images, squares
from tokenizer_service.coding import Pixels
from tokenizer_service.descent import Batch
from tokenizer_service.sizes import MAX_ENLARGEMENT
from tokenizer_service.vq import Preprocessing

AHEAD = 2
"""Batches that are made while one is trained on."""
MOST_EMPTY = 1000
"""Windows without a training image after which a lane gives up."""


class StreamConfig(Section):
    """How the images of a corpus are streamed."""

    lanes: int = Field(8, ge=1)
    """Streams that are read side by side; the number of workers divides it, and it divides the batch."""
    window_images: int = Field(4096, ge=1)
    """Images shuffled together, over all lanes, as JPEGs: 400 MB of 100 kB each. At least a shard a lane."""
    smallest_crop: float = Field(0.8, gt=0, le=1)
    """Of the short side: a square's side is drawn between this and the whole."""
    threads: int = Field(2, ge=1)
    """That decode images, a worker."""
    emphasis: EmphasisConfig = EmphasisConfig()


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A shard, or one of several parts of it where there are more lanes than shards."""

    slot: str
    part: int
    parts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """An image as it is stored, and the epoch in which it is shown."""

    uid: str
    jpeg: bytes
    epoch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """How images are made squares."""

    side: int
    preprocessing: Preprocessing
    seed: int
    flip_share: float
    config: StreamConfig
    folder: Path | None = None
    """Keeps the boxes that are found."""


def deal(slots: Sequence[str], *, lanes: int, seed: int, epoch: int) -> list[list[Piece]]:
    """The pieces of each lane in an epoch, in their order; every image is in one of them.

    >>> [[piece.part for piece in lane] for lane in deal(["a"], lanes=2, seed=0, epoch=0)]
    [[0], [1]]
    """
    order = np.random.default_rng([seed, epoch]).permutation(sorted(slots)).tolist()
    parts = math.ceil(lanes / len(order))
    pieces = [Piece(slot=slot, part=part, parts=parts) for slot in order for part in range(parts)]
    return [pieces[lane::lanes] for lane in range(lanes)]


def windows(pieces: Sequence[Piece], images_of: dict[str, int], *, at_least: float) -> list[list[Piece]]:
    """Pieces one after the other, together until they hold ``at_least`` so many images."""
    found: list[list[Piece]] = [[]]
    held = 0.0
    for piece in pieces:
        if held >= at_least:
            found.append([])
            held = 0.0
        found[-1].append(piece)
        held += images_of[piece.slot] / piece.parts
    return found


class Lane:
    """Where one lane stands: its epoch, its window, and the place in that."""

    def __init__(self, corpus: Corpus, version: Version, *, number: int, shown: Shown) -> None:
        self.store, self.number, self.shown = corpus.store, number, shown
        self.rows = corpus.artifact(version, "split").shards
        self.images = corpus.artifact(version, "images").shards
        self.epoch = self.window = self.at = 0
        self.entries: list[Entry] | None = None

    def state(self) -> list[int]:
        return [self.epoch, self.window, self.at]

    def seek(self, state: Sequence[int]) -> None:
        self.epoch, self.window, self.at = state
        self.entries = None

    def take(self) -> Entry:
        for _ in range(MOST_EMPTY):
            if self.entries is None:
                self.entries = self._opened()
            if self.at < len(self.entries):
                self.at += 1
                return self.entries[self.at - 1]
            self._turn()
        raise ValueError("no training image is left to fit the image tokenizer on; see `pardalis status`")

    def _turn(self) -> None:
        last = self.window + 1 == len(self._windows())
        self.epoch, self.window = (self.epoch + 1, 0) if last else (self.epoch, self.window + 1)
        self.at, self.entries = 0, None

    def _windows(self) -> list[list[Piece]]:
        config = self.shown.config
        dealt = deal(list(self.rows), lanes=config.lanes, seed=self.shown.seed, epoch=self.epoch)
        counts = {slot: shard.counts.get(KEPT, 0) for slot, shard in self.rows.items()}
        return windows(dealt[self.number], counts, at_least=config.window_images / config.lanes)

    def _opened(self) -> list[Entry]:
        """The window's images in the order in which they are shown."""
        found = [
            entry
            for piece in self._windows()[self.window]
            for entry in self._read(piece.slot)[piece.part :: piece.parts]
        ]
        rng = np.random.default_rng([self.shown.seed, self.epoch, self.number, self.window])
        return [found[i] for i in rng.permutation(len(found))]

    def _read(self, slot: str) -> list[Entry]:
        table = rows.training(refs.of(self.store, self.rows[slot], ROWS))
        table = rows.with_images(table, refs.of(self.store, self.images[slot], IMAGES))
        columns = (table[column.name].to_pylist() for column in (schema.UID, schema.IMAGE))
        return [Entry(uid=uid, jpeg=jpeg, epoch=self.epoch) for uid, jpeg in zip(*columns, strict=True)]


class CorpusSquares:
    """Batches of a worker's lanes, made ahead in threads; a batch and the place after it go together."""

    def __init__(
        self, lanes: Sequence[Lane], shown: Shown, *, lane_images: int, find: emphasis.Find | None = None
    ) -> None:
        self.lanes, self.shown, self.lane_images, self.find = lanes, shown, lane_images, find
        self.decoders = ThreadPoolExecutor(shown.config.threads)
        # One thread, so that lanes are read in one order.
        self.maker = ThreadPoolExecutor(1)
        self.coming: deque[Future[tuple[Batch, dict[str, list[int]]]]] = deque()
        self.stands = self._stands()

    def __next__(self) -> Batch:
        while len(self.coming) < AHEAD:
            self.coming.append(self.maker.submit(self._made))
        batch, self.stands = self.coming.popleft().result()
        return batch

    def state(self) -> dict[str, list[int]]:
        """Where each of these lanes stands, by its number."""
        return self.stands

    def seek(self, state: Any) -> None:
        self._drain()
        for lane in self.lanes:
            lane.seek(state[str(lane.number)])
        self.stands = self._stands()

    def close(self) -> None:
        self._drain()
        self.maker.shutdown()
        self.decoders.shutdown()

    def _drain(self) -> None:
        for future in self.coming:
            if not future.cancel():
                future.exception()
        self.coming.clear()

    def _stands(self) -> dict[str, list[int]]:
        return {str(lane.number): lane.state() for lane in self.lanes}

    def _made(self) -> tuple[Batch, dict[str, list[int]]]:
        entries = [lane.take() for _ in range(self.lane_images) for lane in self.lanes]
        stands = self._stands()
        found = list(self.decoders.map(lambda entry: square(entry, self.shown, self.find), entries))
        boxes = [np.insert(boxes_N4, 0, row, axis=1) for row, (_, boxes_N4) in enumerate(found)]
        pixels = np.stack([pixels for pixels, _ in found])
        return Batch(images_BHWC=pixels, boxes_N5=np.concatenate(boxes).astype(np.float32)), stands


def square(entry: Entry, shown: Shown, find: emphasis.Find | None) -> tuple[Pixels, Boxes]:
    """A random square of an image, mirrored or not, and the boxes in it: the same whoever makes it."""
    rng = np.random.default_rng([shown.seed, entry.epoch, *captions.digest("square", entry.uid)])
    image_HWC = images.decode(entry.jpeg)
    height, width = image_HWC.shape[:2]
    short = min(height, width)
    least = max(shown.config.smallest_crop * short, shown.side / MAX_ENLARGEMENT)
    size = min(short, math.ceil(rng.uniform(min(least, short), short)))
    left, top = (int(rng.integers(room + 1)) for room in (width - size, height - size))
    flipped = rng.random() < shown.flip_share
    cut_HWC = image_HWC[top : top + size, left : left + size]
    pixels = squares.square(cut_HWC, shown.side, shown.preprocessing)
    boxes_N4 = emphasis.none() if find is None else find(entry.uid, image_HWC)
    boxes_N4 = emphasis.seen_in(boxes_N4, (left, top, size), side=shown.side, flipped=flipped)
    return np.ascontiguousarray(pixels[:, ::-1]) if flipped else pixels, boxes_N4


def check(config: StreamConfig, *, batch_images: int, ranks: int) -> None:
    """Refuse lanes that cannot be dealt to so many workers, or that do not share a batch evenly."""
    lanes = config.lanes
    if lanes % ranks or batch_images % lanes:
        raise ValueError(
            f"tokenizer.run.stream.lanes = {lanes} must be a multiple of the {ranks} workers and divide "
            f"tokenizer.image.fit.batch_images = {batch_images}; change one of them"
        )


def opened(
    corpus: Corpus,
    version: Version,
    shown: Shown,
    *,
    batch_images: int,
    rank: int,
    ranks: int,
) -> CorpusSquares:
    """A worker's share of the stream."""
    check(shown.config, batch_images=batch_images, ranks=ranks)
    lanes = shown.config.lanes
    mine = [Lane(corpus, version, number=number, shown=shown) for number in range(rank, lanes, ranks)]
    find = emphasis.finder(shown.config.emphasis, folder=shown.folder, rank=rank)
    return CorpusSquares(mine, shown, lane_images=batch_images // lanes, find=find)
