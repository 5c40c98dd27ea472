"""The door of these tests sees what is left behind, and where."""

from __future__ import annotations

import tempfile

from .made import Door


def test_a_temporary_file_that_is_left_behind_is_seen(door: Door) -> None:
    before = door.outside()
    with tempfile.NamedTemporaryFile(delete=False) as left:
        left.write(b"x")
    assert door.outside().keys() - before.keys() == {left.name}
