"""Tokens a second of guided images behind a retrieved prefix, against transformers' ``generate``.

The shapes of 20M and 125M over the whole vocabulary, 8 samples of a prompt of about 2,000 tokens (seven pairs
of 256-token images, or two of 1,024), guidance 3, top-p 0.8, float32, two threads. The peer is Chameleon of
transformers on the same weights, exported, with its own caches (:mod:`tests.benchmarks.peer_sample`):
each is tried on ``TRIED`` tokens, and the one taken by which a whole image would be fastest. Before anything
is timed, both draw the likeliest tokens of a prompt, which must be the same.

A rate is samples x tokens over the seconds from ids to codes, so the prompt's reading is in it. The headline
is whole images of 256 tokens at 20M. ``DRAWN`` says how much of the others is drawn: the peer would write
1,024 tokens at 125M for a quarter of an hour. What is drawn in part is told so, and reading the prompt, which
ours does once, weighs more in it; ``whole`` is a whole image at the pace behind the first token, with which
both are too fast, since what a row has written is looked at by every later token.
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
    """Images of ``image`` tokens, of which ``drawn`` are drawn."""

    shape: str
    image: int
    drawn: int
    rounds: int = 1

    @property
    def name(self) -> str:
        return f"{self.shape}, {self.image} tokens"


HEADLINE = Case(shape="small-20m", image=256, drawn=256, rounds=ROUNDS)
DRAWN = (
    HEADLINE,
    Case(shape="small-20m", image=1024, drawn=1024),
    Case(shape="small-125m", image=256, drawn=128),
    Case(shape="small-125m", image=1024, drawn=64),
)


def run() -> Told:
    torch.set_num_threads(THREADS)
    details: Told = {}
    for shape in dict.fromkeys(case.shape for case in DRAWN):
        with tempfile.TemporaryDirectory() as scratch:
            made = sampling_images.model(shape)
            chameleon.write(Path(scratch), made, {})
            details[f"{shape}, equal"] = equal(Path(scratch), made)
            del made
            for case in DRAWN:
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
    given = {"shape": case.shape, "prompt": ids, "num_tokens": case.drawn}
    tried = {cache: theirs(folder, {**given, "num_tokens": TRIED, "cache": cache}) for cache in CACHES}
    cache = min(tried, key=lambda name: whole(tried[name], TRIED, case.image))
    rounds = [(ours(given), theirs(folder, {**given, "cache": cache})) for _ in range(case.rounds)]
    return {
        "prompt": len(ids),
        "drawn": f"{case.drawn} of {case.image}",
        "cache": cache,
        "tried, s an image": {name: round(whole(one, TRIED, case.image), 1) for name, one in tried.items()},
        "tokens_per_s": {
            name: round(statistics.median(SAMPLES * case.drawn / one[i]["wall"] for one in rounds), 2)
            for i, name in enumerate(("ours", PEER))
        },
        "ratio": ratio([(mine["wall"], his["wall"]) for mine, his in rounds]),
        "whole": ratio([tuple(whole(one, case.drawn, case.image) for one in pair) for pair in rounds]),
        "rounds": [[mine["wall"], his["wall"]] for mine, his in rounds],
        "read_s": [[mine["read"], his["read"]] for mine, his in rounds],
    }


def whole(told: Told, drawn: int, image: int) -> float:
    """Seconds of a whole image, at the pace of what was drawn behind the first token."""
    return float(told["read"] + (told["wall"] - told["read"]) * (image - 1) / (drawn - 1))


def ratio(seconds: list[tuple[float, ...]]) -> float:
    """How many times longer the second takes."""
    return round(statistics.median(his / mine for mine, his in seconds), 3)


def ours(given: Told) -> Told:
    return told_by("-m", sampling_images.__name__, given)


def theirs(folder: Path, given: Told) -> Told:
    about = {"folder": str(folder), "away": UNCONDITIONAL, "first_image": vocabulary.IMAGE_START}
    return told_by(peer_sample.__file__, {"cache": "dynamic", "greedy": False, **about, **given})


def told_by(*words: Any) -> Told:
    given = {"samples": SAMPLES, "guidance": GUIDANCE, "top_p": TOP_P, "threads": THREADS, **words[-1]}
    told: Told = peers.told_by(sys.executable, *words[:-1], json.dumps(given), OMP_NUM_THREADS=str(THREADS))
    return told
