"""A task's record from the words of a command: ``FIELD=VALUE`` for each field that is given.

The surprising rule: what is asked for is not given. It stands in the record as a word of ours, and no prompt
looks at it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

from trainer import tasks
from trainer.instruct.scenes import GRID
from trainer.tasks import ASKED, FEATURES, PICTURES, READ, TASKS, Picture, Record

ELSEWHERE: Mapping[str, str] = {
    "edit": "--image FILE --edit INSTRUCTION",
    "question": "--image FILE --ask QUESTION",
}
"""How tasks are asked for that have options of their own."""
NAMES = [name for name in TASKS if name not in ELSEWHERE]


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    name: str
    """Of the task."""
    record: Record
    pictures: Mapping[str, Path]
    """Files, by the uids that the record has for them."""

    @property
    def is_picture(self) -> bool:
        """Whether a picture is asked for, and not words."""
        return self.record.TARGET in PICTURES

    @property
    def words(self) -> str:
        """What a picture shall show."""
        return str(getattr(self.record, "caption", "") or getattr(self.record, "text", ""))


def read(task: str, given: Sequence[str]) -> Given:
    """The record of a task; ``ValueError`` says what is missing, or what its prompt cannot say."""
    if task not in NAMES:
        fix = f"ask for it by {ELSEWHERE[task]}" if task in ELSEWHERE else f"give one of {', '.join(NAMES)}"
        raise ValueError(f"--task is {task!r}; {fix}")
    kind = TASKS[task]
    told = dict(one.partition("=")[::2] for one in given)
    known = {one.name: one for one in fields(kind) if one.name not in ("wording", kind.TARGET)}
    missing = [name for name, one in known.items() if one.default is MISSING and name not in told]
    unknown = [name for name in told if name not in known]
    if missing or unknown or len(told) < len(given):
        wrong = f"lacks {missing[0]}" if missing else f"has {(unknown or [*told])[0]} unasked or twice"
        listed = " ".join(f"--given {name}=…" for name in known)
        raise ValueError(f"--task {task} {wrong}; give {listed}")
    values = {name: _value(name, text) for name, text in told.items()}
    values[kind.TARGET] = ASKED if kind.TARGET in PICTURES else "?"
    return Given(
        name=task,
        record=kind(**values),
        pictures={name: Path(told[name]) for name in told if name in PICTURES},
    )


def _value(name: str, text: str) -> Any:
    if name in PICTURES:
        return Picture(name)
    if name == "kind":
        if text not in FEATURES:
            raise ValueError(f"--given kind={text}: give one of {', '.join(FEATURES)}")
        return text
    return _things(text) if name == "things" else text


def _things(text: str) -> tuple[tasks.Placed, ...]:
    things: tuple[tasks.Placed, ...] | None = READ["things"](text)
    if not things or any(max(one.box.x1, one.box.y1) > GRID for one in things):
        raise ValueError(
            f"--given things={text}: write NAME at (x0, y0) -> (x1, y1) in pixels of a square of {GRID}, and "
            "a comma and a space between things"
        )
    return things
