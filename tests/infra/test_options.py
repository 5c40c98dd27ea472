"""Answers: what is printed for people and for machines."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from infra.options import answer

TOLD = "canary-1 at https://user:canary-2@host/?canary-3"


def test_no_answer_holds_a_credential_and_json_stays_json(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SOME_TOKEN", "canary-1")
    value = {"rows": 3, "lines": (TOLD,), "at": Path("at/canary-1"), "token": "canary-4", 7: None}
    answer(value, TOLD, json=True)
    found = json.loads(capsys.readouterr().out)
    masked = "*** at https://***@host/?***"
    assert found == {"rows": 3, "lines": [masked], "at": "at/***", "token": "***", "7": None}
    answer(value, TOLD, json=False)
    assert capsys.readouterr().out == masked + "\n"
