"""``pardalis evaluate`` on a corpus of drawn shapes and a run that has hardly learnt anything."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from infra.cli import MISTAKE, run
from infra.corpus import Corpus
from infra.storage import Store
from pipeline.split import VALIDATION
from tests.laws.conftest import TINY, Deliveries, sample
from tokenizer_service import coding, metrics
from trainer.evaluation import command, known, redrawing, report
from trainer.evaluation.bench import Bench
from trainer.evaluation.judged import CEILING, COPY, MODEL
from trainer.evaluation.known import Known
from trainer.sampler import SamplerSection
from trainer.studio import open_studio
from trainer.tasks import Edited

TRAINER = """
[trainer.admission]
as_of = "2026-06-01T00:00:00Z"
[trainer.model]
num_layers = 1
width = 32
num_heads = 2
context = 220
init_std = 0.02
[trainer.masking]
max_spans = 1
[trainer.stream]
rows_per_step = 2
[trainer.optimizer]
num_steps = 20
warmup_steps = 2
[trainer.loop]
threads = 1
validate_every = 20
checkpoint_every = 20
[trainer.sampler]
max_text_tokens = 8
"""
AS_OF = "2026-06-01T00:00:00Z"

pytestmark = [pytest.mark.slow, pytest.mark.plan, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``corpus``, ``run`` and ``tiny.toml``."""
    root = tmp_path_factory.mktemp("evaluated")
    file = root / "tiny.toml"
    file.write_text(TINY.replace("context = 96", "context = 200") + TRAINER)
    options = ["--corpus", str(root / "corpus"), "--config", str(file), "--engine", "inline"]
    uri = Deliveries(root).write([sample(number) for number in range(32)])
    torch.set_num_threads(1)
    assert run(["ingest", uri, "--as-of", AS_OF, *options]) == 0
    assert run(["build", *options]) == 0
    assert run(["train", "--run", str(root / "run"), *options]) == 0
    return root


def words(place: Path, out: str, *more: str) -> list[str]:
    corpus = ["--corpus", str(place / "corpus")]
    return ["evaluate", "--run", str(place / "run"), *corpus, "--out", str(place / out), *more]


def told(place: Path, out: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((place / out / report.JSON).read_text())
    return found


def test_without_instruction_data_one_is_told_what_makes_it(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(words(place, "early", "--tasks", "edit")) == MISTAKE
    assert "pardalis instruct make" in capsys.readouterr().err
    assert not (place / "early").exists()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--tasks", "edits"], "is no task"),
        (["--items", "0"], "--items is 0"),
        (["--seed", "-1"], "--seed is -1"),
        (["--inception", "nowhere.pth"], "no such file"),
    ],
)
def test_a_mistake_is_named_before_the_work(
    place: Path, more: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(words(place, "mistaken", *more)) == MISTAKE
    assert said in capsys.readouterr().err


@pytest.fixture(scope="module")
def instructed(place: Path) -> Path:
    options = ["--corpus", str(place / "corpus"), "--config", str(place / "tiny.toml")]
    assert run(["instruct", "make", *options, "--engine", "inline"]) == 0
    return place


@pytest.fixture(scope="module")
def evaluated(instructed: Path) -> Path:
    assert run(words(instructed, "out", "--items", "6")) == 0
    return instructed


def test_every_task_has_a_place_in_the_report(evaluated: Path) -> None:
    (found,) = told(evaluated, "out")["runs"]
    assert list(found["parts"]) == list(command.PARTS)
    assert (evaluated / "out" / report.PAGE).is_file()
    for name, part in found["parts"].items():
        assert part["measures"] or part["tables"], name
        for measure in part["measures"]:
            assert measure["items"] <= 6 or name == "constraints", name
            for one in measure["means"].values():
                assert one["low"] <= one["mean"] <= one["high"]


def test_what_is_known_is_not_made_again(evaluated: Path) -> None:
    results = evaluated / "out" / command.RESULTS
    times = {path.name: path.stat().st_mtime_ns for path in results.iterdir()}
    before = told(evaluated, "out")
    assert run(words(evaluated, "out", "--items", "6")) == 0
    assert {path.name: path.stat().st_mtime_ns for path in results.iterdir()} == times
    assert told(evaluated, "out") == before


def test_a_copy_of_the_input_is_scored_as_the_input_behind_the_tokenizer(evaluated: Path) -> None:
    corpus = Corpus(Store.at(evaluated / "corpus"))
    version = corpus.newest()
    studio = open_studio(corpus, version, evaluated / "run")
    bench = Bench(
        corpus=corpus,
        version=version,
        studio=studio,
        known=Known(corpus, version, studio),
        section=SamplerSection(),
        seed=0,
        num_items=6,
    )
    items = bench.items(Edited)
    assert items
    befores = [item.pictures[item.record.before.uid] for item in items]
    drawn = redrawing.redrawn(bench, items, ["any"] * len(items))
    errors = redrawing.of_kind(items, [("any", None)] * len(items), drawn, "any")[0].scores
    for item, before, error in zip(items, befores, errors[COPY], strict=True):
        seen = coding.decode_codes(studio.vq, coding.encode_images(studio.vq, before[None]))[0]
        after = item.pictures[item.record.after.uid]
        assert error == pytest.approx(float(metrics.psnr_each(after[None], seen[None])[0]))
    assert errors[CEILING] != errors[COPY]


def test_the_packs_give_derived_pictures_of_training_back(evaluated: Path) -> None:
    corpus = Corpus(Store.at(evaluated / "corpus"))
    version = corpus.newest()
    studio = open_studio(corpus, version, evaluated / "run")
    training = Known(corpus, version, studio)
    derived = {one.record.after.uid for one in training.trained(Edited)}
    codes = training.codes(derived)
    assert codes.keys() == derived
    assert {len(one) for one in codes.values()} <= {studio.num_codes}
    held_out = {one.name for one in known.listed(corpus, version, VALIDATION)}
    assert held_out.isdisjoint(one.name for one in training.examples)


def test_two_runs_stand_side_by_side(evaluated: Path) -> None:
    both = [
        "--run",
        str(evaluated / "run"),
        *words(evaluated, "out", "--items", "6", "--tasks", "caption")[1:],
    ]
    assert run(["evaluate", *both]) == 0
    found = told(evaluated, "out")
    assert len(found["runs"]) == 2
    means = [one["parts"]["caption"]["measures"][0]["means"] for one in found["runs"]]
    assert means[0] == means[1]
    assert {MODEL, COPY} <= means[0].keys()
