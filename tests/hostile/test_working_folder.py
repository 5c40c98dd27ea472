"""A command runs nothing of the folder that it is started in, on either engine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from infra.storage import Store
from tests.pipeline import agencies

from .made import AS_OF

PROGRAM = Path(sys.executable).with_name("pardalis")
MODULES = ("PIL.py", "pipeline/__init__.py", "defusedxml/__init__.py", "ray/__init__.py", "json.py")


@pytest.mark.timeout(300)
@pytest.mark.parametrize("engine", ["inline", pytest.param("ray", marks=pytest.mark.ray)])
def test_modules_in_the_working_folder_are_not_imported(tmp_path: Path, engine: str) -> None:
    trap = tmp_path / "ran"
    program = f"open({str(trap)!r}, 'a').write(__name__)\nraise ImportError\n".encode()
    here = Store.at(tmp_path / "here")
    for name in MODULES:
        here.write(name, program)
    agencies.folder().write(Store.at(tmp_path / "here" / "delivery"))
    command = [str(PROGRAM), "ingest", "delivery", "--corpus", str(tmp_path / "corpus"), "--as-of", AS_OF]
    done = subprocess.run(
        [*command, "--engine", engine],
        cwd=tmp_path / "here",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not trap.exists(), trap.read_text()
