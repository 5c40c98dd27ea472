"""Tokens a second of guided images behind a retrieved prefix, against transformers' ``generate``.

The shapes of 20M and 125M over the whole vocabulary, 8 samples of a prompt of about 2,000 tokens (seven pairs
of 256-token images, or two of 1,024), guidance 3, top-p 0.8, float32, two threads. The peer is Chameleon of
transformers on the same weights, exported, with its own caches (:mod:`tests.benchmarks.peer_sample`):
each is tried on ``TRIED`` tokens, and the one taken by which a whole image would be fastest. Before anything
is timed, both draw the likeliest tokens of a prompt, which must be the same.

A rate is samples x tokens over the seconds from ids to codes of whole images, so the prompt's reading is in
it. The headline is images of 256 tokens at 20M. All of it takes half an hour.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tests.benchmarks import peer_sample, peers, sampling_images
from tokenizer_service import vocabulary
from trainer import chameleon
from trainer.model import Transformer
from trainer.prompts import UNCONDITIONAL

SAMPLES, GUIDANCE, TOP_P, THREADS = 8, 3.0, 0.8, 2
ROUNDS = 3
TRIED = 16
CHECKED = 8
CACHES = ("dynamic", "static", "prefix")
PEER = "transformers' generate"
Told = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Images of ``image`` tokens."""

    shape: str
    image: int
    rounds: int = 1

    @property
    def name(self) -> str:
        return f"{self.shape}, {self.image} tokens"


HEADLINE = Case(shape="small-20m", image=256, rounds=ROUNDS)
CASES = (
    HEADLINE,
    Case(shape="small-20m", image=1024),
    Case(shape="small-125m", image=256),
    Case(shape="small-125m", image=1024),
)


def run() -> Told:
    torch.set_num_threads(THREADS)
    details: Told = {}
    for shape in dict.fromkeys(case.shape for case in CASES):
        with tempfile.TemporaryDirectory() as scratch:
            made = sampling_images.model(shape)
            chameleon.write(Path(scratch), made, {})
            details[f"{shape}, equal"] = equal(Path(scratch), made)
            del made
            for case in CASES:
                if case.shape == shape:
                    details[case.name] = compared(Path(scratch), case)
    told = details[HEADLINE.name]
    return {
        "unit": f"tokens/s of guided 256-token images, {SAMPLES} a prompt of {told['prompt']} tokens, 20M",
        "ours": told["tokens_per_s"]["ours"],
        "peer": told["tokens_per_s"][PEER],
        "peer_name": f"{PEER}, {told['cache']} cache",
        "ratio": told["ratio"],
        "details": details,
    }


def equal(folder: Path, made: Transformer) -> Told:
    """The same likeliest tokens, and how far the guided log-probabilities are apart."""
    ids, saved = sampling_images.prompt(256), folder / "likeliest.pt"
    theirs(folder, {"prompt": ids, "num_tokens": CHECKED, "samples": 1, "greedy": True, "saved": str(saved)})
    ids_NS, logs_NSV = torch.load(saved)
    codes_S = sampling_images.likeliest(made, ids, guidance=GUIDANCE, num_tokens=CHECKED)
    ours_SV = sampling_images.guided(made, ids, codes_S.tolist(), guidance=GUIDANCE)
    apart = float((logs_NSV[0] - ours_SV).abs().max())
    assert torch.equal(ids_NS[0] - vocabulary.IMAGE_START, codes_S)
    assert apart < 1e-3
    return {"tokens": CHECKED, "log-probabilities apart": apart}


def compared(folder: Path, case: Case) -> Told:
    """Rates and their ratio, each a median over the rounds; in a round, ours is first."""
    ids = sampling_images.prompt(case.image)
    given = {"shape": case.shape, "prompt": ids, "num_tokens": case.image}
    tried = {cache: theirs(folder, {**given, "num_tokens": TRIED, "cache": cache}) for cache in CACHES}
    seconds = {name: whole(one, case.image) for name, one in tried.items()}
    cache = min(seconds, key=seconds.__getitem__)
    rounds = [(ours(given), theirs(folder, {**given, "cache": cache})) for _ in range(case.rounds)]
    return {
        "prompt": len(ids),
        "cache": cache,
        "tried, s an image": {name: round(one, 1) for name, one in seconds.items()},
        "tokens_per_s": {
            name: round(statistics.median(SAMPLES * case.image / one[i]["wall"] for one in rounds), 2)
            for i, name in enumerate(("ours", PEER))
        },
        "ratio": round(statistics.median(his["wall"] / mine["wall"] for mine, his in rounds), 3),
        "rounds": [[mine["wall"], his["wall"]] for mine, his in rounds],
        "read_s": [[mine["read"], his["read"]] for mine, his in rounds],
    }


def whole(told: Told, image: int) -> float:
    """Seconds of a whole image, at the pace of what was tried behind the first token."""
    return float(told["read"] + (told["wall"] - told["read"]) * (image - 1) / (TRIED - 1))


def ours(given: Told) -> Told:
    return told_by("-m", sampling_images.__name__, given)


def theirs(folder: Path, given: Told) -> Told:
    about = {"folder": str(folder), "away": UNCONDITIONAL, "first_image": vocabulary.IMAGE_START}
    return told_by(peer_sample.__file__, {"cache": "dynamic", "greedy": False, **about, **given})


def told_by(*words: Any) -> Told:
    given = {"samples": SAMPLES, "guidance": GUIDANCE, "top_p": TOP_P, "threads": THREADS, **words[-1]}
    told: Told = peers.told_by(sys.executable, *words[:-1], json.dumps(given), OMP_NUM_THREADS=str(THREADS))
    return told
