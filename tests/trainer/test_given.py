from __future__ import annotations

from pathlib import Path

import pytest

from trainer import doing, given
from trainer.instruct.scenes import Box
from trainer.sampling import Show, TaskOptions, Tell
from trainer.tasks import Controlled, Grounded, Picture, Placed

THINGS = "a red sink at (20, 90) -> (120, 200), bottle at (180, 40) -> (210, 256)"


def test_things_are_read_as_their_prompt_says_them() -> None:
    found = given.read("grounded", ["caption=a room = a kitchen", f"things={THINGS}"])
    placed = (Placed("a red sink", Box(20, 90, 120, 200)), Placed("bottle", Box(180, 40, 210, 256)))
    assert found.record == Grounded(caption="a room = a kitchen", things=placed, image=given.ASKED)
    assert (found.words, found.is_picture, found.pictures) == ("a room = a kitchen", True, {})


def test_pictures_are_files_by_the_fields_that_name_them() -> None:
    words = ["map=edges.png", "kind=canny edge", "caption=a bird"]
    found = given.read("control", words)
    assert found.pictures == {"map": Path("edges.png")}
    assert found.record == Controlled(
        kind="canny edge", map=Picture("map"), caption="a bird", image=given.ASKED
    )
    assert doing.files(Show(found)) == {"map": Path("edges.png")}


def test_a_task_is_told_or_shown_by_what_it_asks_for() -> None:
    said = TaskOptions(task_name="long-caption", given=("image=a.png",)).task()
    assert isinstance(said, Tell)
    assert isinstance(TaskOptions(task_name="sign", given=("text=1991",)).task(), Show)


@pytest.mark.parametrize(
    ("task", "words", "told"),
    [
        ("edit", [], "--image FILE --edit INSTRUCTION"),
        ("paint", [], "give one of control"),
        ("sign", [], "lacks text"),
        ("sign", ["text=a", "image=b.png"], "has image unasked or twice"),
        ("sign", ["text=a", "text=b"], "has text unasked or twice"),
        ("control", ["map=a.png", "kind=oil", "caption=x"], "canny edge"),
        ("grounded", ["caption=x", "things="], "write NAME at"),
        ("grounded", ["caption=x", "things=a at (0, 0) -> (257, 10)"], "write NAME at"),
        ("grounded", ["caption=x", "things=a at (9, 0) -> (9, 10)"], "write NAME at"),
        ("grounded", [f"caption=x with segmentations {THINGS}", f"things={THINGS}"], "read from its prompt"),
    ],
)
def test_what_a_prompt_cannot_say_is_refused(task: str, words: list[str], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        given.read(task, words)


def test_a_task_by_name_stands_alone() -> None:
    with pytest.raises(ValueError, match="given is --text, --given"):
        TaskOptions(text="a circle", task_name="sign").task()
    with pytest.raises(ValueError, match="given is --given"):
        TaskOptions(given=("text=a",)).task()
