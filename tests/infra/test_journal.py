from pathlib import Path

from infra import journal


def test_a_journal_drops_what_a_dead_run_wrote_behind_its_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"ste')
    report = journal.opened(path, step=2)
    report({"step": 3, "loss": 0.5})
    assert journal.read(path) == [{"step": 1}, {"step": 2}, {"step": 3, "loss": 0.5}]
