"""What ``bench_index`` runs in a venv that has autofaiss, numpy and faiss-cpu, and nothing of ours.

``python peer_index.py build KIND BASE.npy INDEX`` and ``measure INDEX QUERIES.npy EXACT.npy SETTING…``; each
prints JSON. KIND is ``autofaiss`` (4 GB for the index, 12 GB for the build), ``hnsw:M:EF`` or ``ivf`` (4
sqrt(N) lists, as FAISS's guidelines have it). A setting is an efSearch or an nprobe.
"""

import itertools
import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import faiss
import numpy as np

LEAST_S = 2.0
"""Of each measurement."""
THREADS = 2


def peak_mib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


def cpu_s() -> float:
    used = [resource.getrusage(of) for of in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def by_autofaiss(base: Path, out: Path) -> faiss.Index:
    from autofaiss import build_index  # noqa: PLC0415

    with tempfile.TemporaryDirectory(dir=out.parent) as folder:
        (Path(folder) / base.name).symlink_to(base)
        index, _ = build_index(
            embeddings=folder,
            index_path=str(out),
            index_infos_path=str(out.with_suffix(".infos.json")),
            max_index_memory_usage="4G",
            current_memory_available="12G",
            metric_type="ip",
            nb_cores=THREADS,
        )
    return index


def built(kind: str, base: Path, out: Path) -> faiss.Index:
    if kind == "autofaiss":
        return by_autofaiss(base, out)
    vectors = np.load(base, mmap_mode="r")
    width = vectors.shape[1]
    name, *numbers = kind.split(":")
    if name == "hnsw":
        neighbors, construction = map(int, numbers)
        index = faiss.IndexHNSWFlat(width, neighbors, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = construction
    else:
        lists = 1 << round(np.log2(4 * len(vectors) ** 0.5))
        index = faiss.index_factory(width, f"IVF{lists},Flat", faiss.METRIC_INNER_PRODUCT)
        index.train(np.ascontiguousarray(vectors[:: max(1, len(vectors) // 200_000)]))
    for at in range(0, len(vectors), 100_000):
        index.add(np.ascontiguousarray(vectors[at : at + 100_000]))
    faiss.write_index(index, str(out))
    return index


def build(kind: str, base: Path, out: Path) -> dict:
    began, used = time.perf_counter(), cpu_s()
    index = built(kind, base, out)
    return {
        "kind": kind,
        "index": type(index).__name__,
        "build_s": round(time.perf_counter() - began),
        "build_cpu_s": round(cpu_s() - used),
        "build_peak_mib": peak_mib(),
        "bytes": out.stat().st_size,
    }


def rate(search: Callable[[np.ndarray], object], queries: np.ndarray, batch: int) -> float:
    """Queries a second, batch by batch, round and round."""
    starts = itertools.cycle(range(0, len(queries) - batch + 1, batch))
    search(queries[:batch])
    done, began = 0, time.perf_counter()
    while time.perf_counter() - began < LEAST_S:
        at = next(starts)
        search(queries[at : at + batch])
        done += batch
    return done / (time.perf_counter() - began)


def measure(path: Path, queries: np.ndarray, exact: np.ndarray, settings: list[int]) -> list[dict]:
    index = faiss.read_index(str(path))
    found = []
    for setting in settings:
        if hasattr(index, "hnsw"):
            index.hnsw.efSearch = setting
        else:
            faiss.extract_index_ivf(index).nprobe = setting
        _, ids = index.search(queries, exact.shape[1])
        hits = (exact[:, :, None] == ids[:, None, :]).any(axis=2).mean()
        found.append(
            {
                "setting": setting,
                "recall": round(float(hits), 4),
                **{
                    f"qps_{batch}": round(rate(lambda some: index.search(some, 10), queries, batch), 1)
                    for batch in (1, 256)
                },
                "peak_mib": peak_mib(),
            }
        )
    return found


def main() -> None:
    faiss.omp_set_num_threads(THREADS)
    mode, *words = sys.argv[1:]
    if mode == "build":
        told = build(words[0], Path(words[1]), Path(words[2]))
    else:
        queries, exact = np.load(words[1]), np.load(words[2])
        told = measure(Path(words[0]), queries, exact, [int(word) for word in words[3:]])
    sys.stdout.write("\n" + json.dumps(told) + "\n")


if __name__ == "__main__":
    main()
