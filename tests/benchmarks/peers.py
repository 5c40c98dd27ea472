"""Programs that benchmarks run: peers in venvs with their own pins, and what a program tells."""

from __future__ import annotations

import json
import os
import subprocess
import venv
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np


def python(place: Path, packages: Iterable[str], *, lent: bool = True) -> str:
    """The interpreter of a venv, made once. ``lent``: what it lacks, torch above all, is found in ours."""
    found = place / "bin" / "python"
    if not (place / "ready").exists():
        venv.create(place, with_pip=True, clear=True)
        if lent:
            (site,) = place.glob("lib/python3*/site-packages")
            (site / "ours.pth").write_text(str(Path(np.__file__).parents[1]) + "\n")
        subprocess.run([str(found), "-m", "pip", "install", "--quiet", *packages], check=True)
        (place / "ready").touch()
    return str(found)


def told_by(*words: object, **environment: str) -> Any:
    """The JSON that a program ends with."""
    done = subprocess.run(
        [str(word) for word in words], check=True, stdout=subprocess.PIPE, env={**os.environ, **environment}
    )
    return json.loads(done.stdout.splitlines()[-1])
