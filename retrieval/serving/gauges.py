"""What Prometheus reads of a running search. Searches a second are ``rate(pardalis_requests_total[1m])``."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

from infra.serving import gauges
from retrieval.serving.asking import Ranked

QUERIES = (1, 2, 4, 8, 16, 24, 32, 48, 64, 128)
RETURNED = (0, 1, 5, 10, 20, 50, 100, 200)
ELIGIBLE = (0, 1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000)


class Watched(gauges.Gauges):
    """Of whatever service looks for revocations while it runs."""

    def __init__(self) -> None:
        super().__init__()
        self.revoked = Gauge(
            "pardalis_revoked_assets", "Assets of the version that are revoked.", registry=self.registry
        )
        self.errors = Gauge(
            "pardalis_revocations_errors",
            "Sources of revocations that cannot be read now.",
            registry=self.registry,
        )

    def standing(self, *, revoked: int, errors: int) -> None:
        """What is revoked by now, and how many sources of that cannot be read."""
        self.revoked.set(revoked)
        self.errors.set(errors)


class Gauges(Watched):
    def __init__(self) -> None:
        super().__init__()
        self.batch = Histogram(
            "pardalis_batch_queries", "Searches in a batch.", buckets=QUERIES, registry=self.registry
        )
        self.eligible = Histogram(
            "pardalis_eligible_assets",
            "Assets that the caller's purpose and the filters leave to a search.",
            buckets=ELIGIBLE,
            registry=self.registry,
        )
        self.returned = Histogram(
            "pardalis_returned_assets", "Assets in an answer.", buckets=RETURNED, registry=self.registry
        )
        self.withheld = Counter(
            "pardalis_withheld_assets",
            "Assets that were revoked while the search that found them ran.",
            registry=self.registry,
        )
        self.version = Gauge("pardalis_corpus_version", "Version that is searched.", registry=self.registry)

    def searched(self, *, eligible: int, found: Ranked, returned: int) -> None:
        if found.batch:
            self.batch.observe(found.batch)
        self.eligible.observe(eligible)
        self.returned.observe(returned)
        self.withheld.inc(len(found.ids) - returned)
