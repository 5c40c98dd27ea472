from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from infra.serving.refusal import Refusal
from trainer.instruct.scenes import Box
from trainer.playing import wishes
from trainer.sampler import SamplerSection
from trainer.sampling import Show
from trainer.tasks import Placed

THING = {"name": "a cup", "x0": 1, "y0": 2, "x1": 30, "y1": 256}
FORMS: dict[str, dict[str, Any]] = {
    "draw": {"text": "a cup"},
    "edit": {"image": "a.png", "instruction": "make it red"},
    "ask": {"image": "a.png", "question": "What is it?"},
    "caption": {"image": "a.png", "long": True},
    "ground": {"caption": "a room", "things": [THING]},
    "infill": {"image": "a.png", "mask": "b.png"},
}


@pytest.mark.parametrize("task", FORMS)
def test_every_form_is_a_task_of_the_command(task: str) -> None:
    wish = wishes.parsed({"task": task, **FORMS[task]})
    wish.options(Path).task()
    wish.drawing().check()


def test_a_picture_is_where_it_lies() -> None:
    wish = wishes.parsed({"task": "infill", **FORMS["infill"]})
    options = wish.options(lambda name: Path("/album") / name)
    assert (options.image, options.mask, options.text) == (Path("/album/a.png"), Path("/album/b.png"), None)


def test_boxes_stand_in_the_prompt_as_they_were_drawn() -> None:
    task = wishes.parsed({"task": "ground", **FORMS["ground"]}).options(Path).task()
    assert isinstance(task, Show)
    assert getattr(task.given.record, "things") == (Placed("a cup", Box(1, 2, 30, 256)),)  # noqa: B009  # of one kind of record


def test_settings_that_are_as_the_run_has_them_stand_in_no_command() -> None:
    settings = wishes.Settings(guidance=3.0, temperature=0.5)
    assert settings.overrides(SamplerSection()) == ("trainer.sampler.temperature = 0.5",)


@pytest.mark.parametrize(
    ("told", "where"),
    [
        ([], "task"),
        ({}, "task"),
        ({"task": "paint"}, "task"),
        ({"task": "draw", "text": " "}, "text"),
        ({"task": "draw", "text": "x" * 1001}, "text"),
        ({"task": "draw", "text": "a\nb"}, "text"),
        ({"task": "draw", "text": "a\x00b"}, "text"),
        ({"task": "draw", "text": 3}, "text"),
        ({"task": "draw", "text": "a", "path": "/etc/passwd"}, "path"),
        ({"task": "draw", "text": "a", "samples": 9}, "samples"),
        ({"task": "draw", "text": "a", "samples": 0}, "samples"),
        ({"task": "draw", "text": "a", "samples": True}, "samples"),
        ({"task": "draw", "text": "a", "neighbors": 3}, "neighbors"),
        ({"task": "draw", "text": "a", "without": ["a"] * 33}, "without"),
        ({"task": "draw", "text": "a", "seed": -1}, "seed"),
        ({"task": "draw", "text": "a", "seed": 2**53}, "seed"),
        ({"task": "draw", "text": "a", "settings": {"top_p": 0}}, "settings.top_p"),
        ({"task": "draw", "text": "a", "settings": {"precision": "int8"}}, "settings.precision"),
        ({"task": "ask", "image": "a", "question": "b", "settings": {"max_text_tokens": 9999}}, "settings"),
        ({"task": "ground", "caption": "a", "things": []}, "things"),
        ({"task": "ground", "caption": "a", "things": [THING] * 9}, "things"),
        ({"task": "ground", "caption": "a", "things": [{**THING, "x1": 257}]}, "things.0.x1"),
        ({"task": "ground", "caption": "a", "things": [{**THING, "x1": 1}]}, "things.0"),
    ],
)
def test_a_field_that_is_wrong_is_named(told: object, where: str) -> None:
    with pytest.raises(Refusal) as refused:
        wishes.parsed(told)
    assert refused.value.status == 422
    assert refused.value.error.startswith(f"{where}")
