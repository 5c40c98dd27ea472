"""The only clock of a run: how fast it trains, how long it waits for data, how much memory it takes.

The surprising rule: what is told here is kept apart under ``speed/``, since nothing else that a run reports
depends on the machine.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

DEVICES = {
    "A100": (312e12, 80),
    "H100": (989e12, 80),
    "H200": (989e12, 141),
    "B200": (2250e12, 180),
    "L40S": (362e12, 48),
    "A10G": (70e12, 24),
}
"""Dense bfloat16 FLOPs a second, and GB, by a word of the device's name, as its maker gives them."""


def peak_flops(name: str) -> float | None:
    """Of a device by its name; None where we do not know it."""
    return next((flops for word, (flops, _) in DEVICES.items() if word in name), None)


class Meter:
    """Between two reports."""

    def __init__(self, *, device: torch.device, ranks: int) -> None:
        self._device = device
        on_gpu = device.type == "cuda"
        peak = peak_flops(torch.cuda.get_device_name(device)) if on_gpu else None
        self._peak = None if peak is None else peak * ranks
        self.begin()

    def begin(self) -> None:
        """Anew; what lies between two calls of this counts as no training."""
        self._began = time.monotonic()
        self._waited = 0.0
        self._tokens = 0.0

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """For data."""
        began = time.monotonic()
        yield
        self._waited += time.monotonic() - began

    def trained(self, tokens: float) -> None:
        """Targets that counted, over all ranks."""
        self._tokens += tokens

    def told(self, flops_per_token: float) -> dict[str, float]:
        """Since it began. ``mfu``: share of the devices' peak that the model's arithmetic makes up."""
        seconds = max(time.monotonic() - self._began, 1e-9)
        rate = self._tokens / seconds
        told = {
            "speed/tokens_per_s": rate,
            "speed/data_wait": self._waited / seconds,
            "speed/tflops": rate * flops_per_token / 1e12,
            "speed/memory_mib": self._memory() / 2**20,
        }
        if self._peak is not None:
            told["speed/mfu"] = rate * flops_per_token / self._peak
        return told

    def _memory(self) -> float:
        """Most bytes so far: of the device, or of this process."""
        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._device)
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
