import errno
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from infra.artifact import Corrupt
from tokenizer_service.vocabulary import Live
from trainer import checkpoint, optimizer
from trainer.checkpoint import Checkpoints, State
from trainer.model import ModelSection, Transformer, initialise
from trainer.optimizer import OptimizerSection

SECTION = ModelSection(num_layers=1, width=16, num_heads=2, context=8)
LIVE = Live(num_text=8, num_codes=8)
OPTIMIZER = OptimizerSection(num_steps=10, warmup_steps=0)
STATE = State(
    step=7,
    stream={"epoch": 1, "position": 3},
    live=LIVE,
    model=SECTION,
    progress={"best_step": 5},
    note={"config": {"seed": 1}},
)


def stepped(seed: int) -> tuple[Transformer, torch.optim.AdamW]:
    """A model and its optimiser after one update."""
    model = initialise(Transformer(SECTION, LIVE), seed=seed)
    adam = optimizer.build(model, OPTIMIZER)
    for weight in model.parameters():
        weight.grad = torch.full_like(weight, 0.1)
    optimizer.update(adam, OPTIMIZER, step=0)
    return model, adam


def test_everything_comes_back_as_it_was(tmp_path: Path) -> None:
    model, adam = stepped(0)
    checkpoint.save(tmp_path / "c", model, adam, state=STATE)
    expected = torch.rand(3)
    other, other_adam = stepped(1)
    assert checkpoint.restore(tmp_path / "c", other, other_adam) == STATE
    assert torch.equal(torch.rand(3), expected)
    for name, weight in model.state_dict().items():
        assert torch.equal(other.state_dict()[name], weight)
    for number, arrays in adam.state_dict()["state"].items():
        for name, array in arrays.items():
            assert torch.equal(other_adam.state_dict()["state"][number][name], array)


def test_a_model_can_be_loaded_without_its_optimiser(tmp_path: Path) -> None:
    model, adam = stepped(0)
    checkpoint.save(tmp_path / "c", model, adam, state=STATE)
    loaded = checkpoint.load_model(tmp_path / "c")
    assert (loaded.section, loaded.live, loaded.training) == (SECTION, LIVE, False)
    assert torch.equal(loaded.tokens.weight, model.tokens.weight)


def test_a_failure_while_writing_leaves_the_last_checkpoint_and_nothing_that_looks_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, adam = stepped(0)
    kept = Checkpoints(folder=tmp_path)
    good = kept.save(model, adam, state=STATE)
    write_text = Path.write_text

    def full(path: Path, text: str) -> int:
        write_text(path, text[:10])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="No space left"):
        kept.save(model, adam, state=replace(STATE, step=8))
    monkeypatch.undo()
    assert kept.latest() == good
    assert checkpoint.read_state(good) == STATE
    assert kept.save(model, adam, state=replace(STATE, step=8)) == kept.latest()
    assert not list(tmp_path.glob(".*"))


def test_only_the_last_few_stay_and_the_best_beside_them(tmp_path: Path) -> None:
    model, adam = stepped(0)
    kept = Checkpoints(folder=tmp_path, keep=2)
    assert kept.latest() is None
    assert kept.best() is None
    for step in (1, 2, 10, 11):
        kept.save(model, adam, state=replace(STATE, step=step))
        assert kept.best() == kept.latest()
    for step in (2, 10):
        kept.save_best(model, adam, state=replace(STATE, step=step))
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["best-00000010", "step-00000010", "step-00000011"]
    assert (kept.latest(), kept.best()) == (tmp_path / "step-00000011", tmp_path / "best-00000010")


def test_a_checkpoint_of_another_format_is_refused(tmp_path: Path) -> None:
    model, adam = stepped(0)
    folder = checkpoint.save(tmp_path / "c", model, adam, state=STATE)
    path = folder / checkpoint.STATE
    path.write_text(path.read_text().replace('"format": 1', '"format": 99'))
    with pytest.raises(ValueError, match="checkpoint format 99, this version reads 1"):
        checkpoint.read_state(folder)


@pytest.mark.parametrize("name", [checkpoint.MODEL, checkpoint.OPTIMIZER, checkpoint.STATE])
@pytest.mark.parametrize("kept", [0, 40])
def test_a_checkpoint_that_was_cut_short_is_refused_by_name(tmp_path: Path, name: str, kept: int) -> None:
    model, adam = stepped(0)
    folder = checkpoint.save(tmp_path / "c", model, adam, state=STATE)
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(whole[:kept])
    with pytest.raises(Corrupt, match=f"{name} cannot be read: .* remove the folder .*c, and"):
        checkpoint.restore(folder, *stepped(1))


def test_a_checkpoint_without_its_weights_is_refused_by_name(tmp_path: Path) -> None:
    model, adam = stepped(0)
    folder = checkpoint.save(tmp_path / "c", model, adam, state=STATE)
    (folder / checkpoint.MODEL).unlink()
    with pytest.raises(Corrupt, match=r"model\.safetensors cannot be read"):
        checkpoint.load_model(folder)
