"""`pardalis filters preview` on photographs that real models scored: it says what a build then does."""

from __future__ import annotations

import collections
import hashlib
import importlib.util
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageFilter

from infra.cli import run
from infra.corpus import Corpus, Version
from infra.storage import Store
from infra.telemetry import Log
from pipeline import build, config, folding, plan
from pipeline.config import Config
from pipeline.engine import Inline
from pipeline.reviewing import catalogs
from pipeline.scorers import nsfw

from .conftest import AS_OF, TINY, Deliveries, Samples, sample

FOUND = importlib.util.find_spec("sklearn")
PHOTOGRAPHS = (
    Path("nowhere" if FOUND is None or FOUND.origin is None else FOUND.origin).parent / "datasets/images"
)
"""Two photographs of 640 x 427, which scikit-learn brings."""
pytestmark = [
    pytest.mark.plan,
    pytest.mark.long,
    pytest.mark.skipif(not PHOTOGRAPHS.is_dir(), reason="scikit-learn's photographs are not installed"),
    pytest.mark.skipif(nsfw.WEIGHTS.missing() is not None, reason="open_nsfw is not installed"),
]
SIDE = 200
SETTINGS = (
    "pipeline.ingest.max_side = 256",
    "pipeline.filters.min_side = 128",
    "pipeline.scores.nsfw = true",
    "pipeline.scores.alignment = true",
)


def crops() -> list[Image.Image]:
    """Twelve squares, six of each photograph."""
    found = []
    for path in sorted(PHOTOGRAPHS.glob("*.jpg")):
        with Image.open(path) as whole:
            found += [whole.crop((x, y, x + SIDE, y + SIDE)) for y in (10, 220) for x in (5, 215, 430)]
    return found


def photograph(name: str, picture: Image.Image, quality: int = 92) -> tuple[Any, bytes]:
    sink = io.BytesIO()
    picture.save(sink, "JPEG", quality=quality)
    image = sink.getvalue()
    file = {"bytes": len(image), "mime": "image/jpeg", "width": picture.width, "height": picture.height}
    told = {"sha256": hashlib.sha256(image).hexdigest(), **file}
    description = f"part {name} of a photograph"
    return sample(0, asset_id=name, description=description, keywords=[], file=told)[0], image


def world() -> Samples:
    """The squares; the first blurred, the second again with the same bytes, the third as a worse JPEG."""
    squares = crops()
    return [
        *(photograph(f"a{number:02d}", square) for number, square in enumerate(squares)),
        photograph("blurred", squares[0].filter(ImageFilter.GaussianBlur(8))),
        photograph("same", squares[1]),
        photograph("worse", squares[2], quality=60),
    ]


def built(corpus: Corpus, head: Version, settings: Config, uris: list[str]) -> Version:
    """Up to dedup, as the newest version."""
    steps = (*plan.ingest_steps(settings, AS_OF), *plan.up_to(plan.build_steps(settings), "dedup"))
    with corpus.writing(purpose="test") as lease:
        version = replace(folding.fold(corpus, head, uris), as_of=AS_OF.isoformat())
        return corpus.publish(lease, head, build.run(corpus, version, steps, Inline(), Log()))


def settings(folder: Path, *lines: str) -> Config:
    (folder / "run.toml").write_text(TINY)
    return config.load(folder / "run.toml", [*SETTINGS, *lines])


def asked(folder: Path, capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    command = ["filters", "preview", "--corpus", str(folder / "corpus"), "--config", str(folder / "run.toml")]
    command += [word for line in SETTINGS for word in ("--set", line)]
    capsys.readouterr()
    assert run([*command, "--count", "40", "--json", *words]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


@pytest.mark.timeout(300)
def test_what_is_previewed_of_real_scores_is_what_a_build_takes_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus = Corpus(Store.at(tmp_path / "corpus"))
    head = built(corpus, corpus.head(), settings(tmp_path), [Deliveries(tmp_path).write(world())])
    rows = {
        row["uid"]: row for _, part in catalogs.of_step(corpus, head, "screen") for row in part.to_pylist()
    }
    scores = {uid: row["nsfw"] for uid, row in rows.items() if row["outcome"] == "kept"}
    assert len(set(scores.values())) >= 10, "a model that is at work"

    bound = sorted(scores.values())[len(scores) // 2]
    line = f"pipeline.screen.max_nsfw = {bound}"
    found = asked(tmp_path, capsys, "--rule", "max_nsfw", "--rule", "blurred", "--set", line)
    (blurred,), (by_nsfw,) = (step["rules"] for step in found["steps"])
    unsharp = {one["uid"] for one in blurred["nearest_rejected"]}
    assert "acme:blurred" in unsharp, "beside what lies out of focus in the photographs themselves"
    told = {one["uid"]: one["value"] for side in ("rejected", "kept") for one in by_nsfw[f"nearest_{side}"]}
    assert told == scores
    out = {one["uid"] for one in by_nsfw["nearest_rejected"]}
    assert len(out) == by_nsfw["rejected_alone"] > 0

    later = built(corpus, head, settings(tmp_path, line), [])
    assert later.artifacts["scores"] == head.artifacts["scores"]
    again = [row for _, part in catalogs.of_step(corpus, later, "screen") for row in part.to_pylist()]
    assert {row["uid"] for row in again if row["settled_by"] == "screen"} == out
    reasons = collections.Counter(row["reasons"][0].partition(":")[0] for row in again if row["reasons"])
    assert reasons == {"blurred": len(unsharp), "nsfw": len(out)}


@pytest.mark.timeout(300)
def test_duplicates_of_photographs_stand_side_by_side_with_their_distance(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus = Corpus(Store.at(tmp_path / "corpus"))
    built(corpus, corpus.head(), settings(tmp_path), [Deliveries(tmp_path).write(world())])
    page = tmp_path / "page.html"
    found = asked(tmp_path, capsys, "--rule", "exact_duplicate", "--rule", "max_hamming", "--out", str(page))
    assert not any(step["rules"] for step in found["steps"])
    exact, near = found["duplicates"]
    assert [(pair["uid"], pair["keeper"], pair["hamming"]) for pair in exact["pairs"]] == [
        ("acme:same", "acme:a01", 0)
    ]
    (pair,) = near["pairs"]
    assert {pair["uid"], pair["keeper"]} == {"acme:a02", "acme:worse"}
    assert pair["hamming"] <= 8
    html = page.read_text()
    assert html.count("data:image/jpeg;base64,") == 4
    assert f"{pair['hamming']} of 64 bits apart" in html
