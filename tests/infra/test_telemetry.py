"""The log of a command: of every command, also of one that failed."""

from __future__ import annotations

import json

import pytest

from infra.storage import Store
from infra.telemetry import Log, saved, say


def test_a_failed_commands_log_ends_with_the_error(store: Store) -> None:
    log = Log()
    with pytest.raises(ValueError, match="no such row"):
        try:
            log.event("step", step="dedup")
            raise ValueError("no such row")
        finally:
            log.save(store, "build")
    events = saved(store)
    assert [event["event"] for event in events] == ["step", "error"]
    assert (events[-1]["kind"], events[-1]["message"]) == ("ValueError", "no such row")


def test_a_log_without_an_error_names_none(store: Store) -> None:
    log = Log()
    log.event("step", step="dedup")
    log.save(store, "build")
    assert [event["event"] for event in saved(store)] == ["step"]


def test_commands_at_the_same_instant_all_keep_their_logs(store: Store) -> None:
    names = []
    for number in range(20):
        log = Log()
        log.event("step", number=number)
        names.append(log.save(store, "build"))
    assert store.names("logs/") == names
    assert [json.loads(store.read(name))["number"] for name in names] == list(range(20))
    assert saved(store)[0]["number"] == 19


def test_neither_an_event_nor_a_line_holds_a_credential(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SOME_TOKEN", "canary-1")
    told = "canary-1 at https://user:canary-2@host/?canary-3"
    log = Log()
    log.event("step", where=told, parts=[{"password": "canary-4"}], rows=3)
    with pytest.raises(ValueError, match="canary"):
        try:
            raise ValueError(told)
        finally:
            log.save(store, "build")
    say(told)
    step, error = saved(store)
    assert "canary" not in f"{step} {error} {capsys.readouterr().err}"
    assert (step["rows"], error["message"]) == (3, "*** at https://***@host/?***")


def test_a_place_without_a_log_says_so(store: Store) -> None:
    with pytest.raises(ValueError, match=f"no command left a log at {store.uri}"):
        saved(store)
