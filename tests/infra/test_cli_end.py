"""How the command's process ends: with its code, its whole answer, and nothing of the interpreter's end."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from infra.ending import FAILED

pytestmark = pytest.mark.long

LEAVES = """
import atexit, sys
from infra.cli import leave
class Held:
    def __del__(self):
        sys.stderr.write("the interpreter ended")
held = Held()
atexit.register(sys.stdout.write, " and what is registered")
sys.stdout.write("answer")
leave({code})
"""


def left(code: int, out: int) -> subprocess.CompletedProcess[str]:
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    command = [sys.executable, "-c", LEAVES.format(code=code)]
    return subprocess.run(command, stdout=out, stderr=subprocess.PIPE, text=True, check=False, env=buffered)


def test_a_command_ends_with_its_code_and_its_answer_and_no_object_is_torn_down() -> None:
    ended = left(3, subprocess.PIPE)
    assert (ended.returncode, ended.stdout, ended.stderr) == (3, "answer and what is registered", "")


def test_an_answer_that_could_not_be_written_is_a_failure_that_says_so() -> None:
    with Path("/dev/full").open("w") as full:
        ended = left(0, full.fileno())
    assert ended.returncode == FAILED
    assert ended.stderr == "pardalis: the answer could not be written: No space left on device\n"
