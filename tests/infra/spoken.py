"""Command lines of ours that a text tells to run, as the command itself takes them."""

from __future__ import annotations

import functools
import re
import shlex

from cyclopts import CycloptsError

from infra.cli import build_app
from pipeline import config, plan, reading
from pipeline.config import Config

COMMAND = re.compile(r"\bpardalis ((?:[^;&|`'#\n]|'[^'\n]*')+)")
NAMED = {
    "RUN": "runs/first",
    "CORPUS": "s3://bucket/corpus",
    "DELIVERY": "delivery",
    "UID": "agency:1",
    "FILE": "f",
}

BY_STEP = {"build": "to", "logs": "step"}
"""Commands that take the name of a step, and where."""


def commands(text: str) -> list[str]:
    """Without what leads to them; lines that go on are one, and of a job its own command."""
    found = (line.strip() for line in COMMAND.findall(text.replace("\\\n", " ")))
    return [line.partition(" -- ")[2] if line.startswith("submit ") else line for line in found]


def refused(line: str) -> str | None:
    """What the command has against it, by its words and by the step that it names."""
    words = [NAMED.get(word, word) for word in shlex.split(line)]
    try:
        command, given, _ = build_app().parse_args(words, exit_on_error=False, print_error=False)
    except CycloptsError as error:
        return f"pardalis {line}: {error}"
    step = given.arguments.get(BY_STEP.get(command.__name__, ""))
    if step not in {None, *steps()}:
        return f"pardalis {line}: there is no step {step!r}"
    return None


def configured(line: str) -> Config:
    """With the settings that it names."""
    _, given, _ = build_app().parse_args(shlex.split(line), exit_on_error=False, print_error=False)
    options = given.arguments["options"]
    return config.of(reading.read(options.config, options.overrides))


@functools.cache
def steps() -> frozenset[str]:
    return frozenset(step.name for step in plan.steps(Config()))
