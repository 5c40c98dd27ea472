"""The page of an evaluation says every figure of its JSON, and nothing in it can act."""

from __future__ import annotations

import json
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np

from trainer.evaluation import report
from trainer.evaluation.judged import CEILING, CHANCE, COPY, MODEL, Judged, Measure, Shown, Table, nothing

HOSTILE = '<script>alert(1)</script>"><img src="https://example.com/x.png">'


def part(seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    white = np.full((4, 4, 3), 255, np.uint8)
    scores = {who: rng.random(30).tolist() for who in (MODEL, CHANCE, COPY, CEILING)}
    return Judged(
        title="Edits",
        about=HOSTILE,
        measures=[Measure(name="PSNR", scores=scores), Measure(name="empty", scores={MODEL: []})],
        tables=[Table(title="BLEU", head=["", "a"], rows=[[MODEL, 0.123456], [COPY, None], ["x", 7]])],
        shown=[Shown(said={"true": HOSTILE}, pictures={MODEL: white, "given": None})],
    ).json(seed=0)


def made() -> dict[str, Any]:
    def run(name: str, seed: int) -> dict[str, Any]:
        parts = {"edit": part(seed), "sign": nothing("Signs", "no signs").json(seed=0)}
        return {
            "name": name,
            "folder": f"runs/{name}",
            "checkpoint": "step-00000001",
            "identity": "abc",
            "parameters": 1234567,
            "parts": parts,
        }

    return {
        "corpus": "corpus",
        "version": 3,
        "items": 30,
        "seed": 0,
        "resamples": 2000,
        "runs": [run("first", 1), run("second", 2)],
    }


class Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.text: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def read(html: str) -> Page:
    page = Page()
    page.feed(html)
    page.close()
    return page


def figures(value: Any) -> Iterator[float]:
    """Every number of a report's parts."""
    if isinstance(value, dict):
        for one in value.values():
            yield from figures(one)
    elif isinstance(value, list):
        for one in value:
            yield from figures(one)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield value


def test_the_page_says_every_figure_of_the_json(tmp_path: Path) -> None:
    found = made()
    report.write(tmp_path, found)
    text = " ".join(read((tmp_path / report.PAGE).read_text()).text)
    kept = json.loads((tmp_path / report.JSON).read_text())
    numbers = [number for run in kept["runs"] for number in figures(run["parts"])]
    assert len(numbers) == 44
    assert "up to\n30 a task" in text
    for number in numbers:
        assert report.figure(number) in text, number


def test_the_page_stands_alone_and_escapes_what_people_wrote() -> None:
    page = read(report.rendered(made()))
    names = {tag for tag, _ in page.tags}
    assert "script" not in names
    sources = [attributes["src"] for tag, attributes in page.tags if tag == "img"]
    assert sources
    assert all(source and source.startswith("data:image/png;base64,") for source in sources)
    assert HOSTILE in " ".join(page.text)
    assert "no licence grants display" in " ".join(page.text)


def test_runs_stand_side_by_side_and_the_json_has_no_pictures() -> None:
    found = made()
    (edit, sign) = report.parts(found)
    assert [run["run"] for run in edit["measures"][0]["runs"]] == ["first", "second"]
    assert sign["measures"] == []
    assert "data:image" not in json.dumps(report.without_pictures(found))


def test_what_does_not_work_is_said_with_its_figure() -> None:
    found = made()
    measure = found["runs"][0]["parts"]["edit"]["measures"][0]
    mean = report.figure(measure["means"][MODEL]["mean"])
    (first, _) = report.failing(found)
    assert first.startswith("first: Edits: PSNR: model " + mean)
    for run in found["runs"]:
        for one in run["parts"]["edit"]["measures"][0]["differences"].values():
            one["low"] = 0.1
    assert list(report.failing(found)) == []


def test_the_terminal_is_told_each_task() -> None:
    told = "\n".join(report.lines(made()))
    assert "first (step-00000001)" in told
    assert "Signs: tables only, or no items" in told
