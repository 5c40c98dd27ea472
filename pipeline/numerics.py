"""The numerics profile: what decides the last bit of a product, so that it can be part of a key.

Floating-point sums depend on the device, on a CPU's vector instructions, on the number of threads and on the
library that adds. Both engines set the same threads. The profile is of the machines that work, which are of
one kind: a driver without a GPU lists steps for workers that have one (:func:`working_on`), and a worker of
another kind refuses (:func:`check`). The libraries are imported where they are asked: settings are read
without their three seconds.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib.metadata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.step import Workers

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""Of mallopt(3)."""
ALIKE = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_CBWR": "AVX2",
    "OPENBLAS_CORETYPE": "Haswell",
    "FAISS_SIMD_LEVEL": "AVX2",
}
"""Variables by which CPUs that have more than AVX2 use AVX2: one for each library that multiplies. By the
first alone, which a profile tells of, convolutions and the products of numpy and FAISS stay others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What decides the last bits of the products that are made on it."""

    instructions: str
    """A CPU's, as torch names them."""
    gpu: Mapping[str, Any] | None
    """Its model and libraries, and whether sums may be of TF32; None: there is none."""


@functools.cache
def here() -> Machine:
    """What this machine is."""
    import torch  # noqa: PLC0415

    gpu = None
    if torch.cuda.is_available():
        gpu = {
            "gpu": torch.cuda.get_device_name(),
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]  # torch has no hint
            "tf32": [torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32],
        }
    return Machine(instructions=torch.backends.cpu.get_cpu_capability(), gpu=gpu)


_elsewhere: Machine | None = None
"""Where the work is done, while that is not in this process."""


@contextlib.contextmanager
def working_on(machine: Machine) -> Iterator[None]:
    """Steps that are listed while the block runs are for such machines."""
    global _elsewhere  # noqa: PLW0603  # a process drives one job, or does one worker's work
    before, _elsewhere = _elsewhere, machine
    try:
        yield
    finally:
        _elsewhere = before


def profile(*, threads: int, libraries: Sequence[str], device: str = "cpu") -> dict[str, object]:
    """JSON values for a step's key. ``device`` is where its products are made."""
    machine = _elsewhere or here()
    return {
        "device": device,
        "instructions": machine.instructions,
        "threads": threads,
        "libraries": {name: public(importlib.metadata.version(name)) for name in libraries},
        **((machine.gpu or {}) if device == "cuda" else {}),
    }


def public(version: str) -> str:
    """A release without its build: PyTorch has each for CPUs and for GPUs, nodes of both kinds do one job,
    and for which device a step is its profile says.

    >>> public("2.14.1+cpu"), public("2.14.1+cu130"), public("1.26.4")
    ('2.14.1', '2.14.1', '1.26.4')
    """
    return version.partition("+")[0]


def check(asked: Mapping[str, Any]) -> None:
    """Whether this machine makes the bytes that a step's profile says; :class:`OtherMachine` if not."""
    if "device" not in asked:  # no profile: the step multiplies nothing
        return
    reachable = asked["device"] if asked["device"] == "cpu" else device()
    found = profile(threads=asked["threads"], libraries=list(asked["libraries"]), device=reachable)
    wrong = [name for name in found if found[name] != asked[name]]
    if wrong:
        told = "; ".join(f"{name} {found[name]!r}, not {asked[name]!r}" for name in wrong)
        alike = " ".join(f"{name}={value}" for name, value in ALIKE.items())
        raise OtherMachine(
            f"a worker on this node would make other bytes than its step says: {told}. Run nodes of one kind "
            f"with the same packages; CPUs are made alike by {alike} on all nodes and the driver"
        )


class OtherMachine(RuntimeError):
    """A worker's machine is not of the kind for which a step was listed."""


def device() -> str:
    """Where a step that can use a GPU computes: on one, if the machines that work have any."""
    return "cuda" if (_elsewhere or here()).gpu is not None else "cpu"


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
