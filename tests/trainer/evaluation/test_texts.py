from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.evaluation import texts

CAPTIONS = ["a red apple on a table", "two dogs run in the snow", "a red car"]
REFERENCES = [
    ["a red apple on a table", "an apple lies on wood"],
    ["two dogs play in the snow", "dogs running through white snow"],
    ["a blue car on a road", "a car"],
]


def grams(text: str, n: int) -> Counter[tuple[str, ...]]:
    words = text.split()
    return Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))


def literal_cider(captions: Sequence[str], references: Sequence[Sequence[str]]) -> list[float]:
    """CIDEr-D as its paper says it: clipped tf-idf cosines, with a penalty for another length."""
    found = []
    for caption, mine in zip(captions, references, strict=True):
        total = 0.0
        for n in range(1, 5):
            seen = Counter(g for some in references for g in {g for one in some for g in grams(one, n)})

            def weighed(text: str, n: int = n, seen: Counter[tuple[str, ...]] = seen) -> dict[object, float]:
                return {
                    gram: count * (math.log(len(references)) - math.log(max(1, seen[gram])))
                    for gram, count in grams(text, n).items()
                }

            for reference in mine:
                one, two = weighed(caption), weighed(reference)
                shared = sum(min(one[gram], two[gram]) * two[gram] for gram in one.keys() & two.keys())
                norms = math.sqrt(sum(v**2 for v in one.values())) * math.sqrt(
                    sum(v**2 for v in two.values())
                )
                apart = len(caption.split()) - len(reference.split())
                total += (shared / norms if norms else 0.0) * math.exp(-(apart**2) / 72) / len(mine)
        found.append(10 * total / 4)
    return found


def test_cider_is_the_papers() -> None:
    assert texts.cider(CAPTIONS, REFERENCES) == pytest.approx(literal_cider(CAPTIONS, REFERENCES), rel=1e-6)


def test_bleu_counts_shared_words_and_is_1_for_the_truth() -> None:
    one, *_ = texts.bleu(["the the the"], [["the cat"]])
    assert one == pytest.approx(1 / 3)
    assert texts.bleu([CAPTIONS[0]], [[CAPTIONS[0]]]) == pytest.approx([1.0] * 4)


def test_an_empty_caption_scores_nothing() -> None:
    assert texts.cider(["", *CAPTIONS[1:]], REFERENCES)[0] == 0.0


def literal_vqa(answer: str, given_: Sequence[str]) -> float:
    scores = []
    for i in range(len(given_)):
        others = [*given_[:i], *given_[i + 1 :]]
        scores.append(min(1.0, sum(one == answer for one in others) / 3))
    return sum(scores) / len(scores)


@given(st.lists(st.sampled_from(["red", "blue", "green"]), min_size=10, max_size=10))
def test_vqa_accuracy_leaves_each_of_ten_answers_out(given_: list[str]) -> None:
    assert texts.vqa_accuracy("Red.", given_) == pytest.approx(literal_vqa("red", given_))


@pytest.mark.parametrize(
    ("answer", "plain"),
    [
        ("The two dogs.", "2 dogs"),
        ("a cat", "cat"),
        ("Yes!", "yes"),
        ("dont know", "don't know"),
        ("1,000", "1000"),
        ("red/white", "red white"),
        ("3.5", "3.5"),
        ("none", "0"),
    ],
)
def test_answers_are_compared_as_vqa_compares_them(answer: str, plain: str) -> None:
    assert texts.plain(answer) == plain


def test_one_true_answer_is_right_or_wrong() -> None:
    assert texts.vqa_accuracy("A dog", ["dog"]) == 1.0
    assert texts.vqa_accuracy("cat", ["dog"]) == 0.0


def test_a_question_has_the_form_of_others_about_other_things() -> None:
    names = ["red apple", "apple", "owl"]
    assert texts.form("What color is the Red Apple?", names) == texts.form("What color is the owl?", names)
    assert texts.form("Is there an owl?", names) == texts.form("Is there a red apple?", names)
    assert texts.form("Is it a bowl?", names) == "is it a bowl?"


def test_chance_says_what_training_said_most_often() -> None:
    counts = {"is it …?": Counter(yes=2, no=3), "how many …?": Counter({"2": 9})}
    assert texts.commonest(counts, "is it …?") == "no"
    assert texts.commonest(counts, "never asked") == "2"
    assert texts.commonest({}, "never asked") == ""


def literal_distance(one: str, two: str) -> int:
    if not one or not two:
        return max(len(one), len(two))
    if one[0] == two[0]:
        return literal_distance(one[1:], two[1:])
    return 1 + min(
        literal_distance(one[1:], two), literal_distance(one, two[1:]), literal_distance(one[1:], two[1:])
    )


@given(st.text("AB1", max_size=5), st.lists(st.text("AB1", max_size=5), max_size=4))
def test_distances_are_levenshteins(text: str, others: list[str]) -> None:
    expected = [literal_distance(text, other) for other in others]
    assert texts.distances(text, others).tolist() == expected


def test_letters_right_are_between_0_and_1() -> None:
    assert texts.character_accuracy("STOP", "STOP") == 1.0
    assert texts.character_accuracy("SHOP", "STOP") == 0.75
    assert texts.character_accuracy("QQQQQQQQQQ", "STOP") == 0.0
    assert texts.character_accuracy("", "STOP") == 0.0


def test_no_distance_to_nothing() -> None:
    assert texts.distances("STOP", []).shape == np.zeros(0).shape
