"""``pardalis export``: a checkpoint's weights as safetensors, with what is needed to use them.

Two layouts: ``pardalis`` is our own; ``chameleon`` is Hugging Face's (:mod:`trainer.chameleon`), for models
of the variant ``modern``.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Literal

from safetensors.torch import save_file

from infra import checkpoints, runs
from infra.options import ReadOptions, answer
from infra.telemetry import say
from pipeline.tokenizer.tokenizing import image_side, load_bpe, load_vq
from trainer import chameleon
from trainer.chameleon_processor import Tokenizers
from trainer.checkpoint import Checkpoints, load_model, read_state
from trainer.folder import check_tokenizers

MODEL = "model.safetensors"
CONFIG = "config.json"
Layout = Literal["pardalis", "chameleon"]


def write(checkpoint: Path, out: Path, facts: dict[str, Any]) -> Path:
    """A folder that appears whole: the weights by name, and the shape, vocabulary and origin of the model."""
    state = read_state(checkpoint)
    with checkpoints.whole(out) as aside:
        weights = load_model(checkpoint).state_dict()
        save_file({name: weight.contiguous() for name, weight in weights.items()}, aside / MODEL)
        config = {
            "model": state.model.model_dump(mode="json"),
            "vocabulary": {"num_text": state.live.num_text, "num_codes": state.live.num_codes},
            **trained(checkpoint),
            **facts,
        }
        (aside / CONFIG).write_text(json.dumps(config, indent=1, sort_keys=True) + "\n")
    return out


def write_chameleon(
    checkpoint: Path, out: Path, facts: dict[str, Any], tokenizers: Tokenizers | None = None
) -> Path:
    """The same weights as Chameleon's. Raises ValueError, before anything is written, if they cannot be."""
    chameleon.check(read_state(checkpoint).model)
    with checkpoints.whole(out) as aside:
        chameleon.write(aside, load_model(checkpoint), {**trained(checkpoint), **facts}, tokenizers)
    return out


def trained(checkpoint: Path) -> dict[str, Any]:
    """How long, and on which corpus."""
    state = read_state(checkpoint)
    known = {name: state.note[name] for name in ("corpus", "version") if name in state.note}
    return {"step": state.step, "trained_on": known}


def export(
    *,
    run: Path,
    out: Path,
    best: bool = False,
    layout: Layout = "pardalis",
    options: ReadOptions | None = None,
) -> None:
    """Write a run's last weights as safetensors, with a config.json.

    With --layout chameleon, transformers and vLLM (up to 0.28) load the folder as
    ChameleonForConditionalGeneration. Where a corpus is named (--corpus, $PARDALIS_CORPUS), the files of its
    tokenizers stand beside the weights. The run must be of the variant "modern", with image_places and
    lookup_rows 0.

    Example: pardalis export --run runs/first --out models/first

    Parameters
    ----------
    run
        Folder of a run.
    out
        Folder to make.
    best
        The weights of the lowest validation loss, not the last.
    layout
        Names and files: our own, or those of Hugging Face's Chameleon.
    """
    options, kept = options or ReadOptions(), Checkpoints(folder=runs.folder(run))
    found = kept.best() if best else kept.latest()
    if found is None:
        raise ValueError(f"{run} holds no checkpoint; run `pardalis train --run {run}` first")
    if out.exists():
        raise ValueError(f"--out is {out}, which exists; name a folder that does not")
    if layout == "chameleon":
        write_chameleon(found, out, origin(run), tokenizers(run, options))
    else:
        write(found, out, origin(run))
    answer(
        {"out": str(out), "checkpoint": found.name}, f"{out}: the weights of {found.name}", json=options.json
    )


def tokenizers(run: Path, options: ReadOptions) -> Tokenizers | None:
    """Those of the corpus, if one is named."""
    if not (options.corpus or os.environ.get("PARDALIS_CORPUS")):
        say("no corpus is named: the folder gets no tokenizer and no processor")
        return None
    corpus = options.open()
    version = corpus.newest()
    check_tokenizers(run, corpus, version)
    return Tokenizers(
        text=load_bpe(corpus, version), image=load_vq(corpus, version), side=image_side(corpus, version)
    )


def origin(run: Path) -> dict[str, Any]:
    """Whose run it was, and which tokenizers give its ids a meaning."""
    path = run / "run.json"
    facts = json.loads(path.read_text()) if path.exists() else {}
    return {name: facts[name] for name in ("identity", "tokenizers") if name in facts}
