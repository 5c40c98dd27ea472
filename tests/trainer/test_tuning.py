from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from trainer import folder
from trainer.tuning import SOURCE, Start, check_resumed

CONFIG: dict[str, Any] = {
    "base": {"folder": "runs/first", "identity": "a", "checkpoint": "step-1"},
    "sources": {SOURCE: {"weight": 3.0}},
}


def base(place: Path, identity: str) -> Path:
    (place / folder.RUN).write_text(json.dumps({"identity": identity}))
    return place


def test_a_tuned_run_goes_on_with_what_it_began_with(tmp_path: Path) -> None:
    check_resumed(Start(base=base(tmp_path, "a")), CONFIG)
    check_resumed(Start(base=tmp_path, weight=3.0), CONFIG)


def test_a_tuned_run_goes_on_with_no_other_base_or_weight(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"--weight is 2\.0, and the run began with 3\.0"):
        check_resumed(Start(base=base(tmp_path, "a"), weight=2.0), CONFIG)
    with pytest.raises(ValueError, match="and the run began with runs/first; give that one"):
        check_resumed(Start(base=base(tmp_path, "b")), CONFIG)
