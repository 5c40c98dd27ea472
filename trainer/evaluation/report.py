"""The report of an evaluation: one JSON document, and one page with every figure of it, runs side by side."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from infra.storage import LocalStore
from pipeline import pages
from trainer.evaluation.judged import BASELINES, MODEL

PAGE, JSON = "index.html", "report.json"
TEMPLATE = "report.html"
Facts = Mapping[str, Any]


def write(folder: Path, report: Facts) -> None:
    """The page has the pictures; the JSON has not."""
    store = LocalStore(str(folder))
    store.write(JSON, as_json(without_pictures(report)))
    store.write(PAGE, rendered(report).encode())


def as_json(value: object) -> bytes:
    """In the order in which it is to be read: the model before those beside it."""
    return (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode()


def without_pictures(report: Facts) -> dict[str, Any]:
    runs = [
        {**run, "parts": {name: {**part, "shown": []} for name, part in run["parts"].items()}}
        for run in report["runs"]
    ]
    return {**report, "runs": runs}


def rendered(report: Facts) -> str:
    return pages.rendered_from(
        Path(__file__).parent,
        TEMPLATE,
        {
            "report": report,
            "parts": list(parts(report)),
            "summary": list(summary(report)),
            "failing": list(failing(report)),
            "figure": figure,
            "baselines": baselines(report),
        },
    )


def figure(value: str | float | None) -> str:
    """As the page says a number: four digits.

    >>> figure(0.123456), figure(200), figure(None), figure("cat")
    ('0.1235', '200', '-', 'cat')
    """
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def parts(report: Facts) -> Iterator[dict[str, Any]]:
    """Each part once, with what every run has of it."""
    names = dict.fromkeys(name for run in report["runs"] for name in run["parts"])
    for name in names:
        runs = [(run["name"], run["parts"][name]) for run in report["runs"] if name in run["parts"]]
        first = runs[0][1]
        yield {
            "name": name,
            "title": first["title"],
            "about": first["about"],
            "measures": list(measures(runs)),
            "runs": [{"name": run, **part} for run, part in runs],
        }


def measures(runs: Sequence[tuple[str, Facts]]) -> Iterator[dict[str, Any]]:
    """Each measure once, with what every run has of it."""
    named = [(run, one) for run, part in runs for one in part["measures"]]
    for name in dict.fromkeys(one["name"] for _, one in named):
        mine = [(run, one) for run, one in named if one["name"] == name]
        yield {
            "name": name,
            "who": list(dict.fromkeys(who for _, one in mine for who in one["means"])),
            "beside": list(dict.fromkeys(who for _, one in mine for who in one["differences"])),
            "runs": [{"run": run, **one} for run, one in mine],
        }


def summary(report: Facts) -> Iterator[dict[str, Any]]:
    """The measure that each part is judged by, run by run."""
    for run in report["runs"]:
        for name, part in run["parts"].items():
            if part["measures"]:
                yield {"run": run["name"], "part": name, "title": part["title"], **part["measures"][0]}


def baselines(report: Facts) -> list[str]:
    """Those that any measure of the summary stands beside."""
    return [who for who in BASELINES if any(who in one["means"] for one in summary(report))]


def above_all(measure: Facts) -> bool:
    """Whether the model is above every baseline by its lower bound."""
    lows = [one["low"] for one in measure["differences"].values()]
    return bool(lows) and min(lows) > 0


def failing(report: Facts) -> Iterator[str]:
    """What does not work, with its figure."""
    for one in summary(report):
        if not one["items"]:
            yield f"{one['run']}: {one['title']}: there were no items."
        elif not above_all(one):
            yield f"{one['run']}: {one['title']}: {sentence(one)}."


def sentence(measure: Facts) -> str:
    """The means in words."""
    means = measure["means"]
    told = [f"{who} {figure(means[who]['mean'])}" for who in (MODEL, *BASELINES) if who in means]
    return f"{measure['name']}: {', '.join(told)} over {measure['items']} items; {measure['verdict']}"


def lines(report: Facts) -> Iterator[str]:
    """For a terminal."""
    for run in report["runs"]:
        yield f"{run['name']} ({run['checkpoint']}), version {report['version']}"
        for part in run["parts"].values():
            told = sentence(part["measures"][0]) if part["measures"] else "tables only, or no items"
            yield f"  {part['title']}: {told}"
