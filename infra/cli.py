"""The ``pardalis`` command. Each package mounts its own commands through an entry point.

Commands are named by strings and imported when they run, so that ``--help`` answers at once.
Exit codes: 0 done, 1 the job failed, 2 the user's mistake, 3 a gate said no.
"""

from __future__ import annotations

import atexit
import importlib.metadata
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from cyclopts import App, CycloptsError, CycloptsPanel

from infra.access import show_token
from infra.ending import FAILED, MISTAKE, end
from infra.redaction import masked_here
from infra.telemetry import say

GROUP = "pardalis.commands"


def build_app() -> App:
    app = App(
        name="pardalis",
        version=importlib.metadata.version("pardalis"),
        help="A licensed image-text corpus, turned into retrieval-augmented token shards, and a compact "
        "transformer that writes images and text.",
    )
    for point in sorted(importlib.metadata.entry_points(group=GROUP), key=lambda point: point.name):
        point.load()(app)
    return app


def told_in_full(app: App, tokens: Sequence[str]) -> App:
    """The app, where a command that is asked for help tells its whole docstring, with the example.

    In lists a line stands for it, so that nothing is imported for them.
    """
    command = app
    if not {"--help", "-h"}.isdisjoint(tokens):
        for token in tokens:
            if token.startswith("-") or token not in command:
                break
            command = command[token]
        if command.default_command is not None:
            command.help = None
    return app


def run(tokens: Sequence[str]) -> int:
    """Run one command line and return its exit code."""
    try:
        result = told_in_full(build_app(), tokens)(
            list(tokens),
            exit_on_error=False,
            print_error=True,
            error_formatter=lambda error: CycloptsPanel(masked_here(str(error))),
            result_action="return_value",
        )
    except CycloptsError:
        return MISTAKE
    except Exception as error:  # noqa: BLE001  # the edge: every error ends as a line, a code and a trace
        return end(error, tokens)
    return result if isinstance(result, int) else 0


def leave(code: int) -> NoReturn:
    """End the process with all that an interpreter does at its end, but without ending the interpreter.

    A thread of Arrow may still let go of bytes that it read, for which it needs the interpreter's lock. Where
    the interpreter is ending by then, Python 3.11 ends the thread inside C++, and that aborts the process: 3
    of 60 runs that read a table, beside other load, printed their answer and ended with 134.
    """
    atexit._run_exitfuncs()  # noqa: SLF001  # nothing public runs them
    try:
        sys.stdout.flush()
    except OSError as error:  # nobody reads any more, or the disk is full
        say(f"pardalis: the answer could not be written: {error.strerror}")
        code = code or FAILED
    sys.stderr.flush()
    os._exit(code)


def main() -> NoReturn:
    show_token()
    leave(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
