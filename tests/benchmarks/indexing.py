"""What ``bench_index`` times of ours, each in a process of its own.

``python -m tests.benchmarks.indexing build BASE.npy TUNING.npy INDEX LISTS``, ``measure INDEX QUERIES.npy
EXACT.npy PROBESxRERANKED…`` and ``forget INDEX``.
"""

from __future__ import annotations

import json
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from retrieval import building, segments, tuning
from retrieval.index import Index
from retrieval.layouts import IndexConfig
from retrieval.recall import recall
from retrieval.segments import Effort
from tests.benchmarks import clustered
from tests.benchmarks.peer_index import THREADS, cpu_s, peak_mib, rate

CHANGED, ASKED, MOST_S = 10_000, 100_000, 2.0
STRANGE = 1_000_003
"""Ids are that many apart: nothing may take them for positions."""


def ids_of(num: int) -> segments.Ids:
    return np.arange(num, dtype=np.int64) * STRANGE


def build(base: Path, tuned_by: Path, out: Path, lists: int) -> dict[str, Any]:
    vectors_ND, queries_BD = np.load(base, mmap_mode="r"), np.load(tuned_by)
    config = IndexConfig(kind="ivf_pq", lists=lists)
    began, used = time.perf_counter(), cpu_s()
    segment = building.build(ids_of(len(vectors_ND)), np.asarray(vectors_ND), config, threads=THREADS)
    found = tuning.tuned(segment, queries_BD, config, threads=THREADS)
    out.write_bytes(found.segment)
    return {
        **found.facts,
        "build_s": round(time.perf_counter() - began),
        "build_cpu_s": round(cpu_s() - used),
        "build_peak_mib": peak_mib(),
    }


def measure(path: Path, queries: Path, exact: Path, settings: list[str]) -> list[dict[str, Any]]:
    index = Index.open([path], threads=THREADS)
    queries_BD, exact_BK = np.load(queries), np.load(exact) * STRANGE
    found = []
    for setting in settings:
        probes, reranked = map(int, setting.split("x"))
        trying = index.trying(Effort(probes=probes, reranked=reranked))
        ids_BK = trying.search(queries_BD, exact_BK.shape[1]).ids
        rates = {
            f"qps_{batch}": round(rate(partial(trying.search, k=10), queries_BD, batch), 1)
            for batch in (1, 256)
        }
        found.append(
            {
                "setting": setting,
                "recall": round(recall(ids_BK, exact_BK), 4),
                **rates,
                "peak_mib": peak_mib(),
            }
        )
    return found


def forget(path: Path) -> dict[str, Any]:
    """Take ids out, put others in, and ask for what is gone: with its own vectors, and with others."""
    index = Index.open([path], threads=THREADS)
    every = index.live_ids
    gone = every[:: len(every) // CHANGED][:CHANGED]
    own_BD, new_ND = index.vectors(gone), clustered.drawn(CHANGED, 3)
    began = time.perf_counter()
    index = index.removing(gone).adding(every.max() + 1 + np.arange(CHANGED), new_ND)
    took = time.perf_counter() - began
    queries_BD = np.concatenate([own_BD, new_ND, clustered.drawn(ASKED - 2 * CHANGED, 4)])
    ids_BK = index.search(queries_BD, 10).ids
    returned = int(np.isin(ids_BK, gone).sum())
    if returned or took > MOST_S:
        raise AssertionError(f"{took:.2f} s to forget and to add; {returned} answers held what was removed")
    return {
        "removed_and_added": 2 * CHANGED,
        "seconds": round(took, 3),
        "queries": len(queries_BD),
        "removed_returned": returned,
        "added_found": round(float((ids_BK[CHANGED : 2 * CHANGED, 0] > every.max()).mean()), 4),
    }


def main() -> None:
    mode, *words = sys.argv[1:]
    paths = [Path(word) for word in words]
    if mode == "build":
        told: Any = build(*paths[:3], int(words[3]))
    elif mode == "measure":
        told = measure(*paths[:3], words[3:])
    else:
        told = forget(paths[0])
    sys.stdout.write("\n" + json.dumps(told) + "\n")


if __name__ == "__main__":
    main()
