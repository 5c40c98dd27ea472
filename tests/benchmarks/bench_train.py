"""Tokens a second of a training step at a 20M shape, against plain PyTorch and against transformers' OPT.

6 layers of width 512 with 8 heads, the whole vocabulary of 65,536 ids, two rows of 1,024 tokens, AdamW, two
threads. ``equal work``: a row is one document and all ids compete for every token, as for the peers. ``as it
is used``: four documents a row, and image ids compete for image tokens alone. Programs take turns, ROUNDS
times, each a step to warm up and STEPS that count; rates and ratios are medians over the rounds.

``masks`` is the rate of the CM3 objective on a core, ``run`` the share of a run that waits for data.
"""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.benchmarks import peer_gpt, peers, photographs
from tokenizer_service import vocabulary

ROUNDS, STEPS = 3, 2
SHAPE = {"layers": 6, "width": 512, "heads": 8, "context": 1024, "vocabulary": vocabulary.SIZE}
ROWS, THREADS = 2, 2
PLAIN, OPT = "nanoGPT in plain PyTorch", "transformers' OPT"
COMPILED = "nanoGPT, compiled"
EQUAL = {"variant": "paper", "head": "flat", "documents": 1, "engine": "eager"}
OURS = {
    "equal work": EQUAL,
    "as it is used": {**EQUAL, "head": "by_modality", "documents": 4},
    "equal work, compiled": {**EQUAL, "engine": "compile"},
    "modern, as it is used, compiled": {
        "variant": "modern",
        "head": "by_modality",
        "documents": 4,
        "engine": "compile",
    },
}
MASKS = {
    "four pairs at f8": {"rows": 256, "a_row": 1, "pairs": 4, "image": 1024},
    "four pairs at f16": {"rows": 256, "a_row": 4, "pairs": 4, "image": 256},
    "the demo's": {"rows": 1024, "a_row": 5, "pairs": 1, "image": 64, "mean_spans": 0.3},
}


def run() -> dict[str, Any]:
    home = photographs.folder() / "train"
    home.mkdir(exist_ok=True)
    ids = home / "ids.pt"
    torch.save(rows(), ids)
    steps = {dtype: compared(home, ids, dtype) for dtype in ("float32", "bfloat16")}
    masks = {name: ours("masks", given) for name, given in MASKS.items()}
    waits = {
        f"{workers} workers": ours(
            "run", {**MASKS["four pairs at f16"], "rows": 64, "steps": 6, "workers": workers}
        )
        for workers in (0, 1)
    }
    slowest = min(steps, key=lambda dtype: steps[dtype]["over the faster peer"]["equal work"])
    told = steps[slowest]
    peer = max((PLAIN, OPT), key=lambda name: told["tokens_per_s"][name])
    return {
        "unit": f"tokens/s of a training step, {slowest}, equal work",
        "ours": told["tokens_per_s"]["equal work"],
        "peer": told["tokens_per_s"][peer],
        "peer_name": peer,
        "ratio": told["over the faster peer"]["equal work"],
        "details": {"steps": steps, "masks": masks, "run": waits},
    }


def rows() -> torch.Tensor:
    """[steps, B, T + 1]: captions of twelve tokens in front of images, as packed rows have them."""
    rng = np.random.default_rng(0)
    ids = vocabulary.IMAGE_START + rng.integers(0, vocabulary.MAX_CODES, (1 + STEPS, ROWS, 1025))
    ids[:, :, :12] = vocabulary.TEXT_START + rng.integers(0, vocabulary.MAX_TEXT, (1 + STEPS, ROWS, 12))
    return torch.from_numpy(ids)


def compared(home: Path, ids: Path, dtype: str) -> dict[str, Any]:
    rounds: list[dict[str, float]] = []
    for _ in range(ROUNDS):
        given = {"shape": SHAPE, "dtype": dtype, "threads": THREADS, "ids": str(ids)}
        one = {name: rate(ours("step", {**given, **how})) for name, how in OURS.items()}
        one[PLAIN] = rate(peer(sys.executable, "gpt", ids, dtype))
        one[COMPILED] = rate(peer(sys.executable, "gpt", ids, dtype, "--compile"))
        one[OPT] = rate(peer(theirs(home), "opt", ids, dtype))
        rounds.append(one)
    return {
        "tokens_per_s": {
            name: round(statistics.median(one[name] for one in rounds), 1) for name in rounds[0]
        },
        "over the faster peer": {name: over(rounds, name, PLAIN, OPT) for name in OURS},
        "compiled over compiled": over(rounds, "equal work, compiled", COMPILED),
        "rounds": [round(one["equal work"] / max(one[PLAIN], one[OPT]), 3) for one in rounds],
    }


def over(rounds: list[dict[str, float]], name: str, *peers: str) -> float:
    """Median of the rounds' ratios to the fastest of some peers."""
    ratios = [one[name] / max(one[peer] for peer in peers) for one in rounds]
    return round(statistics.median(ratios), 3)


def rate(steps: list[dict[str, float]]) -> float:
    """Tokens a second of the steps behind the first."""
    return ROWS * 1024 / statistics.median(step["wall"] for step in steps[1:])


def ours(name: str, given: dict[str, Any]) -> Any:
    return told_by(sys.executable, "-m", "tests.benchmarks.training_step", name, json.dumps(given))


def peer(python: str, name: str, ids: Path, dtype: str, *more: str) -> Any:
    shape = ["--shape", json.dumps(SHAPE), "--dtype", dtype, "--threads", str(THREADS)]
    return told_by(python, peer_gpt.__file__, name, "--ids", str(ids), *shape, *more)


def told_by(*words: str) -> Any:
    return peers.told_by(*words, OMP_NUM_THREADS=str(THREADS))


def theirs(home: Path) -> str:
    """An interpreter that has transformers."""
    return peers.python(home / "venv-transformers", ["transformers>=5.24"])
