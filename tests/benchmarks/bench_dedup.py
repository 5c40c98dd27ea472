"""All near pairs of a million perceptual hashes, and of 200,000 feature vectors, and how many are missed.

Each size runs in a process of its own, so that its peak memory is its own. Ours takes one core, though the
step may have more; FAISS compares each with each on two, for a sample of the rows: its time is extrapolated
from that, and recall is counted on it. Hashes are uniform, vectors lie in 2,000 clouds. A twentieth of the
rows are copies: changed by 0 to 8 bits, or turned a little. ``series`` and ``alike`` are the worst that can
come: copies of one picture in other bytes, and features that all point one way.
"""

from __future__ import annotations

import json
import math
import resource
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from pipeline import numerics
from pipeline.duplicates import DuplicateConfig
from pipeline.likeness import hamming, lookalikes, perceptual, semantic, signatures
from pipeline.likeness.grouping import connected
from pipeline.likeness.hamming import Hashes
from pipeline.likeness.lookalikes import Looks
from pipeline.likeness.signatures import Signatures
from retrieval.encoders import normalised

RADIUS, THRESHOLD, WIDTH, CLOUDS = 8, 0.92, 384, 2000
SIZES = {
    "hashes": (100_000, 300_000, 1_000_000),
    "vectors": (50_000, 100_000, 200_000),
    "series": (1000, 3000, 10_000),
    "alike": (5000, 10_000, 20_000),
}
QUERIES, BATCH = 2000, 256
MULTI_HASH_QUERIES = 20_000
CORES = 2
LOADED_MB = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
"""Of the libraries alone."""


def hashes(num: int) -> Hashes:
    rng = np.random.default_rng(0)
    found_N = rng.integers(0, 2**64, num, dtype=np.uint64)
    copies = num // 20
    bits = rng.permuted(np.tile(np.arange(64, dtype=np.uint64), (copies, 1)), axis=1)[:, :RADIUS]
    flips = np.where(np.arange(RADIUS) < np.arange(copies)[:, None] % (RADIUS + 1), np.uint64(1) << bits, 0)
    found_N[-copies:] = found_N[:copies] ^ np.bitwise_or.reduce(flips.astype(np.uint64), axis=1)
    return found_N


def vectors(num: int) -> NDArray[np.float32]:
    rng = np.random.default_rng(0)
    centers = rng.normal(size=(CLOUDS, WIDTH)).astype(np.float32)
    found_ND = centers[rng.integers(0, CLOUDS, num)]
    found_ND += rng.normal(0, 0.6, (num, WIDTH)).astype(np.float32)
    copies = num // 20
    found_ND[-copies:] = found_ND[:copies] + rng.normal(0, 0.3, (copies, WIDTH))
    return normalised(found_ND)


def sampled(num: int) -> NDArray[np.int64]:
    """Rows that are asked about: half of them copies."""
    rng = np.random.default_rng(1)
    copies = rng.choice(np.arange(num - num // 20, num), QUERIES // 2, replace=False)
    return np.concatenate([copies, rng.choice(num - num // 20, QUERIES // 2, replace=False)])


def met(queries: NDArray[np.int64], limits: Any, rows: Any) -> set[tuple[int, int]]:
    asked = np.repeat(queries, np.diff(limits.astype(np.int64)))
    pairs = zip(asked.tolist(), rows.tolist(), strict=True)
    return {(max(pair), min(pair)) for pair in pairs if pair[0] != pair[1]}


def of_hashes(num: int) -> dict[str, Any]:
    found_N = hashes(num)
    numerics.use_threads(1)
    timed = Clock()
    pairs = {
        pair
        for some in hamming.pairs(found_N, RADIUS, hamming.Looked(threads=1))
        for pair in zip(*map(np.ndarray.tolist, some), strict=True)
    }
    ours = {**timed.read(), "pairs": len(pairs)}
    queries, codes = sampled(num), found_N.view(np.uint8).reshape(-1, 8)
    numerics.use_threads(CORES)
    flat = faiss.IndexBinaryFlat(64)
    flat.add(codes)
    timed = Clock()
    limits, _, rows = flat.range_search(codes[queries], RADIUS + 1)  # FAISS finds what is nearer than this
    exact = timed.extrapolated(num, QUERIES)
    return {**ours, **exact, **recall(pairs, met(queries, limits, rows), queries), **multi_hash(codes)}


def multi_hash(codes: NDArray[np.uint8]) -> dict[str, float]:
    """FAISS's own multi-index, with keys of the same size: seconds for all."""
    index = faiss.IndexBinaryMultiHash(64, 3, 21)
    index.nflip = 2
    timed = Clock()
    index.add(codes)
    adding = timed.read()["seconds"]
    timed = Clock()
    index.range_search(codes[:MULTI_HASH_QUERIES], RADIUS + 1)
    return {"multi_hash_s": round(adding + timed.extrapolated(len(codes), MULTI_HASH_QUERIES)["exact_s"], 1)}


def of_vectors(num: int) -> dict[str, Any]:
    found_ND = vectors(num)
    numerics.use_threads(1)
    timed = Clock()
    told = semantic.pairs(found_ND, (0, num), THRESHOLD)
    ours = {**timed.read(), "pairs": len(told)}
    numerics.use_threads(CORES)
    flat = faiss.IndexFlatIP(WIDTH)
    flat.add(found_ND)
    queries = sampled(num)
    timed = Clock()
    limits, _, rows = flat.range_search(found_ND[queries], THRESHOLD)
    exact = timed.extrapolated(num, QUERIES)
    wanted, first_N = met(queries, limits, rows), connected(told, num)
    in_one = {(late, early) for late, early in wanted if first_N[late] == first_N[early]}
    mine = set(map(tuple, told.tolist())) | in_one
    return {**ours, **exact, **recall(mine, wanted, queries)}


def of_series(num: int) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    picture = np.kron(rng.integers(0, 256, (12, 12, 3)), np.ones((6, 6, 1), np.int64))[:64, :64]
    parts = []
    for start in range(0, num, BATCH):
        noise = rng.integers(-9, 10, (min(BATCH, num - start), *picture.shape))
        copies = list(np.clip(picture + noise, 0, 255).astype(np.uint8))
        parts.append((signatures.measured(copies), *perceptual.hashes(copies)))
    measured, upright, mirrored = zip(*parts, strict=True)
    looks = Looks(
        signatures=Signatures(
            structure_NGGF=np.concatenate([one.structure_NGGF for one in measured]),
            tint_NGGC=np.concatenate([one.tint_NGGC for one in measured]),
        ),
        hashes_N=np.concatenate(upright),
        mirrored_N=np.concatenate(mirrored),
    )
    numerics.use_threads(1)
    counts: Counter[str] = Counter()
    timed = Clock()
    told = lookalikes.pairs(looks, DuplicateConfig(), (0, num), counts)
    return {**timed.read(), "groups": len(set(connected(told, num).tolist())), "pairs": len(told), **counts}


def of_alike(num: int) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    found_ND = rng.normal(size=WIDTH) + rng.normal(0, 0.15, (num, WIDTH))
    vectors_ND = normalised(found_ND.astype(np.float32))
    numerics.use_threads(1)
    timed = Clock()
    told = semantic.pairs(vectors_ND, (0, num), THRESHOLD)
    return {**timed.read(), "groups": len(set(connected(told, num).tolist())), "pairs": len(told)}


class Clock:
    """Of what has run since it was made."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def read(self) -> dict[str, float]:
        return {
            "seconds": round(time.perf_counter() - self._wall, 2),
            "cpu_s": round(time.process_time() - self._cpu, 2),
            "grown_mb": peak_mb() - LOADED_MB,
        }

    def extrapolated(self, num: int, queries: int) -> dict[str, float]:
        return {"exact_s": round((time.perf_counter() - self._wall) * num / min(num, queries), 1)}


def peak_mb() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def recall(told: set[Any], wanted: set[Any], queries: NDArray[np.int64]) -> dict[str, float]:
    """Of the pairs that the sampled rows have; what is told beside them is false."""
    asked = set(queries.tolist())
    mine = {pair for pair in told if not asked.isdisjoint(pair)}
    return {
        "recall": len(mine & wanted) / len(wanted),
        "false": len(mine - wanted),
        "sampled_pairs": len(wanted),
    }


def growth(sizes: Iterable[int], values: Iterable[float]) -> float:
    """Exponent from the smallest to the largest size: 1 is linear."""
    sizes, values = list(sizes), list(values)
    return round(math.log(values[-1] / values[0]) / math.log(sizes[-1] / sizes[0]), 2)


def run() -> dict[str, Any]:
    details: dict[str, Any] = {}
    for kind, sizes in SIZES.items():
        found = {}
        for size in sizes:
            command = [sys.executable, "-m", "tests.benchmarks.bench_dedup", kind, str(size)]
            found[size] = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
        details[kind] = {
            "by_size": found,
            "growth_of_cpu_s": growth(sizes, (found[size]["cpu_s"] for size in sizes)),
            "growth_of_memory": growth(sizes, (found[size]["grown_mb"] for size in sizes)),
        }
    million = details["hashes"]["by_size"][SIZES["hashes"][-1]]
    ours, peer = (SIZES["hashes"][-1] / million[name] for name in ("seconds", "exact_s"))
    return {
        "unit": "hashes joined per second",
        "ours": round(ours),
        "peer": round(peer),
        "peer_name": f"FAISS {faiss.__version__} IndexBinaryFlat on {CORES} cores, from {QUERIES} queries",
        "ratio": round(ours / peer, 1),
        "details": {"radius": RADIUS, "threshold": THRESHOLD, "width": WIDTH, **details},
    }


if __name__ == "__main__":
    measure = {"hashes": of_hashes, "vectors": of_vectors, "series": of_series, "alike": of_alike}[
        sys.argv[1]
    ]
    sys.stdout.write(json.dumps(measure(int(sys.argv[2]))))
