"""An index in many segments of the same lists, searched as one, against FAISS's IndexShards and one by one.

Members and queries are ``clustered``'s. All three have the same segments, probes, and candidates judged for
each neighbor asked for: as one that is of all segments, for the others of each. They ask for as many
neighbors as the choice of them does. One thread, 256 queries at a time, in turns, ROUNDS times; recall@10 is
against all vectors before any code.

PARDALIS_VECTORS sets the number (400,000), PARDALIS_SEGMENTS into how many segments (4, 16, 64).
"""

from __future__ import annotations

import itertools
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import faiss
import numpy as np

from infra.telemetry import say
from pipeline import numerics
from retrieval import building, layouts
from retrieval.exclude import NeighborConfig
from retrieval.families import one_by_one
from retrieval.index import Index
from retrieval.layouts import IndexConfig
from retrieval.recall import recall
from retrieval.segments import Effort, Floats, Ids, asking
from tests.benchmarks import clustered

NUM = int(os.environ.get("PARDALIS_VECTORS", "400000"))
SEGMENTS = tuple(map(int, os.environ.get("PARDALIS_SEGMENTS", "4,16,64").split(",")))
QUERIES, ROUNDS, K = 256, 3, 10
FETCH = NeighborConfig().fetch
EFFORT = Effort(probes=16, reranked=4)
Search = Callable[[Floats], Ids]


def run() -> dict[str, Any]:
    vectors_ND, queries_BD = clustered.drawn(NUM, 0), clustered.drawn(QUERIES, clustered.REPORTED)
    _, truth_BK = faiss.knn(queries_BD, vectors_ND, K, faiss.METRIC_INNER_PRODUCT)
    config = IndexConfig(kind="ivf_pq", probes=EFFORT.probes)
    trained = building.train(vectors_ND[:: max(1, NUM // 200_000)], config, num=NUM, threads=2)
    say(f"{NUM:,} vectors, {layouts.num_lists(NUM):,} lists")
    found = {}
    for pieces in SEGMENTS:
        edges = np.linspace(0, NUM, pieces + 1).astype(np.int64)
        segments = [
            building.merge([building.part(np.arange(a, b), vectors_ND[a:b], trained)], trained)
            for a, b in itertools.pairwise(edges)
        ]
        found[pieces] = in_turns(searches(segments), queries_BD, truth_BK)
        say(f"{pieces} segments: {found[pieces]}")
    most = found[SEGMENTS[-1]]
    return {
        "unit": f"queries/s for {FETCH} of {NUM} vectors in {SEGMENTS[-1]} segments, one core",
        "ours": most["as one"]["queries_per_s"],
        "peer": most["IndexShards"]["queries_per_s"],
        "peer_name": f"FAISS {faiss.__version__} IndexShards over the same segments",
        "ratio": most["as one"]["ratio"],
        "details": {"lists": layouts.num_lists(NUM), "probes": EFFORT.probes, "segments": found},
    }


def searches(segments: Sequence[bytes]) -> Mapping[str, Search]:
    segments = [asking(segment, EFFORT) for segment in segments]
    index = Index.open(segments)
    alive = [one.alive for one in index.segments]
    held = [faiss.deserialize_index(np.frombuffer(segment, np.uint8)) for segment in segments]
    shards = faiss.IndexShards(index.width, False, False)  # noqa: FBT003  # C++: one thread, ids as they are
    for one in held:
        shards.add_shard(one)
    return {
        "as one": lambda queries_BD: index.search(queries_BD, FETCH).ids,
        "one by one": lambda queries_BD: one_by_one(index.segments, queries_BD, FETCH, alive).ids,
        "IndexShards": lambda queries_BD: shards.search(queries_BD, FETCH)[1],
    }


def in_turns(asked: Mapping[str, Search], queries_BD: Floats, truth_BK: Ids) -> dict[str, Any]:
    """Medians of CPU time, and of ratios to IndexShards."""
    numerics.use_threads(1)
    recalls = {name: recall(search(queries_BD)[:, :K], truth_BK) for name, search in asked.items()}
    turns = [{name: seconds(search, queries_BD) for name, search in asked.items()} for _ in range(ROUNDS)]
    return {
        name: {
            "queries_per_s": round(QUERIES / statistics.median(turn[name] for turn in turns), 1),
            "ratio": round(statistics.median(turn["IndexShards"] / turn[name] for turn in turns), 2),
            f"recall@{K}": round(recalls[name], 4),
        }
        for name in asked
    }


def seconds(search: Search, queries_BD: Floats) -> float:
    began = time.process_time()
    search(queries_BD)
    return time.process_time() - began
