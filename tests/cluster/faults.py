"""The table of faults: what breaks, what is promised, which test holds us to it, and how soon all was well.

Tests carry the first two as a mark, and give the last as a property; what a run found is written as lines of
JSON to the file that $PARDALIS_FAULTS names. ``python -m tests.cluster.faults LINES`` makes the page of it.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

FILE = "PARDALIS_FAULTS"
"""Names the file, and runs all faults: those that take a minute each are skipped without it."""
SECONDS = "seconds to recover"
PAGE = Path(__file__).parents[2] / "infra" / "deploy" / "faults.md"
HEAD = """# Faults

What may break under a job on a cluster, and what is promised then. Each line is a test in `tests/cluster`,
run on a Ray cluster of four nodes in network namespaces with the corpus on S3; the seconds are of runs on
two cores that all nodes shared. Ray's nodes counted as dead after 15 s without a sign of life there; with its
own settings it waits 65, and so do the lines of frozen nodes and of those that are cut off. To run them all
and to make this page again, as root:

    PARDALIS_FAULTS=faults.jsonl python -m pytest tests/cluster -m slow
    python -m tests.cluster.faults faults.jsonl

| fault | promise | test | result | seconds to recover |
|---|---|---|---|---|
"""
Recovered = Callable[[float], None]
seldom = pytest.mark.skipif(
    FILE not in os.environ,
    reason=f"all faults take 15 minutes on two cores; name a file for what is found with {FILE} to run this",
)
"""Not in CI: what dies there dies in the build under fire too, and the rest waits for Ray's own patience."""


def fault(what: str, promise: str) -> pytest.MarkDecorator:
    return pytest.mark.fault(what, promise)


def line(item: pytest.Item, report: pytest.TestReport) -> dict[str, Any] | None:
    """What a test that ran tells of its fault; None of others."""
    mark = item.get_closest_marker("fault")
    if mark is None or (report.when != "call" and report.passed):
        return None
    return {
        "fault": mark.args[0],
        "promise": mark.args[1],
        "test": item.name,
        "result": report.outcome,
        "seconds": dict(report.user_properties).get(SECONDS),
    }


def page(lines: Sequence[Mapping[str, Any]]) -> str:
    rows = []
    for one in lines:
        seconds = "" if one["seconds"] is None else f"{one['seconds']:.0f}"
        cells = (one["fault"], one["promise"], f"`{one['test']}`", one["result"], seconds)
        rows.append(f"| {' | '.join(cells)} |")
    return HEAD + "\n".join(rows) + "\n"


def main() -> None:
    found = [json.loads(text) for name in sys.argv[1:] for text in Path(name).read_text().splitlines()]
    last = {one["test"]: one for one in found}
    PAGE.write_text(page([*last.values()]))


if __name__ == "__main__":
    main()
