"""What ``bench_sample`` runs of ours: images behind a retrieved prefix, as a program of its own.

``python -m tests.benchmarks.sampling_images JSON`` prints JSON as its last line. The weights are drawn anew
from a seed, so that the program and the export hold the same.

Shapes: D width, V ids, N samples, S new tokens.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import infra
from pipeline import reading
from tokenizer_service import vocabulary
from tokenizer_service.vocabulary import Live
from trainer import choosing, sampler
from trainer.model import ModelSection, Transformer, packed_inputs
from trainer.prompts import UNCONDITIONAL, Ids, coming
from trainer.sampler import Request, SamplerSection

WHOLE = Live(num_text=vocabulary.MAX_TEXT, num_codes=vocabulary.MAX_CODES)
CAPTION = 28
"""Text tokens a caption: seven pairs of 256 px at f16 are 2,003 tokens, two at f8 are 2,107."""


def model(shape: str) -> Transformer:
    """The shape of ``infra/configs/SHAPE.toml`` over the whole vocabulary, with no weight at zero."""
    path = Path(infra.__file__).parent / "configs" / f"{shape}.toml"
    section = ModelSection.model_validate(reading.read(path).values["trainer"]["model"])
    made = Transformer(section, WHOLE)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weight in made.named_parameters():
            if name.split(".")[-2].endswith("norm") or "before" in name:
                weight.fill_(1.0)
            else:
                weight.copy_(torch.randn(weight.shape, generator=generator) * section.init_std)
    return made.eval()


def prompt(num_tokens: int) -> Ids:
    """``<eos> T I T I ... T <break>``: as many neighbors as make a prefix of about 2,000 tokens."""
    rng = np.random.default_rng(0)

    def text() -> list[int]:
        return vocabulary.from_text(rng.integers(0, vocabulary.MAX_TEXT, CAPTION)).tolist()  # type: ignore[no-any-return]

    segments: list[Sequence[int]] = []
    for _ in range(round(2000 / (num_tokens + CAPTION + 2))):
        codes = rng.integers(0, vocabulary.MAX_CODES, num_tokens)
        segments += [text(), vocabulary.from_codes(codes).tolist()]
    return coming([*segments, text()])


def timed(given: Mapping[str, Any]) -> dict[str, float]:
    """Seconds for all samples of the prompt, from ids to codes; ``read`` is what one token takes."""
    torch.set_num_threads(given["threads"])
    drawing, made = SamplerSection(top_p=given["top_p"], guidance=given["guidance"]), model(given["shape"])
    request = Request(prompt=tuple(given["prompt"]), samples=given["samples"])
    seconds(made, Request(prompt=request.prompt[:64], samples=request.samples), drawing, num_tokens=3)
    read = seconds(made, request, drawing, num_tokens=1)
    return {"read": read, "wall": seconds(made, request, drawing, num_tokens=given["num_tokens"])}


def seconds(made: Transformer, request: Request, drawing: SamplerSection, *, num_tokens: int) -> float:
    began = time.perf_counter()
    sampler.draw_images(made, [request], drawing, num_tokens=num_tokens, seed=0)
    return time.perf_counter() - began


@torch.inference_mode()
def likeliest(made: Transformer, ids: Ids, *, guidance: float, num_tokens: int) -> Tensor:
    """The codes [S] that greedy drawing takes, with ours as it is used."""
    greedy = SamplerSection(temperature=0.0, guidance=guidance)
    (codes,) = sampler.draw_images(made, [Request(prompt=ids)], greedy, num_tokens=num_tokens, seed=0)
    return torch.from_numpy(codes)


@torch.inference_mode()
def guided(made: Transformer, ids: Ids, codes: Sequence[int], *, guidance: float) -> Tensor:
    """Log-probabilities [S, V] of the image id behind the prompt and each beginning of the codes, without any
    cache."""
    drawn = tuple(code + vocabulary.IMAGE_START for code in codes[:-1])
    streams = []
    for start in (ids, UNCONDITIONAL):
        ids_1T = torch.tensor([[*start, *drawn]])
        places_1T = torch.arange(ids_1T.shape[1])[None]
        hidden_SD = made(packed_inputs(ids_1T, torch.zeros_like(ids_1T), places_1T))[0, len(start) - 1 :]
        streams.append(made.image_logits(hidden_SD))
    return choosing.guide(*streams, weight=guidance).log_softmax(dim=-1)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(timed(json.loads(sys.argv[1]))) + "\n")
