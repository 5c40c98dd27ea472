from pathlib import Path

import pytest

from infra import checkpoints


def test_a_checkpoint_that_could_not_be_written_leaves_the_one_before(tmp_path: Path) -> None:
    with checkpoints.whole(checkpoints.place(tmp_path, "step", 9)) as aside:
        (aside / "weights").write_text("nine")
    with pytest.raises(OSError, match="full"), checkpoints.whole(checkpoints.place(tmp_path, "step", 10)):
        raise OSError("the disk is full")
    latest = checkpoints.latest(tmp_path, "step")
    assert latest is not None
    assert (latest / "weights").read_text() == "nine"


def test_the_latest_of_a_kind_stay_and_other_kinds_are_left_alone(tmp_path: Path) -> None:
    for kind, step in (("step", 9), ("step", 100), ("step", 20), ("best", 1)):
        checkpoints.place(tmp_path, kind, step).mkdir()
    checkpoints.prune(tmp_path, "step", keep=2)
    assert [path.name for path in checkpoints.complete(tmp_path, "step")] == [
        "step-00000020",
        "step-00000100",
    ]
    assert checkpoints.latest(tmp_path, "best") == tmp_path / "best-00000001"
