import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer import tasks
from trainer.instruct.scenes import Box
from trainer.tasks import (
    FEATURES,
    TASKS,
    Asked,
    Captioned,
    Controlled,
    Edited,
    Grounded,
    Narrated,
    Picture,
    Placed,
    Reasoned,
    Record,
    Unwritable,
    Written,
    parse,
    prompt,
    said,
)

PICTURE = Picture("emoji:apple")
TABLE = {
    Edited: (
        {"before": PICTURE, "instruction": "make the sky blue", "after": Picture("derived:1")},
        ["Edit first image following the instruction <break> {} <break> make the sky blue <break> {}"],
    ),
    Written: ({"text": "1991", "image": PICTURE}, ['draw "1991" <break> {}']),
    Grounded: (
        {
            "caption": "a sink and a mirror",
            "things": (Placed("bottle", Box(199, 130, 204, 150)), Placed("sink", Box(1, 2, 3, 4))),
            "image": PICTURE,
        },
        [
            (
                "Generate high quality image of a sink and a mirror with segmentations bottle at (199, 130) "
                "-> (204, 150), sink at (1, 2) -> (3, 4) <break> {}"
            )
        ],
    ),
    Controlled: (
        {"kind": "canny edge", "map": Picture("derived:2"), "caption": "an apple", "image": PICTURE},
        ["Make high quality image from canny edge features <break> {} <break> an apple <break> {}"],
    ),
    Captioned: (
        {"caption": "an apple", "image": PICTURE},
        ["Describe the given picture. an apple <break> {}", "an apple <break> {}"],
    ),
    Narrated: (
        {"caption": "A red apple. A leaf.", "image": PICTURE},
        [
            f"{words} A red apple. A leaf. <break> {{}}"
            for words in (
                "Describe the given picture in very detail.",
                "Describe all the objects in the given image in very detail.",
                "Generate a long caption for the given image.",
                "Generate a long narration of what is happening in the given image.",
            )
        ],
    ),
    Asked: (
        {"question": "What is this?", "answer": "an apple", "image": PICTURE},
        [
            "Question: What is this? Answer: an apple. <break> {}",
            "Question: What is this?\nan apple <break> {}",
            "Question: What is this? The answer is an apple. <break> {}",
        ],
    ),
    Reasoned: (
        {"question": "Which?", "context": "Fruit.", "options": "(A) pear (B) apple", "image": PICTURE},
        [
            "Question: Which?\nContext: Fruit.\nOptions: (A) pear (B) apple\nAnswer: apple. <break> {}",
            (
                "Question: Which?\nContext: Fruit.\nOptions: (A) pear (B) apple\nAnswer: Let's think "
                "step-by-step: It is red. So the answer is apple. <break> {}"
            ),
        ],
    ),
}
"""Literally as in arXiv 2309.02591, table 5, with ``{}`` for pictures."""


def records() -> list[Record]:
    found = []
    for kind, (values, wordings) in TABLE.items():
        for wording in range(len(wordings)):
            more = {}
            if kind is Reasoned:
                more = {"answer": "apple", "explanation": "It is red." if wording else ""}
            found.append(kind(wording=wording, **values, **more))
    return found


def as_text(record: Record) -> str:
    return f" {tasks.BREAK} ".join("{}" if isinstance(one, Picture) else one for one in said(prompt(record)))


def test_every_task_of_the_table_is_there_with_every_wording() -> None:
    assert set(TABLE) == set(TASKS.values())
    for kind, (_, wordings) in TABLE.items():
        assert len(kind.TEMPLATES) == len(wordings)


@pytest.mark.parametrize("record", records(), ids=lambda one: f"{tasks.NAMES[type(one)]}-{one.wording}")
def test_a_record_is_written_as_the_paper_writes_it_and_read_again(record: Record) -> None:
    assert as_text(record) == TABLE[type(record)][1][record.wording]
    assert parse(said(prompt(record))) == record


LINES = st.text(min_size=1, max_size=20).map(str.strip).filter(bool)
PICTURES = st.text(min_size=1, max_size=8).map(Picture)
CORNERS = st.integers(0, 255)


@st.composite
def boxes(draw: st.DrawFn) -> Box:
    x0, y0 = draw(CORNERS), draw(CORNERS)
    return Box(x0, y0, draw(st.integers(x0 + 1, 256)), draw(st.integers(y0 + 1, 256)))


FIELDS = {
    "kind": st.sampled_from(sorted(FEATURES)),
    "things": st.lists(st.builds(Placed, LINES, boxes()), min_size=1, max_size=3).map(tuple),
    **dict.fromkeys(tasks.PICTURES, PICTURES),
}


@given(data=st.data())
def test_any_record_that_can_be_made_is_read_from_its_prompt(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(sorted(TASKS.values(), key=lambda one: one.__name__)))
    wording = data.draw(st.integers(0, len(kind.TEMPLATES) - 1))
    names = [name for part in tasks._parts(kind.TEMPLATES[wording]) for name in tasks.FIELD.findall(part)]  # noqa: SLF001
    values = {name: data.draw(FIELDS.get(name, LINES), label=name) for name in names}
    try:
        record = kind(wording=wording, **values)
    except Unwritable:
        return
    assert parse(said(prompt(record))) == record
    assert all(getattr(record, name) == value for name, value in values.items())


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (Captioned, {"caption": "two\nlines", "image": PICTURE}),
        (Captioned, {"caption": " space", "image": PICTURE}),
        (Captioned, {"caption": "", "image": PICTURE}),
        (Captioned, {"caption": 'draw "me"', "image": PICTURE, "wording": 1}),
        (Captioned, {"caption": "x", "image": PICTURE, "wording": 2}),
        (Asked, {"question": "Is it? Answer: no.", "answer": "yes", "image": PICTURE}),
        (Grounded, {"caption": "c", "things": (), "image": PICTURE}),
        (Grounded, {"caption": "c", "things": (Placed("a", Box(9, 0, 9, 5)),), "image": PICTURE}),
    ],
)
def test_a_record_that_its_prompt_would_not_give_back_is_refused(kind: type[Record], values: dict) -> None:
    with pytest.raises(Unwritable):
        kind(**values)


def test_a_caption_with_plain_words_is_not_refused() -> None:
    record = Grounded(caption="a cat at (1, 2)", things=(Placed("cat", Box(0, 0, 1, 1)),), image=PICTURE)
    assert parse(said(prompt(record))) == record


def test_the_words_of_a_template_are_told_from_those_of_a_field() -> None:
    record = Asked(question="What?", answer="this", image=PICTURE)
    words, picture = prompt(record)
    assert isinstance(words, tuple)
    assert [(one.text, one.field) for one in words] == [
        ("Question: ", None),
        ("What?", "question"),
        (" Answer: ", None),
        ("this", "answer"),
        (".", None),
    ]
    assert picture == PICTURE


def test_what_is_no_prompt_of_a_task_is_told() -> None:
    with pytest.raises(ValueError, match="no task has the prompt"):
        parse([PICTURE])
