"""Examples in docstrings, run as they stand."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("infra", "pipeline", "retrieval", "tokenizer_service", "trainer")
NEEDS_A_CORPUS = {"pipeline.searching.library"}
"""Run by tests/laws/test_serving.py, on one that is built there."""


def modules() -> list[str]:
    """Those with an example."""
    files = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    shown = [path for path in files if ">>> " in path.read_text()]
    return [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in shown
    ]


@pytest.mark.parametrize("name", [name for name in modules() if name not in NEEDS_A_CORPUS])
def test_examples_hold(name: str) -> None:
    found = doctest.testmod(importlib.import_module(name), optionflags=doctest.IGNORE_EXCEPTION_DETAIL)
    assert found.attempted
    assert not found.failed
