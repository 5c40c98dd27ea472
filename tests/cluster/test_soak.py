"""The log that is kept of a long build under fire; a short one is in test_four_nodes.py."""

from __future__ import annotations

import re

from tests.cluster.soak import LOG


def test_the_log_of_the_long_run_is_of_one_that_passed() -> None:
    told = LOG.read_text()
    (kills,) = [line for line in told.splitlines() if " kills; " in line]
    assert int(kills.split()[1]) >= 10
    assert kills.endswith(" of which 0 differ")
    assert told.count(": killed ") == int(kills.split()[1])
    assert not re.search(r"(^|\s)/\w", told), "a path of the machine that it ran on"
