"""Pictures beside what an image tokenizer makes of them: measured one batch at a time.

The surprising rule: nothing grows with the pictures. Sums, moments and counts are kept, and of the pictures
themselves only the few that a page shows.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from pipeline import captions
from tokenizer_service import coding, frechet, metrics
from tokenizer_service.coding import Numerics
from tokenizer_service.frechet import Moments
from tokenizer_service.metrics import Tally
from tokenizer_service.vq import VQ

Pixels = NDArray[np.uint8]
Network = Callable[[Pixels], NDArray[np.float32]]
"""Features [B, D] of images [B, H, W, 3]."""

PICKED = 8
"""Pairs of each kind that are shown."""
BIN_DB, BINS = 1.0, 100
"""Of the histogram of PSNR; the last holds what was drawn without error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    name: str
    groups: tuple[str, ...]
    """Categories that it counts in."""
    may_be_shown: bool
    pixels: Pixels
    """[side, side, 3]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    name: str
    psnr_db: float
    ssim: float
    sides: tuple[Pixels, Pixels] | None
    """True and drawn; None where no licence lets it be shown."""


def _best(pair: Pair) -> tuple[object, ...]:
    return (-pair.psnr_db, pair.name)


def _worst(pair: Pair) -> tuple[object, ...]:
    return (pair.psnr_db, pair.name)


def _by_lot(pair: Pair) -> tuple[object, ...]:
    return (captions.digest("picture", pair.name),)


ORDERS: Mapping[str, Callable[[Pair], tuple[object, ...]]] = {
    "random": _by_lot,
    "worst": _worst,
    "best": _best,
}
"""Which pairs are kept, the first first: by their names, never by the order they came in."""


@dataclass(slots=True)
class Measured:
    counts_K: NDArray[np.int64]
    """How often each code was chosen."""
    all: Tally = field(default_factory=Tally)
    groups: dict[str, Tally] = field(default_factory=dict)
    histogram: NDArray[np.int64] = field(default_factory=lambda: np.zeros(BINS, np.int64))
    picked: dict[str, list[Pair]] = field(default_factory=lambda: {name: [] for name in ORDERS})
    moments: dict[str, tuple[Moments, Moments]] = field(default_factory=dict)
    """By network, of true and of drawn pictures."""

    def add(self, batch: Sequence[Picture], seen_BHWC: Pixels) -> None:
        true_BHWC = np.stack([picture.pixels for picture in batch])
        psnr_B = metrics.psnr_each(true_BHWC, seen_BHWC)
        ssim_B = metrics.ssim_each(true_BHWC, seen_BHWC)
        self.all.add(psnr_B, ssim_B)
        bins_B = np.minimum(psnr_B / BIN_DB, BINS - 1).astype(np.int64)
        self.histogram += np.bincount(bins_B, minlength=BINS)
        for place, picture in enumerate(batch):
            for name in picture.groups:
                tally = self.groups.setdefault(name, Tally())
                tally.add(psnr_B[place : place + 1], ssim_B[place : place + 1])
        pairs = [
            Pair(
                name=picture.name,
                psnr_db=min(float(psnr), metrics.MAX_PSNR_DB),
                ssim=float(ssim),
                sides=(picture.pixels, seen_HWC) if picture.may_be_shown else None,
            )
            for picture, seen_HWC, psnr, ssim in zip(batch, seen_BHWC, psnr_B, ssim_B, strict=True)
        ]
        for name, order in ORDERS.items():
            self.picked[name] = sorted([*self.picked[name], *pairs], key=order)[:PICKED]

    def look(self, name: str, true_BD: NDArray[np.float32], seen_BD: NDArray[np.float32]) -> None:
        """What a network saw in a batch."""
        empty = functools.partial(frechet.empty, true_BD.shape[1])
        true, seen = self.moments.setdefault(name, (empty(), empty()))
        true.add(true_BD)
        seen.add(seen_BD)

    def distances(self) -> dict[str, float | None]:
        """None of a single picture, which has no covariance."""
        return {
            name: frechet.distance(true, seen) if true.count > 1 else None
            for name, (true, seen) in self.moments.items()
        }


def measure(
    pictures: Iterable[Picture], model: VQ, *, networks: Mapping[str, Network], numerics: Numerics
) -> Measured:
    """All pictures have one side; each is encoded and drawn again."""
    size = model.config.codebook_size
    measured = Measured(counts_K=np.zeros(size, np.int64))
    for batch in batches(pictures, numerics.batch_images):
        true_BHWC = np.stack([picture.pixels for picture in batch])
        codes_BT = coding.encode_images(model, true_BHWC, numerics=numerics)
        seen_BHWC = coding.decode_codes(model, codes_BT, numerics=numerics)
        measured.counts_K += metrics.code_counts(codes_BT, size)
        measured.add(batch, seen_BHWC)
        for name, network in networks.items():
            measured.look(name, network(true_BHWC), network(seen_BHWC))
    return measured


def batches(pictures: Iterable[Picture], size: int) -> Iterator[list[Picture]]:
    left = iter(pictures)
    while batch := list(islice(left, size)):
        yield batch
