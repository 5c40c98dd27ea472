"""A door of one's own: home, cache, temporary files and the working folder all lie where they are watched."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from .made import Door


@pytest.fixture
def door(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Door:
    for name in ("HOME", "XDG_CACHE_HOME", "TMPDIR"):
        folder = tmp_path / name.lower()
        folder.mkdir()
        monkeypatch.setenv(name, str(folder))
    # In this process the variable was read long ago.
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmpdir"))
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    return Door(tmp_path, capsys)
