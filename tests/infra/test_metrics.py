"""The catalogue of metrics: all that any module creates, and nothing else; and a job's, over HTTP."""

from __future__ import annotations

import ast
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.parser import text_string_to_metric_families

from infra import metrics
from infra.serving.gauges import Gauges
from infra.serving.listening import bound
from retrieval.serving import gauges as search
from tokenizer_service.serving import gauges as tokenizer

ROOT = Path(__file__).parents[2]
PACKAGES = ("infra", "tokenizer_service", "retrieval", "pipeline", "trainer")
KINDS = (Counter, Gauge, Histogram)


def created(holder: Gauges | metrics.Jobs) -> set[tuple[str, str, tuple[str, ...]]]:
    """(name, kind, labels) of what an object holds."""
    held = [one for one in vars(holder).values() if isinstance(one, KINDS)]
    return {(one._name, one._type, one._labelnames) for one in held}  # noqa: SLF001  # nothing public tells


def told(*parts: tuple[metrics.Metric, ...]) -> set[tuple[str, str, tuple[str, ...]]]:
    return {(one.name, one.kind, one.labels) for part in parts for one in part}


def names_in(path: Path) -> Iterator[str]:
    """Names that a module's source gives to metrics, of Prometheus or of Ray."""
    kinds = {kind.__name__ for kind in KINDS} | {"Summary", "Info", "Enum"}
    for node in ast.walk(ast.parse(path.read_text())):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in kinds
            and node.args
        ):
            name = node.args[0]
            if isinstance(name, ast.Constant):
                yield str(name.value)


def test_the_catalog_tells_name_kind_and_labels_of_each_metric_and_of_no_other() -> None:
    assert created(Gauges()) == told(metrics.SERVICES)
    assert created(search.Gauges()) == told(metrics.SERVICES, metrics.SEARCH)
    assert created(tokenizer.Gauges()) == told(metrics.SERVICES, metrics.TOKENIZER)
    assert created(metrics.Jobs()) == told(metrics.JOBS)
    names = [one.name for part in metrics.CATALOG.values() for one in part]
    assert len(set(names)) == len(names)


@pytest.mark.long
def test_no_module_creates_a_metric_that_the_catalog_lacks() -> None:
    sources = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    named = {name for path in sources for name in names_in(path)}
    listed = {one.name for part in metrics.CATALOG.values() for one in part}
    assert named <= listed, f"add {sorted(named - listed)} to infra/metrics.py"
    assert "pardalis_requests" in named


def test_the_page_is_what_the_catalog_renders() -> None:
    page = ROOT / "infra" / "deploy" / "observability" / "metrics.md"
    assert page.read_text() == metrics.page(), (
        "python -m infra.metrics > infra/deploy/observability/metrics.md"
    )


def test_a_job_is_asked_over_http_while_it_runs_and_not_after() -> None:
    before = (
        metrics.jobs.registry.get_sample_value("pardalis_shards_total", {"step": "t", "how": "made"}) or 0
    )
    with metrics.served("0") as where:
        assert where is not None
        assert where.startswith("http://127.0.0.1:")
        metrics.jobs.shards.labels("t", "made").inc()
        metrics.jobs.workers.labels("t").set(3)
        with urllib.request.urlopen(where, timeout=5) as answer:  # noqa: S310  # our own
            families = {one.name: one for one in text_string_to_metric_families(answer.read().decode())}
    found = {(one.name, *one.labels.values()): one.value for f in families.values() for one in f.samples}
    assert found["pardalis_shards_total", "made", "t"] == before + 1
    assert found["pardalis_workers", "t"] == 3
    assert {one.name for one in metrics.JOBS} <= set(families)
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(where, timeout=5)  # noqa: S310  # our own


def test_nobody_is_told_unless_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(metrics.ADDRESS, raising=False)
    with metrics.served() as where:
        assert where is None
    monkeypatch.setenv(metrics.ADDRESS, "127.0.0.1:0")
    with metrics.served() as where:
        assert where is not None


@pytest.mark.parametrize("address", ["here", "127.0.0.1:", "0.0.0.0:99999", ":x"])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="is no \\[HOST:\\]PORT"), metrics.served(address):
        pass


def test_a_port_that_is_taken_is_told() -> None:
    with bound("127.0.0.1", 0) as taken:
        taken.listen()
        port = taken.getsockname()[1]
        with (
            pytest.raises(ValueError, match=f"{port}: Address already in use; choose"),
            metrics.served(str(port)),
        ):
            pass
