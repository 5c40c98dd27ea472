"""Save and resume a run: safetensors for arrays, JSON for the rest, never pickle.

The surprising rule: a checkpoint is a folder that appears whole, see :mod:`infra.checkpoints`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from infra import checkpoints
from infra.artifact import Corrupt
from tokenizer_service.vocabulary import Live
from trainer.model import ModelSection, Transformer

MODEL = "model.safetensors"
OPTIMIZER = "optimizer.safetensors"
STATE = "state.json"
RNG = "rng"
FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What a checkpoint holds beside the arrays. All of it is JSON."""

    step: int
    """Finished updates."""
    stream: Mapping[str, Any]
    """Where the stream goes on."""
    live: Live
    model: ModelSection
    progress: Mapping[str, Any]
    """What the loop remembers: the best validation so far, and the like."""
    note: Mapping[str, Any]
    """Facts that the run hands through: its whole configuration, artifact names, licences."""


def save(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, *, state: State) -> Path:
    """Write a checkpoint to ``folder``, which appears whole or not at all.

    One that is there already stays: the same run at the same step is the same state.
    """
    if folder.exists():
        return folder
    with checkpoints.whole(folder) as aside:
        save_file({name: weight.contiguous() for name, weight in model.state_dict().items()}, aside / MODEL)
        save_file(_optimizer_arrays(optimizer) | {RNG: torch.get_rng_state()}, aside / OPTIMIZER)
        (aside / STATE).write_text(json.dumps(_to_json(state), indent=1, sort_keys=True) + "\n")
    return folder


def _optimizer_arrays(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """``0/exp_avg``, ``0/step``, …: the state of weight 0 of all groups, and so on."""
    return {
        f"{number}/{name}": array.contiguous()
        for number, arrays in optimizer.state_dict()["state"].items()
        for name, array in arrays.items()
    }


def _to_json(state: State) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "step": state.step,
        "stream": dict(state.stream),
        "live": {"num_text": state.live.num_text, "num_codes": state.live.num_codes},
        "model": state.model.model_dump(),
        "progress": dict(state.progress),
        "note": dict(state.note),
    }


def read_state(folder: Path) -> State:
    """The JSON part of a checkpoint."""
    try:
        facts = json.loads((folder / STATE).read_text())
    except (FileNotFoundError, ValueError) as error:
        raise _damaged(folder / STATE, error) from None
    if facts["format"] != FORMAT:
        raise ValueError(f"{folder} has checkpoint format {facts['format']}, this version reads {FORMAT}")
    return State(
        step=facts["step"],
        stream=facts["stream"],
        live=Live(**facts["live"]),
        model=ModelSection.model_validate(facts["model"]),
        progress=facts["progress"],
        note=facts["note"],
    )


def load_model(folder: Path) -> Transformer:
    """The model of a checkpoint, on the CPU, ready to sample."""
    state = read_state(folder)
    model = Transformer(state.model, state.live)
    model.load_state_dict(_arrays(folder / MODEL))
    return model.eval()


def _arrays(path: Path) -> dict[str, Tensor]:
    """Raises ``Corrupt``, naming the file, if it is missing or was cut short."""
    try:
        return load_file(path)
    except (FileNotFoundError, SafetensorError) as error:
        raise _damaged(path, error) from None


def _damaged(path: Path, error: Exception) -> Corrupt:
    return Corrupt(
        f"{path} cannot be read: {error}; remove the folder {path.parent}, and the checkpoint before it "
        "is used (`pardalis train --resume` makes the lost one again)"
    )


def restore(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> State:
    """Put weights, optimiser and random state back, in place."""
    model.load_state_dict(_arrays(folder / MODEL))
    arrays = _arrays(folder / OPTIMIZER)
    torch.set_rng_state(arrays.pop(RNG))
    states: dict[int, dict[str, Tensor]] = {}
    for key, array in arrays.items():
        number, name = key.split("/")
        states.setdefault(int(number), {})[name] = array
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": states, "param_groups": groups})
    return read_state(folder)


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoints:
    """The folder of a run: ``step-00000100``, …, of which the last few stay, and one ``best-00000080``."""

    folder: Path
    keep: int = 2

    def save(self, model: nn.Module, optimizer: torch.optim.Optimizer, *, state: State) -> Path:
        return self._save("step", model, optimizer, state=state, keep=self.keep)

    def save_best(self, model: nn.Module, optimizer: torch.optim.Optimizer, *, state: State) -> Path:
        return self._save("best", model, optimizer, state=state, keep=1)

    def _save(
        self, kind: str, model: nn.Module, optimizer: torch.optim.Optimizer, *, state: State, keep: int
    ) -> Path:
        place = checkpoints.place(self.folder, kind, state.step)
        saved = save(place, model, optimizer, state=state)
        checkpoints.prune(self.folder, kind, keep=keep)
        return saved

    def latest(self) -> Path | None:
        """Where to resume."""
        return checkpoints.latest(self.folder, "step")

    def best(self) -> Path | None:
        """The lowest validation loss; without validation, the latest."""
        return checkpoints.latest(self.folder, "best") or self.latest()
