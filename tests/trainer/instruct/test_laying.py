"""Which asset put which tokens of an example there, and which of them are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.packed import Modality, Role
from tokenizer_service import vocabulary
from trainer import tasks
from trainer.instruct import laying
from trainer.instruct.laying import Credit, Part
from trainer.instruct.scenes import Box
from trainer.tasks import (
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
    Written,
)

ONE, OTHER = Picture("a:1"), Picture("derived:2")
WHY: dict[str, Any] = {
    "question": "Why?",
    "context": "none",
    "options": "(A) so (B) not",
    "answer": "A",
    "image": ONE,
}
CODES = {"a:1": np.arange(4), "derived:2": np.arange(10, 14)}
LAID: list[tuple[Record, str | Picture, set[str | Picture]]] = [
    *((Captioned(caption="a cat", image=ONE, wording=n), "a cat", {ONE}) for n in range(2)),
    *(
        (Narrated(caption="A cat. It is red.", image=ONE, wording=n), "A cat. It is red.", {ONE})
        for n in range(4)
    ),
    *(
        (
            Asked(question="What is this?", answer="a cat", image=ONE, wording=n),
            "a cat",
            {"What is this?", ONE},
        )
        for n in range(3)
    ),
    (Reasoned(**WHY), "A", {"Why?", "none", "(A) so (B) not", ONE}),
    (
        Reasoned(**WHY, explanation="It is so.", wording=1),
        "A",
        {"Why?", "none", "(A) so (B) not", "It is so.", ONE},
    ),
    (Edited(before=ONE, instruction="paint it red", after=OTHER), OTHER, {ONE, "paint it red"}),
    (Written(text="1991", image=OTHER), OTHER, {"1991"}),
    (
        Grounded(caption="a cat", things=(Placed("cat", Box(1, 2, 30, 40)),), image=OTHER),
        OTHER,
        {"a cat", "cat at (1, 2) -> (30, 40)"},
    ),
    (
        Controlled(kind="depth", map=OTHER, caption="a cat", image=ONE),
        ONE,
        {"depth features", OTHER, "a cat"},
    ),
]
"""What is asked for of each record, and what is given."""


def encode(texts: Sequence[str]) -> list[NDArray[np.integer]]:
    return [np.frombuffer(text.encode(), np.uint8) for text in texts]


def credit(part: Part) -> Credit:
    return Credit(uid=part.picture or "words", revision=1)


def read(record: Record) -> tuple[set[str | Picture], set[str | Picture]]:
    """What its document says and shows in spans: as targets, and as given."""
    document = laying.laid("e", record, laying.parts(tasks.prompt(record), encode, CODES), credit)
    names = {tuple(codes.tolist()): Picture(uid) for uid, codes in CODES.items()}
    found: dict[Role, set[str | Picture]] = {role: set() for role in Role}
    for span in document.spans:
        ids = document.ids[span.start : span.start + span.length].astype(int)
        if span.modality == Modality.IMAGE:
            found[span.role].add(names[tuple((ids - vocabulary.IMAGE_START).tolist())])
        else:
            found[span.role].add(bytes((ids - vocabulary.TEXT_START).tolist()).decode())
    assert not found[Role.NEIGHBOR]
    return found[Role.TARGET], found[Role.GIVEN]


def test_every_wording_of_every_task_is_laid() -> None:
    said = {(type(record), record.wording) for record, _, _ in LAID}
    assert said == {(kind, n) for kind in tasks.TASKS.values() for n in range(len(kind.TEMPLATES))}


@pytest.mark.parametrize(("record", "asked", "given"), LAID)
def test_the_answer_alone_is_a_target_and_all_else_is_given(
    record: Record, asked: str | Picture, given: set[str | Picture]
) -> None:
    assert read(record) == ({asked}, given)
