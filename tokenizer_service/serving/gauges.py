"""What Prometheus reads of a running service. Images a second are ``rate(pardalis_images_total[1m])``."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from prometheus_client import Counter, Gauge, Histogram

from infra.serving import gauges
from tokenizer_service.serving.model import Coded, Drawn

IMAGES = (1, 2, 4, 8, 16, 24, 32, 48, 64, 128)
WINDOW_S = 10.0
"""Over which the gauge of images a second looks back."""


class Gauges(gauges.Gauges):
    def __init__(self) -> None:
        super().__init__()
        self.batch = Histogram(
            "pardalis_batch_images",
            "Images in a batch, without padding.",
            ["route"],
            buckets=IMAGES,
            registry=self.registry,
        )
        self.images = Counter("pardalis_images", "Images served.", ["route"], registry=self.registry)
        self.queue = Gauge(
            "pardalis_queue_images", "Images accepted and not yet answered.", registry=self.registry
        )
        self._rate = Gauge(
            "pardalis_images_per_second", f"Over the last {WINDOW_S:g} s.", registry=self.registry
        )
        self._recent: deque[tuple[float, int]] = deque()

    def served(self, route: str, found: Sequence[Coded] | Sequence[Drawn], now: float) -> None:
        for one in found:
            if one.batch:
                self.batch.labels(route).observe(one.batch)
        self.images.labels(route).inc(len(found))
        self._recent.append((now, len(found)))
        self._forget(now)

    def text(self, now: float) -> bytes:
        self._forget(now)
        self._rate.set(sum(images for _, images in self._recent) / WINDOW_S)
        return super().text(now)

    def _forget(self, now: float) -> None:
        while self._recent and self._recent[0][0] < now - WINDOW_S:
            self._recent.popleft()
