"""Vectors of a real encoder: crops of openclipart's pictures, by the offline encoder and its projection.

A picture gives many squares, from two fifths to all of its shorter side, so that near neighbors are other
crops of one picture, or of pictures alike. Every tenth picture is no member at all: its crops are the
queries: every other picture's choose settings, the rest are reported.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from infra.telemetry import Bar
from pipeline.searching import members, opening
from pipeline.searching.shelf import Shelf
from retrieval.searching import Searcher
from retrieval.segments import Floats
from tests.benchmarks import bench_pairs
from tests.benchmarks.clustered import REPORTED, SEED, TUNING
from tokenizer_service import images, sizes

PICTURES, HELD_OUT = 600, 10
"""Of so many pictures one in ten is asked with."""
LEAST_SIDE = 0.4
BATCH, THREADS = 64, 2


def stored(folder: Path, num: int) -> Path:
    """``num`` members as a .npy file, and beside it ``queries-1.npy`` and ``queries-2.npy``, made once."""
    base = folder / f"crops-{num}.npy"
    if base.exists():
        return base
    corpus = bench_pairs.corpus_of("openclipart")
    version = corpus.newest()
    table = members.read(corpus, version)
    shelf = Shelf.of(corpus, version, table)
    torch.set_num_threads(THREADS)
    searcher = opening.searcher(THREADS, of=opening.files(corpus, version))
    rows = np.arange(0, table.num_rows, -(-table.num_rows // PICTURES))
    of_member = np.arange(len(rows)) % HELD_OUT != 0
    each = -(-num // int(of_member.sum()))
    found: dict[int, list[Floats]] = {0: [], TUNING: [], REPORTED: []}
    bar = Bar("crops", total=len(rows), unit="pictures")
    for place, row in enumerate(rows.tolist()):
        stream = 0 if of_member[place] else (TUNING, REPORTED)[place // HELD_OUT % 2]
        found[stream].append(vectors(searcher, shelf.image(row), row, each))
        bar.advance(1)
    for stream in (TUNING, REPORTED):
        np.save(folder / f"queries-{stream}.npy", np.concatenate(found[stream]))
    part = base.with_suffix(".part.npy")
    np.save(part, np.concatenate(found[0])[:num])
    part.rename(base)
    return base


def vectors(searcher: Searcher, jpeg: bytes, row: int, num: int) -> Floats:
    squares = [*crops(images.decode(jpeg), row, num, searcher.side)]
    parts = [np.stack(squares[at : at + BATCH]) for at in range(0, num, BATCH)]
    return np.concatenate([searcher.images(part) for part in parts])


def crops(pixels_HWC: NDArray[np.uint8], row: int, num: int, side: int) -> Iterator[NDArray[np.uint8]]:
    rng = np.random.default_rng([SEED, row])
    height, width = pixels_HWC.shape[:2]
    least = math.ceil(side / sizes.MAX_ENLARGEMENT)
    for _ in range(num):
        edge = max(least, round(min(height, width) * rng.uniform(LEAST_SIDE, 1)))
        top, left = rng.integers(0, height - edge + 1), rng.integers(0, width - edge + 1)
        yield sizes.fit_square(np.ascontiguousarray(pixels_HWC[top : top + edge, left : left + edge]), side)
