"""Neighbors for training, of 200,000 documents among themselves: rate, recall, who is cited how often.

Pictures and captions are vectors of ``clustered``, a caption near its picture. The index is built as the
pipeline builds it, once by inverted lists and once exact; blocks of 1,000 targets go to one process and to
two, and must be answered alike. PARDALIS_VECTORS sets the number. The peer is exact search in one pass of
FAISS, without any rule: what a neighbor list costs where nothing is refused.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import time
from collections.abc import Sequence
from typing import Any

import faiss
import numpy as np

from pipeline import numerics
from retrieval import building, exclude, tuning
from retrieval.align import document_vectors
from retrieval.encoders import normalised
from retrieval.exclude import NeighborConfig
from retrieval.index import Index
from retrieval.layouts import IndexConfig
from tests.benchmarks import clustered

NUM = int(os.environ.get("PARDALIS_VECTORS", "200000"))
BLOCK, SAMPLED, CONTRIBUTORS, COPIES = 1000, 2000, 2000, 0.02
"""A fiftieth of the documents are copies of the one before them: a duplicate group of two."""
CONFIG = NeighborConfig()


def run() -> dict[str, Any]:
    numerics.use_threads(1)
    world = drawn()
    config = IndexConfig(kind="ivf_flat" if NUM <= 500_000 else "ivf_pq")
    began = time.perf_counter()
    segment = building.build(world.ids, document_vectors(*world.sides.both), config)
    built = tuning.tuned(segment, tuning.sampled(*world.sides.both), config)
    took = time.perf_counter() - began
    index = Index.open([built.segment])
    rates, lists = {}, {}
    for workers in (1, 2):
        began = time.perf_counter()
        lists[workers] = joined(world, index, workers)
        rates[workers] = NUM / (time.perf_counter() - began)
    found = lists[1]
    alike = all(
        np.array_equal(getattr(found, name), getattr(lists[2], name)) for name in ("starts", "ids", "scores")
    )
    if not alike:
        raise AssertionError("two workers chose other neighbors than one")
    peer = plain(world)
    return {
        "unit": "documents/s given their neighbors, by two processes of one core each",
        "ours": round(rates[2], 1),
        "peer": round(peer, 1),
        "peer_name": "FAISS Flat, both sides, two threads, nothing refused",
        "ratio": round(rates[2] / peer, 3),
        "details": {
            "documents": NUM,
            "index": {**built.facts, "build_s": round(took)},
            "documents_per_s": {workers: round(rate, 1) for workers, rate in rates.items()},
            "the_same_for_one_and_two": alike,
            "recall_of_lists": recall(world, found),
            "list_length": {
                "mean": float(np.diff(found.starts).mean()),
                "least": int(np.diff(found.starts).min()),
            },
            "citations": citations(found),
        },
    }


class World:
    def __init__(self, sides: exclude.Sides, queries: exclude.Sides) -> None:
        rng = np.random.default_rng(7)
        self.sides, self.queries = sides, queries
        self.ids = np.arange(NUM, dtype=np.int64)
        groups = self.ids - (np.arange(NUM) % round(1 / COPIES) == 1)
        self.members = exclude.Members(
            ids=self.ids,
            groups=groups,
            contributors=rng.zipf(1.3, NUM) % CONTRIBUTORS,
            admissible=rng.random(NUM) < 0.9,
        )

    def targets(self, rows: slice) -> exclude.Targets:
        return exclude.Targets(ids=self.ids[rows], whole=self.sides[rows], queries=self.queries[rows])


def drawn() -> World:
    rng = np.random.default_rng(11)
    images_ND = clustered.drawn(NUM, 0)
    copies = np.flatnonzero(np.arange(NUM) % round(1 / COPIES) == 1)
    images_ND[copies] = images_ND[copies - 1]

    def near(vectors_ND: clustered.Floats, apart: float) -> clustered.Floats:
        noise_ND = rng.normal(size=vectors_ND.shape).astype(np.float32) / clustered.WIDTH**0.5
        return normalised(vectors_ND + apart * noise_ND)

    sides = exclude.Sides(images_ND, near(images_ND, 0.8))
    return World(sides, exclude.Sides(*(near(side_ND, 0.3) for side_ND in sides.both)))


def joined(world: World, index: Index, workers: int) -> exclude.Candidates:
    blocks = [slice(at, min(at + BLOCK, NUM)) for at in range(0, NUM, BLOCK)]
    chosen = functools.partial(of_block, world=world, index=index)
    if workers == 1:
        return together([chosen(block) for block in blocks])
    global _work  # noqa: PLW0603  # a fork inherits it; nothing of it is pickled
    _work = chosen
    with multiprocessing.get_context("fork").Pool(workers) as pool:
        return together(pool.map(forked, blocks, chunksize=1))


_work: Any = None


def forked(block: slice) -> exclude.Candidates:
    found: exclude.Candidates = _work(block)
    return found


def of_block(block: slice, *, world: World, index: Index) -> exclude.Candidates:
    return exclude.choose(world.targets(block), index, world.members, CONFIG)


def together(parts: Sequence[exclude.Candidates]) -> exclude.Candidates:
    lengths = np.concatenate([np.diff(part.starts) for part in parts])
    names = ("ids", "scores", "via")
    return exclude.Candidates(
        starts=np.concatenate([[0], np.cumsum(lengths)]),
        **{name: np.concatenate([getattr(part, name) for part in parts]) for name in names},
    )


def recall(world: World, found: exclude.Candidates) -> float:
    """Share of the candidates by exact search that the lists hold, for some targets from all over."""
    flat = building.build(world.ids, document_vectors(*world.sides.both), IndexConfig(kind="flat"))
    index, shares = Index.open([flat], threads=2), []
    starts = np.linspace(0, NUM - SAMPLED // 10, 10).astype(int)
    for at in starts:
        rows = slice(at, at + SAMPLED // 10)
        exact = exclude.choose(world.targets(rows), index, world.members, CONFIG)
        for number, target in enumerate(range(rows.start, rows.stop)):
            mine = found.ids[found.starts[target] : found.starts[target + 1]]
            theirs = exact.ids[exact.starts[number] : exact.starts[number + 1]]
            shares.append(np.isin(theirs, mine).mean() if len(theirs) else 1.0)
    return round(float(np.mean(shares)), 4)


def citations(found: exclude.Candidates) -> dict[str, float]:
    counts = np.sort(np.bincount(found.ids, minlength=NUM))
    places = np.arange(1, NUM + 1)
    return {
        "mean": float(counts.mean()),
        "median": float(np.median(counts)),
        "p99": float(np.percentile(counts, 99)),
        "most": int(counts[-1]),
        "never": float((counts == 0).mean()),
        "gini": round(float((2 * places - NUM - 1) @ counts / (NUM * counts.sum())), 4),
        "share_of_the_top_1_percent": round(float(counts[-NUM // 100 :].sum() / counts.sum()), 4),
    }


def plain(world: World) -> float:
    """Documents a second, of some of them."""
    faiss.omp_set_num_threads(2)
    index = faiss.IndexFlatIP(clustered.WIDTH)
    index.add(document_vectors(*world.sides.both))
    began = time.perf_counter()
    for side_ND in world.queries.both:
        index.search(side_ND[:SAMPLED], CONFIG.fetch)
    return SAMPLED / (time.perf_counter() - began)
