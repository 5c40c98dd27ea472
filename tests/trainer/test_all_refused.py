"""A corpus whose licences have all ended since it was built: what a model of it still does, and is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from infra.cli import MISTAKE, run
from infra.options import CorpusOptions
from tests.laws.conftest import TINY, Deliveries, drawing, license_, sample
from tests.trainer.evaluation.test_command import TRAINER
from trainer import playground
from trainer.evaluation import command

THEN, UNTIL = "2023-06-01T00:00:00Z", "2024-06-01T00:00:00Z"
NUM = 32

pytestmark = [pytest.mark.slow, pytest.mark.plan, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``corpus``, ``run`` and ``a.png``."""
    root = tmp_path_factory.mktemp("refused")
    file = root / "tiny.toml"
    file.write_text(
        (TINY.replace("context = 96", "context = 200") + TRAINER).replace("2026-06-01", "2023-06-01")
    )
    options = ["--corpus", str(root / "corpus"), "--config", str(file), "--engine", "inline"]
    ending = license_(valid_until=UNTIL)
    uri = Deliveries(root).write([sample(number) for number in range(NUM)], {ending.license_id: ending})
    torch.set_num_threads(1)
    assert run(["ingest", uri, "--as-of", THEN, *options]) == 0
    assert run(["build", *options]) == 0
    assert run(["train", "--run", str(root / "run"), *options]) == 0
    (root / "a.png").write_bytes(drawing(3)[1])
    return root


def words(place: Path, name: str) -> list[str]:
    return [name, "--run", str(place / "run"), "--corpus", str(place / "corpus")]


@pytest.mark.parametrize(
    "task", [["--text", "a red circle"], ["--image", "a.png", "--edit", "make it blue"]], ids=["draw", "edit"]
)
def test_pictures_are_drawn_without_neighbors(place: Path, task: list[str], tmp_path: Path) -> None:
    out = tmp_path / "out.png"
    task = [str(place / one) if one == "a.png" else one for one in task]
    assert run([*words(place, "sample"), *task, "--out", str(out)]) == 0
    with Image.open(out) as image:
        assert json.loads(image.info["pardalis"])["neighbors"] == []


def test_the_playground_begins_and_says_how_many_tokens_a_picture_has(place: Path) -> None:
    easel, opened = playground.easel_of(place / "run", CorpusOptions(corpus=str(place / "corpus")), None)
    assert playground.about(easel, opened)["num_tokens"] == easel.studio.grid**2 == 16
    assert easel.studio.neighbors("a red circle", 2) == []


@pytest.mark.parametrize("part", sorted(command.FREE))
def test_nothing_is_evaluated_and_one_is_told_why(
    place: Path, part: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = [*words(place, "evaluate"), "--tasks", part, "--items", "6", "--out", str(tmp_path / "out")]
    assert run(told) == MISTAKE
    said = capsys.readouterr().err
    assert f"{NUM} of its {NUM} assets are revoked" in said
    assert str(place / "corpus") in said
