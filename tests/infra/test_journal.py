from pathlib import Path

import pytest

from infra import journal


def test_a_journal_drops_what_a_dead_run_wrote_behind_its_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"ste')
    report = journal.opened(path, step=2)
    report({"step": 3, "loss": 0.5})
    assert journal.read(path) == [{"step": 1}, {"step": 2}, {"step": 3, "loss": 0.5}]


def test_the_newest_report_is_read_from_the_end(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    assert journal.last(path) is None
    report = journal.opened(path, step=0)
    for step in range(1, 4001):
        report({"step": step, "loss": 1.0})
    assert path.stat().st_size > journal.LONGEST_LINES
    with path.open("a") as file:
        file.write('{"step": 40')
    assert journal.last(path) == {"step": 4000, "loss": 1.0}


def test_a_journal_that_cannot_be_rewritten_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "metrics.jsonl"
    report = journal.opened(path, step=0)
    for step in range(1, 4):
        report({"step": step, "loss": 1.0})
    held = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr("infra.storage.LocalStore.write", full)
    with pytest.raises(OSError, match="No space left"):
        journal.opened(path, step=2)
    assert path.read_bytes() == held
