from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

from infra.metrics import CATALOG, Metric
from pipeline.scheduling import WorkersConfig
from tests.infra import manifests, spoken
from tests.infra.manifests import KUBERAY, ROOT

FOLDER = ROOT / "infra" / "deploy" / "observability"
TARGET = {"job", "instance", "pod", "service"}
"""Labels that a scrape adds."""
ITS_OWN = {"up": set[str]()}
"""Metrics that Prometheus makes itself, with their labels."""
HISTOGRAM = {"_bucket": {"le"}, "_sum": set[str](), "_count": set[str]()}
needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="asks promtool, of Debian's prometheus"
)


def shown() -> dict[str, set[str]]:
    """Every series that our metrics are in Prometheus, with its labels."""
    found = dict(ITS_OWN)
    for metric in (metric for group in CATALOG.values() for metric in group):
        found |= {name: set(metric.labels) | more for name, more in series(metric)}
    return found


def series(metric: Metric) -> Iterator[tuple[str, set[str]]]:
    if metric.kind == "histogram":
        yield from ((metric.name + suffix, more) for suffix, more in HISTOGRAM.items())
    else:
        yield metric.shown, set()


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((FOLDER / "alerts.yaml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / "grafana.json").read_text())
    return found


def asked() -> dict[str, str]:
    """Every question to Prometheus, by who asks."""
    found = {rule["alert"]: rule["expr"] for rule in rules()}
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", []):
            found[f"{panel['title']} {target['refId']}"] = target["expr"].replace("$__rate_interval", "1m")
    return found


def wrong(question: str) -> list[str]:
    """What it names that there is not."""
    try:
        parsed = promql_parser.parse(question)
    except ValueError as error:
        return [str(error)]
    found: list[str] = []
    labels_of(parsed, found)
    return found


def labels_of(part: Any, found: list[str]) -> set[str]:
    """Labels that what a part gives may have; what is wrong with it joins ``found``."""
    given = set[str]()
    match type(part).__name__:
        case "VectorSelector":
            given = labels_of_metric(part, found)
        case "MatrixSelector":
            given = labels_of(part.vector_selector, found)
        case "AggregateExpr":
            given = set(part.modifier.labels if part.modifier else [])
            missing = given - labels_of(part.expr, found)
            found += [f"there is no {label} to aggregate by" for label in missing]
        case "BinaryExpr":
            left, right = (labels_of(side, found) for side in (part.lhs, part.rhs))
            given = left or right
        case "Call":
            given = set[str]().union(*(labels_of(each, found) for each in part.args))
        case "ParenExpr":
            given = labels_of(part.expr, found)
        case other:
            assert other == "NumberLiteral"
    return given


def labels_of_metric(selector: Any, found: list[str]) -> set[str]:
    known = shown().get(selector.name)
    if known is None:
        found.append(f"no metric {selector.name}")
        return TARGET
    asked_for = {one.name for one in selector.matchers.matchers}
    found += [f"{selector.name} has no {label}" for label in asked_for - known - TARGET]
    return known | TARGET


@pytest.mark.parametrize(("who", "question"), asked().items(), ids=list(asked()))
def test_what_is_asked_is_a_metric_of_the_catalogue_with_its_labels(who: str, question: str) -> None:
    assert not wrong(question)


@pytest.mark.parametrize(
    ("question", "told"),
    [
        ("pardalis_revocation_errors > 0", "no metric pardalis_revocation_errors"),
        ("rate(pardalis_requests[5m])", "no metric pardalis_requests"),
        ("pardalis_shard_seconds > 1", "no metric pardalis_shard_seconds"),
        ('pardalis_shards_total{made="yes"}', "pardalis_shards_total has no made"),
        ("sum by (stage) (pardalis_workers)", "no stage to aggregate by"),
        ("histogram_quantile(0.5, sum by (step, le) (rate(pardalis_shard_seconds_sum[5m])))", "no le"),
        ("sum(rate(pardalis_images_total[5m])", "unclosed"),
    ],
)
def test_a_question_about_what_is_not_there_is_found(question: str, told: str) -> None:
    assert [fault for fault in wrong(question) if told in fault]


def test_the_dashboard_shows_every_metric() -> None:
    questions = " ".join(asked().values())
    for group in CATALOG.values():
        for metric in group:
            assert any(re.search(rf"\b{name}\b", questions) for name, _ in series(metric)), metric.name


def test_every_alert_has_a_runbook_and_every_runbook_an_alert() -> None:
    text = (FOLDER / "runbooks.md").read_text()
    sections = re.split(r"^## ", text, flags=re.MULTILINE)[1:]
    names = [section.splitlines()[0] for section in sections]
    assert names == [rule["alert"] for rule in rules()]
    for rule in rules():
        assert rule["annotations"]["runbook_url"] == f"runbooks.md#{rule['alert'].lower()}"
        assert rule["labels"]["severity"] in {"page", "ticket"}
    for section in sections:
        assert all(f"**{part}** " in section for part in ("Means", "Look", "Do")), section[:40]


@pytest.mark.long
def test_commands_that_runbooks_name_are_ours() -> None:
    lines = [
        line
        for span in re.findall(r"`([^`]+)`", (FOLDER / "runbooks.md").read_text())
        for line in spoken.commands(span)
    ]
    assert len(lines) > 10
    assert not [told for told in map(spoken.refused, lines) if told]


def test_that_no_worker_comes_is_told_while_the_job_still_waits_for_one() -> None:
    """And late enough for a machine to boot."""
    (rule,) = (rule for rule in rules() if rule["alert"] == "PardalisNoWorkers")
    waited_s = 60 * int(rule["for"].removesuffix("m"))
    assert 240 <= waited_s <= WorkersConfig().start_s / 2


def test_panels_that_runbooks_and_alerts_name_are_on_the_dashboard() -> None:
    titles = {panel["title"] for panel in dashboard()["panels"]}
    quoted = set(re.findall(r'"([A-Z][^"]+)"', (FOLDER / "runbooks.md").read_text()))
    assert quoted
    for name in quoted:
        assert any(title.startswith(name) for title in titles), name


def test_the_dashboards_panels_do_not_overlap() -> None:
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = [
        (x, y)
        for panel in panels
        for at in (panel["gridPos"],)
        for x in range(at["x"], at["x"] + at["w"])
        for y in range(at["y"], at["y"] + at["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) == 23
    (source,) = dashboard()["templating"]["list"]
    for panel in panels:
        if panel["type"] != "row":
            assert panel["datasource"] == {"type": "prometheus", "uid": f"${{{source['name']}}}"}


def scrapes() -> dict[str, dict[str, Any]]:
    found = yaml.safe_load((FOLDER / "prometheus.yaml").read_text())
    assert found["rule_files"] == ["alerts.yaml"]
    return {one["job_name"]: one for one in found["scrape_configs"]}


def test_prometheus_finds_the_ports_that_manifests_name() -> None:
    ports = {
        port["name"]
        for name in ("base", "services")
        for document in manifests.built(KUBERAY / name)
        for container in manifests.containers(document)
        for port in container.get("ports", [])
    }
    kept = {
        job: rule["regex"].split(";")[0]
        for job, one in scrapes().items()
        for rule in one["relabel_configs"]
        if rule.get("action") == "keep"
    }
    assert kept == {"pardalis-doors": "serve", "pardalis-jobs": "jobs", "ray": "metrics"}
    assert set(kept.values()) <= ports
    for one in scrapes().values():
        targets = {rule["target_label"] for rule in one["relabel_configs"] if "target_label" in rule}
        assert "pod" in targets
    assert 'up{job="pardalis-doors"}' in asked()["PardalisDoorDown"]


@pytest.mark.long
@needs_promtool
def test_promtool_takes_the_configuration_and_its_rules(tmp_path: Path) -> None:
    """Debian's knows no Kubernetes: the pods are named."""
    told = yaml.safe_load((FOLDER / "prometheus.yaml").read_text())
    for one in told["scrape_configs"]:
        one["static_configs"] = [{"targets": ["127.0.0.1:8000"]}]
        del one["kubernetes_sd_configs"]
    (tmp_path / "prometheus.yaml").write_text(yaml.safe_dump(told))
    shutil.copy(FOLDER / "alerts.yaml", tmp_path)
    promtool("check", "config", "--lint-fatal", str(tmp_path / "prometheus.yaml"))


def promtool(*words: str) -> None:
    done = subprocess.run(["promtool", *words], capture_output=True, text=True, check=False, timeout=60)  # noqa: S607
    assert done.returncode == 0, done.stdout + done.stderr


DOOR = 'service="pardalis-search",pod="a"'
JOB = 'job="pardalis-jobs",pod="d",step="embed"'
Series = dict[str, str]
TRIED: dict[str, tuple[Series, Series]] = {
    "PardalisDoorDown": (
        {f'up{{job="pardalis-doors",{DOOR}}}': "0+0x160"},
        {f'up{{job="pardalis-doors",{DOOR}}}': "1+0x160", 'up{job="pardalis-jobs",pod="b"}': "0+0x160"},
    ),
    "PardalisRevocationsUnread": (
        {f"pardalis_revocations_errors{{{DOOR}}}": "1+0x160"},
        {f"pardalis_revocations_errors{{{DOOR}}}": "0+0x160"},
    ),
    "PardalisDoorsDisagree": (
        {
            f"pardalis_revoked_assets{{{DOOR}}}": "5+0x160",
            'pardalis_revoked_assets{service="pardalis-search",pod="b"}': "6+0x160",
        },
        {
            f"pardalis_revoked_assets{{{DOOR}}}": "5+0x160",
            'pardalis_revoked_assets{service="another",pod="b"}': "6+0x160",
        },
    ),
    "PardalisVersionsDiffer": (
        {
            f"pardalis_corpus_version{{{DOOR}}}": "3+0x160",
            'pardalis_corpus_version{service="pardalis-search",pod="b"}': "4+0x160",
        },
        {
            f"pardalis_corpus_version{{{DOOR}}}": "3+0x160",
            'pardalis_corpus_version{service="pardalis-search",pod="b"}': "3+0x160",
        },
    ),
    "PardalisRequestsFail": (
        {
            f'pardalis_requests_total{{{DOOR},route="/search",status="200"}}': "0+90x160",
            f'pardalis_requests_total{{{DOOR},route="/search",status="503"}}': "0+10x160",
        },
        {
            f'pardalis_requests_total{{{DOOR},route="/search",status="200"}}': "0+60x160",
            f'pardalis_requests_total{{{DOOR},route="/search",status="429"}}': "0+40x160",
        },
    ),
    "PardalisRequestsSlow": (
        {
            f'pardalis_request_seconds_bucket{{{DOOR},route="/search",le="1"}}': "0+50x160",
            f'pardalis_request_seconds_bucket{{{DOOR},route="/search",le="+Inf"}}': "0+100x160",
            f'pardalis_request_seconds_bucket{{{DOOR},route="/search",le="5"}}': "0+100x160",
        },
        {
            f'pardalis_request_seconds_bucket{{{DOOR},route="/search",le="1"}}': "0+99x160",
            f'pardalis_request_seconds_bucket{{{DOOR},route="/search",le="+Inf"}}': "0+100x160",
        },
    ),
    "PardalisQueueFull": (
        {f"pardalis_queue_images{{{DOOR}}}": "250+0x160"},
        {f"pardalis_queue_images{{{DOOR}}}": "20+0x160"},
    ),
    "PardalisPlanStalled": (
        {f"pardalis_plan_done_ratio{{{JOB}}}": "0.5+0x160"},
        {
            f"pardalis_plan_done_ratio{{{JOB}}}": "0+0.003x160",
        },
    ),
    "PardalisPlanGrows": (
        {f"pardalis_plan_left_seconds{{{JOB}}}": "100+1x160"},
        {f"pardalis_plan_left_seconds{{{JOB}}}": "90000-60x160"},
    ),
    "PardalisNoWorkers": (
        {f"pardalis_shards_waiting{{{JOB}}}": "9+0x14 0 stale", f"pardalis_workers{{{JOB}}}": "0+0x15 stale"},
        {f"pardalis_shards_waiting{{{JOB}}}": "9+0x160", f"pardalis_workers{{{JOB}}}": "0+0x3 2+0x156"},
    ),
    "PardalisWorkersDie": (
        {f"pardalis_worker_deaths_total{{{JOB}}}": "0+1x160"},
        {f"pardalis_worker_deaths_total{{{JOB}}}": "3+0x160"},
    ),
    "PardalisStragglers": (
        {
            f"pardalis_stragglers_total{{{JOB}}}": "0+1x160",
            f'pardalis_shards_total{{{JOB},how="made"}}': "0+10x160",
        },
        {
            f"pardalis_stragglers_total{{{JOB}}}": "0+1x160",
            f'pardalis_shards_total{{{JOB},how="made"}}': "0+100x160",
        },
    ),
    "PardalisRowsFail": (
        {
            f'pardalis_rows_total{{{JOB},outcome="failed"}}': "0+2x160",
            f'pardalis_rows_total{{{JOB},outcome="kept"}}': "0+98x160",
        },
        {
            f'pardalis_rows_total{{{JOB},outcome="rejected"}}': "0+50x160",
            f'pardalis_rows_total{{{JOB},outcome="kept"}}': "0+50x160",
        },
    ),
    "PardalisStoreTriedAgain": (
        {'pardalis_storage_retries_total{operation="write",pod="d"}': "0+120x160"},
        {'pardalis_storage_retries_total{operation="write",pod="d"}': "0+1x160"},
    ),
}
"""Series, a value a minute for 160 minutes: with which an alert fires, and with which it does not."""
BEFORE = {"PardalisNoWorkers": "14m"}
"""When one fires that ends with its job, other than at 150 minutes: here the pool gives up after start_s."""


@pytest.mark.long
@needs_promtool
def test_every_alert_fires_when_it_should_and_not_beside(tmp_path: Path) -> None:
    assert TRIED.keys() == {rule["alert"] for rule in rules()}
    shutil.copy(FOLDER / "alerts.yaml", tmp_path)
    tests = [
        {
            "name": f"{name} {number}",
            "interval": "1m",
            "input_series": [{"series": one, "values": values} for one, values in series.items()],
            "promql_expr_test": [
                {
                    "expr": f'count(ALERTS{{alertname="{name}",alertstate="firing"}})',
                    "eval_time": at,
                    "exp_samples": [{"labels": "{}", "value": 1}] if number == 0 and at in fires else [],
                }
                for at in {*fires, "150m"}
            ],
        }
        for name, both in TRIED.items()
        for fires in ([BEFORE.get(name, "150m")],)
        for number, series in enumerate(both)
    ]
    file = tmp_path / "tests.yaml"
    file.write_text(
        yaml.safe_dump({"rule_files": ["alerts.yaml"], "evaluation_interval": "1m", "tests": tests})
    )
    promtool("test", "rules", str(file))
