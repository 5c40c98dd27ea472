"""The ``pardalis`` command. Each package mounts its own commands through an entry point.

Commands are named by strings and imported when they run, so that ``--help`` answers at once.
Exit codes: 0 done, 1 the job failed, 2 the user's mistake, 3 a gate said no.
"""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Sequence

from cyclopts import App, CycloptsError

from infra.access import show_token
from infra.corpus import LeaseHeld, NoCorpus
from infra.storage import Missing
from infra.telemetry import say

GROUP = "pardalis.commands"
FAILED, MISTAKE, REFUSED = 1, 2, 3


class GateRefused(RuntimeError):
    """The work was done and a gate said no: a metric is under its target, or a leak was found."""


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


def run(tokens: Sequence[str]) -> int:
    """Run one command line and return its exit code."""
    try:
        result = build_app()(
            list(tokens), exit_on_error=False, print_error=True, result_action="return_value"
        )
    except CycloptsError:
        return MISTAKE
    except GateRefused as error:
        say(f"pardalis: {error}")
        return REFUSED
    except LeaseHeld as error:
        say(f"pardalis: {error}")
        return FAILED
    except (NoCorpus, Missing, ValueError) as error:
        # ValueError is how this code says that an input is wrong; the message names it and the fix.
        say(f"pardalis: {error}")
        return MISTAKE
    except RuntimeError as error:
        say(f"pardalis: {error}")
        return FAILED
    return result if isinstance(result, int) else 0


def main() -> None:
    show_token()
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
