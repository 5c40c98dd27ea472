import errno
import json
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
    progress={"best_step": 5, "updates": 1},
    note={"config": {"seed": 1}},
)
Stepped = tuple[Transformer, torch.optim.AdamW]


def stepped(seed: int) -> Stepped:
    """A model and its optimiser after one update."""
    model = initialise(Transformer(SECTION, LIVE), seed=seed)
    adam = optimizer.build(model, OPTIMIZER)
    for weight in model.parameters():
        weight.grad = torch.full_like(weight, 0.1)
    optimizer.update(adam, OPTIMIZER, step=0)
    return model, adam


def saved(folder: Path, state: State = STATE, *, seed: int = 0) -> tuple[Path, Stepped]:
    kept, made = Checkpoints(folder=folder), stepped(seed)
    kept.save(*made, state=state)
    kept.wait()
    latest = kept.latest()
    assert latest is not None
    return latest, made


def test_everything_comes_back_as_it_was(tmp_path: Path) -> None:
    folder, (model, adam) = saved(tmp_path)
    expected = torch.rand(3)
    other, other_adam = stepped(1)
    assert checkpoint.restore(folder, other, other_adam) == STATE
    assert torch.equal(torch.rand(3), expected)
    for name, weight in model.state_dict().items():
        assert torch.equal(other.state_dict()[name], weight)
    for number, arrays in adam.state_dict()["state"].items():
        for name, array in arrays.items():
            assert torch.equal(other_adam.state_dict()["state"][number][name], array)


def test_what_is_saved_is_what_was_there_when_saving_began(tmp_path: Path) -> None:
    kept, (model, adam) = Checkpoints(folder=tmp_path), stepped(0)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    kept.save(model, adam, state=STATE)
    with torch.no_grad():
        for weight in model.parameters():
            weight.zero_()  # training goes on while the file is written
    kept.wait()
    loaded = checkpoint.load_model(tmp_path / "step-00000007")
    assert all(torch.equal(loaded.state_dict()[name], weight) for name, weight in before.items())


def test_a_model_can_be_loaded_without_its_optimiser(tmp_path: Path) -> None:
    folder, (model, _) = saved(tmp_path)
    loaded = checkpoint.load_model(folder)
    assert (loaded.section, loaded.live, loaded.training) == (SECTION, LIVE, False)
    assert torch.equal(loaded.tokens.weight, model.tokens.weight)


def test_nothing_in_a_checkpoint_is_a_pickle(tmp_path: Path) -> None:
    folder, _ = saved(tmp_path)
    names = sorted(path.name for path in folder.iterdir())
    assert names[-1] == checkpoint.STATE
    assert names[:-1]
    assert all(name.endswith(".safetensors") for name in names[:-1])


def test_a_full_disk_is_one_clear_error_and_leaves_the_last_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, (model, adam) = saved(tmp_path)
    kept = Checkpoints(folder=tmp_path)
    write_text = Path.write_text

    def full(path: Path, text: str) -> int:
        write_text(path, text[:10])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    kept.save(model, adam, state=replace(STATE, step=8))
    with pytest.raises(OSError, match=r"no checkpoint could be written to .*No space left.*make room"):
        kept.wait()
    monkeypatch.undo()
    assert kept.latest() == good
    assert checkpoint.read_state(good) == STATE
    assert not list(tmp_path.glob(".*"))
    kept.save(model, adam, state=replace(STATE, step=8))
    kept.wait()
    assert kept.latest() == tmp_path / "step-00000008"


def test_only_the_last_few_stay_and_the_best_beside_them(tmp_path: Path) -> None:
    model, adam = stepped(0)
    kept = Checkpoints(folder=tmp_path, keep=2)
    assert kept.latest() is None
    assert kept.best() is None
    for step in (1, 2, 10, 11):
        kept.save(model, adam, state=replace(STATE, step=step))
        kept.wait()
        assert kept.best() == kept.latest()
    for step in (1, 2, 10):
        kept.save_best(model, state=replace(STATE, step=step))
    kept.wait()
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["best-00000002", "best-00000010", "step-00000010", "step-00000011"]
    assert (kept.latest(), kept.best()) == (tmp_path / "step-00000011", tmp_path / "best-00000010")
    assert torch.equal(checkpoint.load_model(tmp_path / "best-00000010").tokens.weight, model.tokens.weight)


def test_a_checkpoint_of_another_format_is_refused(tmp_path: Path) -> None:
    folder, _ = saved(tmp_path)
    path = folder / checkpoint.STATE
    path.write_text(path.read_text().replace('"format": 2', '"format": 99'))
    with pytest.raises(ValueError, match="checkpoint format 99, this version reads 2"):
        checkpoint.read_state(folder)


@pytest.mark.parametrize("kept", [0, 40])
@pytest.mark.parametrize("which", [0, -1])
def test_a_checkpoint_that_was_cut_short_is_refused_by_name(tmp_path: Path, which: int, kept: int) -> None:
    folder, _ = saved(tmp_path)
    path = sorted(folder.iterdir())[which]
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(Corrupt, match=f"{path.name} cannot be read: .* remove the folder .*7, and"):
        checkpoint.restore(folder, *stepped(1))


def test_a_checkpoint_without_one_of_its_files_is_refused_by_name(tmp_path: Path) -> None:
    folder, _ = saved(tmp_path)
    (name, *_) = json.loads((folder / checkpoint.STATE).read_text())["files"]
    (folder / name).unlink()
    with pytest.raises(Corrupt, match=rf"{name} cannot be read"):
        checkpoint.load_model(folder)


def test_a_checkpoint_that_lacks_an_array_is_refused_by_name(tmp_path: Path) -> None:
    kept, made = Checkpoints(folder=tmp_path), stepped(0)
    kept.save_best(made[0], state=STATE)
    kept.wait()
    with pytest.raises(Corrupt, match=r"exp_avg\.blocks\.0\.attention_out\.weight is in none of its files"):
        checkpoint.restore(tmp_path / "best-00000007", *made)


def test_a_best_behind_the_step_that_a_run_goes_on_from_is_forgotten(tmp_path: Path) -> None:
    model, _ = stepped(0)
    kept = Checkpoints(folder=tmp_path)
    for step in (5, 15):
        kept.save_best(model, state=replace(STATE, step=step))
    kept.wait()
    kept.forget(after=10)
    assert kept.best() == tmp_path / "best-00000005"


def test_a_run_may_be_saved_before_its_first_update(tmp_path: Path) -> None:
    model = initialise(Transformer(SECTION, LIVE), seed=0)
    kept = Checkpoints(folder=tmp_path)
    kept.save(model, optimizer.build(model, OPTIMIZER), state=replace(STATE, progress={"updates": 0}))
    kept.wait()
    other, adam = stepped(1)
    checkpoint.restore(tmp_path / "step-00000007", other, adam)
    assert torch.equal(other.tokens.weight, model.tokens.weight)
    assert not adam.state[other.tokens.weight]["exp_avg"].any()
