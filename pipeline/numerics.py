"""The numerics profile: what decides the last bit of a product, so that it can be part of a key.

Floating-point sums depend on the device, the number of threads and the library that adds. Both engines set
the same threads; nothing else about a machine enters the bytes of an artifact.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence

import faiss
import threadpoolctl
import torch


def profile(*, threads: int, libraries: Sequence[str]) -> dict[str, object]:
    """JSON values for a step's key."""
    versions = {name: importlib.metadata.version(name) for name in libraries}
    return {"device": device(), "threads": threads, "libraries": versions}


def device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def use_threads(count: int) -> None:
    """Fix the threads of everything in this process that multiplies."""
    torch.set_num_threads(count)
    faiss.omp_set_num_threads(count)
    threadpoolctl.threadpool_limits(count)  # numpy's BLAS, which reads the environment once, at import
