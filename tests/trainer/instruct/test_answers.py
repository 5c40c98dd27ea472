import numpy as np
import pytest

from trainer.instruct import answers, wording
from trainer.instruct.answers import Question, Seen
from trainer.instruct.scenes import Box

LEFT, RIGHT, TOP = Box(0, 90, 80, 170), Box(176, 90, 256, 170), Box(90, 0, 170, 80)
APPLE = Seen(name="apple", keywords=("fruit", "food"), color="red", image_type="photo")
TABLE = Seen(name="apple", things=(("apple", LEFT), ("car", RIGHT), ("owl", TOP)))
OTHERS = ("apple", "pear", "red apple", "fruit salad", "car", "boat")


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def asked(seen: Seen, seed: int = 0) -> list[Question]:
    return answers.questions(seen, others=OTHERS, rng=rng(seed))


def answer(found: list[Question], *parts: str) -> set[str]:
    return {one.answer for one in found if any(part in one.text for part in parts)}


@pytest.mark.parametrize("seed", range(10))
def test_one_thing_is_asked_for_its_name_its_colour_and_the_kind_of_picture(seed: int) -> None:
    found = asked(APPLE, seed)
    assert {"an apple", "red", "a photo", "yes", "no"} == {one.answer for one in found}
    assert answer(found, "color", "colour") == {"red"}
    assert answer(found, "photo", "kind") == {"a photo"}


def test_what_is_not_known_is_not_asked() -> None:
    found = asked(Seen(name="apple", image_type="unknown"))
    assert {one.answer for one in found} == {"an apple", "yes", "no"}


@pytest.mark.parametrize(
    ("kind", "said"),
    [("vector", "a drawing"), ("illustration", "a drawing"), ("render_3d", "a 3D rendering")],
)
def test_the_kind_of_picture_is_the_catalogues(kind: str, said: str) -> None:
    assert said in {one.answer for one in asked(Seen(name="apple", image_type=kind))}


@pytest.mark.parametrize("seed", range(10))
def test_a_scene_is_asked_for_its_number_and_for_what_is_where(seed: int) -> None:
    found = asked(TABLE, seed)
    assert answer(found, "How many") == {"three"}
    assert answer(found, "on the left") == {"an apple"}
    assert answer(found, "on the right") == {"a car"}
    assert answer(found, "at the top") == {"an owl"}
    assert answer([one for one in found if one.text.startswith(("Where", "In which"))], "the car") == {
        "on the right"
    }


def test_a_place_that_two_things_share_and_a_name_that_two_bear_are_not_asked_about() -> None:
    seen = Seen(name="cat", things=(("cat", LEFT), ("cat", RIGHT), ("dog", Box(0, 60, 60, 120))))
    found = asked(seen)
    assert not answer(found, "on the left")
    assert not answer(found, "the cat?")
    assert answer(found, "the dog?") == {"on the left"}
    assert answer(found, "on the right") == {"a cat"}


@pytest.mark.parametrize(
    # An apple is there, so neither a red apple nor, by the keyword of the first, a fruit salad is denied.
    ("seen", "denied"),
    [(APPLE, {"pear", "car", "boat"}), (TABLE, {"pear", "boat", "fruit salad"})],
)
def test_yes_and_no_are_asked_equally_often_and_rightly(seen: Seen, denied: set[str]) -> None:
    told: dict[str, set[str]] = {"yes": set(), "no": set()}
    for seed in range(60):
        found = [one for one in asked(seen, seed) if one.answer in told]
        assert sorted(one.answer for one in found) == ["no", "yes"]
        for one in found:
            told[one.answer] |= {name for name in (*OTHERS, "owl") if wording.a(name) in one.text}
    assert told == {"yes": set(seen.names), "no": denied}


def test_without_a_name_to_deny_presence_is_not_asked_about() -> None:
    found = answers.questions(APPLE, others=["red apple"], rng=rng())
    assert not {"yes", "no"} & {one.answer for one in found}


def test_questions_are_the_same_again_and_vary_in_wording() -> None:
    assert asked(APPLE, 3) == asked(APPLE, 3)
    assert {asked(APPLE, seed)[0].text for seed in range(60)} == set(answers.WHAT)


def test_a_paragraph_says_what_is_where_on_which_ground() -> None:
    text = answers.paragraph(TABLE, ground="blue", rng=rng())
    assert text == "An apple on the left, a car on the right and an owl at the top, on a blue background."


@pytest.mark.parametrize("seed", range(10))
def test_a_paragraph_has_description_colour_kind_and_keywords(seed: int) -> None:
    text = answers.paragraph(APPLE, description="Fresh fruit from the garden", rng=rng(seed))
    assert text.startswith("Fresh fruit from the garden. A red apple. It is a photo. ")
    assert text.endswith("fruit and food.")


def test_a_name_that_says_the_colour_does_not_get_it_twice() -> None:
    seen = Seen(name="red apple", keywords=("red", "red apple"), color="red")
    assert answers.paragraph(seen, rng=rng()) == "A red apple."


def test_a_paragraph_says_no_more_keywords_than_four_in_the_catalogues_order() -> None:
    seen = Seen(name="cat", keywords=tuple("abcdefgh"))
    said = [
        word
        for word in answers.paragraph(seen, rng=rng(5)).rstrip(".").replace(",", " ").split()
        if len(word) == 1
    ]
    said = [word for word in said if word in "abcdefgh" and word != "A"]
    assert len(said) == answers.MAX_KEYWORDS
    assert said == sorted(said)
