"""``pardalis export``: a checkpoint's weights as one safetensors file, with what is needed to use them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from infra import checkpoints, runs
from infra.options import answer
from trainer.checkpoint import Checkpoints, load_model, read_state

MODEL = "model.safetensors"
CONFIG = "config.json"


def write(checkpoint: Path, out: Path, facts: dict[str, Any]) -> Path:
    """A folder that appears whole: the weights by name, and the shape, vocabulary and origin of the model."""
    state = read_state(checkpoint)
    with checkpoints.whole(out) as aside:
        weights = load_model(checkpoint).state_dict()
        save_file({name: weight.contiguous() for name, weight in weights.items()}, aside / MODEL)
        config = {
            "model": state.model.model_dump(mode="json"),
            "vocabulary": {"num_text": state.live.num_text, "num_codes": state.live.num_codes},
            "step": state.step,
            "trained_on": {name: state.note[name] for name in ("corpus", "version") if name in state.note},
            **facts,
        }
        (aside / CONFIG).write_text(json.dumps(config, indent=1, sort_keys=True) + "\n")
    return out


def export(*, run: Path, out: Path, best: bool = False, json: bool = False) -> None:
    """Write a run's last weights as safetensors, with a config.json.

    Example: pardalis export --run runs/first --out models/first

    Parameters
    ----------
    run
        Folder of a run.
    out
        Folder to make.
    best
        The weights of the lowest validation loss, not the last.
    json
        Print what was written as JSON.
    """
    kept = Checkpoints(folder=runs.folder(run))
    found = kept.best() if best else kept.latest()
    if found is None:
        raise ValueError(f"{run} holds no checkpoint; run `pardalis train --run {run}` first")
    if out.exists():
        raise ValueError(f"--out is {out}, which exists; name a folder that does not")
    write(found, out, origin(run))
    answer({"out": str(out), "checkpoint": found.name}, f"{out}: the weights of {found.name}", json=json)


def origin(run: Path) -> dict[str, Any]:
    """Whose run it was, and which tokenizers give its ids a meaning."""
    path = run / "run.json"
    facts = json.loads(path.read_text()) if path.exists() else {}
    return {name: facts[name] for name in ("identity", "tokenizers") if name in facts}
