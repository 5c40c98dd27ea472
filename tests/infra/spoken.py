"""Command lines of ours that a text tells to run, as the command itself takes them."""

from __future__ import annotations

import re
import shlex

from cyclopts import CycloptsError

from infra.cli import build_app

COMMAND = re.compile(r"\bpardalis ((?:[^;&|`'#\n]|'[^'\n]*')+)")
NAMED = {
    "RUN": "runs/first",
    "CORPUS": "s3://bucket/corpus",
    "DELIVERY": "delivery",
    "UID": "agency:1",
    "FILE": "f",
}


def commands(text: str) -> list[str]:
    """Without what leads to them; lines that go on are one."""
    found = (line.strip() for line in COMMAND.findall(text.replace("\\\n", " ")))
    return [line for line in found if not line.startswith("submit --")]


def refused(line: str) -> str | None:
    """What the command has against it."""
    words = [NAMED.get(word, word) for word in shlex.split(line)]
    try:
        build_app().parse_args(words, exit_on_error=False, print_error=False)
    except CycloptsError as error:
        return f"pardalis {line}: {error}"
    return None
