"""The numerics profile: what decides the last bit of a product, so that it can be part of a key.

Floating-point sums depend on the device, on a CPU's vector instructions, on the number of threads and on the
library that adds. Both engines set the same threads. The profile is the driver's: workers are of its kind.
The libraries are imported where they are asked: settings are read without their three seconds.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.metadata
from collections.abc import Sequence

from pipeline.step import Workers

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""Of mallopt(3)."""


def profile(*, threads: int, libraries: Sequence[str], device: str = "cpu") -> dict[str, object]:
    """JSON values for a step's key. ``device`` is where its products are made."""
    import torch  # noqa: PLC0415

    versions = {name: importlib.metadata.version(name) for name in libraries}
    instructions = torch.backends.cpu.get_cpu_capability()
    return {
        "device": device,
        "instructions": instructions,
        "threads": threads,
        "libraries": versions,
        **(_of_gpu() if device == "cuda" else {}),
    }


def _of_gpu() -> dict[str, object]:
    """What else decides the last bits there: the model, its libraries, and whether sums may be of TF32."""
    import torch  # noqa: PLC0415

    return {
        "gpu": torch.cuda.get_device_name(),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]  # torch has no hint
        "tf32": [torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32],
    }


def device() -> str:
    """Where a step that can use a GPU computes: on one, if this machine has any."""
    import torch  # noqa: PLC0415

    return "cuda" if torch.cuda.is_available() else "cpu"


def workers(*, cpus: int, gpus: float) -> Workers:
    """What a worker of such a step reserves; without a GPU, none."""
    return Workers(cpus=cpus, gpus=gpus if device() == "cuda" else 0.0)


def use_threads(count: int) -> None:
    """Fix the threads of everything in this process that multiplies."""
    import faiss  # noqa: PLC0415
    import threadpoolctl  # noqa: PLC0415
    import torch  # noqa: PLC0415

    torch.set_num_threads(count)
    faiss.omp_set_num_threads(count)
    threadpoolctl.threadpool_limits(count)  # numpy's BLAS, which reads the environment once, at import


def keep_memory() -> None:
    """Let glibc keep up to 8 MiB that are free for the next array, instead of having the kernel take it back
    and zero it again: pictures come and go, and a measured batch takes a third of the time. With 64 MiB the
    largest deliveries passed a gibibyte.
    """
    with contextlib.suppress(AttributeError):  # another C library has other ways
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(MMAP_THRESHOLD, 4 << 20)
        mallopt(TRIM_THRESHOLD, 8 << 20)
