"""Stop a fit and go on: all that a step changes as one safetensors file, the rest as JSON, never pickle.

Surprising rule: buffers that no published file holds, such as the counts behind a codebook, are saved too;
without them the run that goes on would be another.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from infra import checkpoints
from infra.artifact import Corrupt
from tokenizer_service.descent import Descent
from tokenizer_service.discriminator import Guard

ARRAYS, STATE = "arrays.safetensors", "state.json"
KIND = "step"
FORMAT = 1


def save(run: Path, descent: Descent, *, stream: Any, keep: int) -> Path:
    """Write the checkpoint of a step, whole or not at all; so many of the latest stay."""
    place = checkpoints.place(run, KIND, descent.step)
    if not place.exists():
        with checkpoints.whole(place) as aside:
            save_file({name: array.contiguous() for name, array in arrays(descent).items()}, aside / ARRAYS)
            (aside / STATE).write_text(json.dumps(_state(descent, stream), indent=1, sort_keys=True) + "\n")
    checkpoints.prune(run, KIND, keep=keep)
    return place


def restore(folder: Path, descent: Descent) -> Any:
    """Put all of it back, in place; the state of the stream comes back."""
    state = read_state(folder)
    try:
        saved = load_file(folder / ARRAYS)
    except (FileNotFoundError, SafetensorError) as error:
        raise _damaged(folder / ARRAYS, error) from None
    descent.generator.set_state(saved.pop("generator"))
    for name, optimizer in _optimizers(descent).items():
        _restore_optimizer(optimizer, {key: saved.pop(key) for key in sorted(saved) if _of(key, name)})
    with torch.no_grad():
        for name, tensor in _tensors(descent).items():
            tensor.copy_(saved[name])
    descent.step = state["step"]
    if descent.adversary is not None:
        scale, best_db = (float(value) for value in state["guard"])
        descent.adversary.guard = Guard(scale=scale, best_db=best_db)
    return state["stream"]


def latest(run: Path) -> Path | None:
    """Where to go on."""
    return checkpoints.latest(run, KIND)


def read_state(folder: Path) -> dict[str, Any]:
    try:
        state: dict[str, Any] = json.loads((folder / STATE).read_text())
    except (FileNotFoundError, ValueError) as error:
        raise _damaged(folder / STATE, error) from None
    if state["format"] != FORMAT:
        raise ValueError(f"{folder} has checkpoint format {state['format']}, this version reads {FORMAT}")
    return state


def resumed_step(run: Path) -> int:
    """Steps that the latest checkpoint has finished."""
    folder = latest(run)
    return 0 if folder is None else int(read_state(folder)["step"])


def arrays(descent: Descent) -> dict[str, Tensor]:
    """By name: weights, buffers, what the optimizers remember, and the state of the generator."""
    found = {**_tensors(descent), "generator": descent.generator.get_state()}
    for name, optimizer in _optimizers(descent).items():
        for number, remembered in optimizer.state_dict()["state"].items():
            found |= {f"{name}/{number}/{key}": array for key, array in remembered.items()}
    return found


def _state(descent: Descent, stream: Any) -> dict[str, Any]:
    guard = Guard() if descent.adversary is None else descent.adversary.guard
    # Strings, since JSON has no infinity.
    told = [repr(guard.scale), repr(guard.best_db)]
    return {"format": FORMAT, "step": descent.step, "guard": told, "stream": stream}


def _tensors(descent: Descent) -> dict[str, Tensor]:
    modules: dict[str, nn.Module] = {"model": descent.model, "average": descent.average}
    found: dict[str, Tensor] = {}
    if descent.adversary is not None:
        modules["discriminator"] = descent.adversary.net
        found["lecam"] = descent.adversary.means
    for prefix, module in modules.items():
        # With the buffers that state_dict leaves out.
        found |= {f"{prefix}/{name}": tensor for name, tensor in module.named_parameters()}
        found |= {f"{prefix}/{name}": tensor for name, tensor in module.named_buffers()}
    return found


def _optimizers(descent: Descent) -> dict[str, torch.optim.Optimizer]:
    found: dict[str, torch.optim.Optimizer] = {"optimizer": descent.optimizer}
    if descent.adversary is not None:
        found["adversary"] = descent.adversary.optimizer
    return found


def _of(key: str, optimizer: str) -> bool:
    return key.startswith(f"{optimizer}/")


def _restore_optimizer(optimizer: torch.optim.Optimizer, saved: dict[str, Tensor]) -> None:
    states: dict[int, dict[str, Tensor]] = {}
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    for key, array in saved.items():
        _, number, name = key.split("/")
        like = weights[int(number)]
        # In the layout of the weight: kernels that add them up differ between layouts.
        kept = torch.empty_like(like).copy_(array) if array.shape == like.shape else array
        states.setdefault(int(number), {})[name] = kept.detach()
    optimizer.load_state_dict({"state": states, "param_groups": optimizer.state_dict()["param_groups"]})


def _damaged(path: Path, error: Exception) -> Corrupt:
    return Corrupt(
        f"{path} cannot be read: {error}; remove the folder {path.parent}, and --resume goes on from the "
        "checkpoint before it"
    )
