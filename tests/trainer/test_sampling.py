from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest

from infra.options import CorpusOptions
from trainer import sampling
from trainer.sampler import SamplerSection
from trainer.sampling import Ask, Caption, Draw, DrawOptions, Edit, Infill, Task, TaskOptions

IMAGE, MASK = Path("a.png"), Path("mask.png")


@pytest.mark.parametrize(
    ("options", "task"),
    [
        (TaskOptions(text="a circle"), Draw("a circle")),
        (TaskOptions(image=IMAGE), Caption(IMAGE)),
        (TaskOptions(image=IMAGE, edit="make it blue"), Edit(IMAGE, "make it blue")),
        (TaskOptions(image=IMAGE, mask=MASK), Infill(IMAGE, MASK, "")),
        (TaskOptions(image=IMAGE, mask=MASK, text="a circle"), Infill(IMAGE, MASK, "a circle")),
        (TaskOptions(image=IMAGE, ask="What is it?"), Ask(IMAGE, "What is it?")),
    ],
)
def test_the_options_that_are_given_name_the_task(options: TaskOptions, task: Task) -> None:
    assert options.task() == task


@pytest.mark.parametrize(
    ("options", "given"),
    [
        (TaskOptions(), "nothing"),
        (TaskOptions(text="a circle", image=IMAGE), "--text, --image"),
        (TaskOptions(mask=MASK, text="a circle"), "--text, --mask"),
        (TaskOptions(image=IMAGE, edit="make it blue", ask="What is it?"), "--image, --edit, --ask"),
    ],
)
def test_options_that_name_no_task_are_refused(options: TaskOptions, given: str) -> None:
    with pytest.raises(ValueError, match=f"given is {given}$"):
        options.task()


def test_the_command_repeats_what_differs_from_the_defaults_and_no_signer() -> None:
    again = sampling.command(
        Path("demo/run"),
        TaskOptions(text="it's red"),
        DrawOptions(out=IMAGE, samples=4, best=True, neighbors=0, sign=Path("c.pem"), key=Path("k.pem")),
        CorpusOptions(corpus="demo/corpus", overrides=("trainer.sampler.top_p = 0.9", "a = 1"), json=True),
    )
    assert again == (
        "pardalis sample --run demo/run --text 'it'\"'\"'s red' --out a.png --neighbors 0 --samples 4 --best "
        "--corpus demo/corpus --set 'trainer.sampler.top_p = 0.9' --set 'a = 1'"
    )


@pytest.mark.parametrize(
    ("task", "drawing", "told"),
    [
        (Edit(IMAGE, "make it blue"), DrawOptions(neighbors=1), "--neighbors with edit"),
        (Edit(IMAGE, "make it blue"), DrawOptions(neighbors=sampling.NEIGHBORS), "--neighbors with edit"),
        (Infill(IMAGE, MASK, ""), DrawOptions(without=("acme:1",)), "--without with infill"),
        (Caption(IMAGE), DrawOptions(out=IMAGE, samples=2, neighbors=1), "--out, --samples with caption"),
        (Ask(IMAGE, "What is it?"), DrawOptions(neighbors=1), "--neighbors with ask"),
        (Edit(IMAGE, "make it blue"), DrawOptions(samples=2, best=True), "--best with edit"),
        (Infill(IMAGE, MASK, ""), DrawOptions(samples=2, best=True), "--best with infill"),
    ],
)
def test_options_without_effect_are_refused(task: Task, drawing: DrawOptions, told: str) -> None:
    with pytest.raises(ValueError, match=f"^{told}: "):
        drawing.check_fits(task)


@pytest.mark.parametrize(
    ("task", "drawing"),
    [
        (Draw("a circle"), DrawOptions(neighbors=0, without=("acme:1",), samples=3, best=True)),
        (Infill(IMAGE, MASK, "a circle"), DrawOptions(neighbors=1, samples=2, best=True)),
        (Edit(IMAGE, "make it blue"), DrawOptions(out=IMAGE, samples=2)),
        (Ask(IMAGE, "What is it?"), DrawOptions(seed=3)),
        (Caption(IMAGE), DrawOptions(seed=3, neighbors=1, without=("acme:1",))),
    ],
)
def test_options_with_an_effect_are_not(task: Task, drawing: DrawOptions) -> None:
    drawing.check_fits(task)


@pytest.mark.parametrize("method", ["half", "contrastive"])
def test_an_edit_by_a_method_that_knows_none_is_refused(method: Literal["half", "contrastive"]) -> None:
    section = SamplerSection(method=method)
    sampling.check_section(Draw("a circle"), section)
    with pytest.raises(ValueError, match="knows no two-term guidance; set 'top_p'"):
        sampling.check_section(Edit(IMAGE, "make it blue"), section)


def test_the_command_names_a_corpus_that_nobody_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARDALIS_CORPUS", "demo/corpus")
    told = sampling.command(Path("run"), CorpusOptions())
    assert told == "pardalis sample --run run --corpus demo/corpus"
