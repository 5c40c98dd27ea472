"""Draw images and texts from a trained model: a prompt is read once, its samples are written side by side.

The surprising rule: a sample depends on the seed, its prompt and on how many samples of equal prompts stand
before it, never on the others of the batch. (Batches of other sizes round differently: equal up to that.)

Shapes: N samples, B = N x streams rows that are read, S new tokens, D width, V ids that may come next.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from infra.settings import Section
from tokenizer_service import vocabulary
from trainer import choosing, stepping
from trainer.blocked import image_head
from trainer.decoding import Decoder, Engine
from trainer.model import Transformer
from trainer.prefill import numerics
from trainer.prompts import UNCONDITIONAL, Ids
from trainer.quantized import Precision, ready

ENDED_EVERY = 8
DRAWN = -1
"""In :attr:`Request.given`: this token is to be drawn."""


class SamplerSection(Section):
    """``[trainer.sampler]``: how tokens are drawn. Defaults: those of the authors' demo."""

    method: Literal["top_p", "contrastive", "half"] = "top_p"
    """Of images. ``contrastive``: CD-K (arXiv 2309.02591, eq. 3), the prompt against what it leads away from.
    ``half``: so for every other sample of a prompt, the rest by ``top_p``: figure 4's mix, which kept gaining
    from more samples."""
    temperature: float = Field(default=1.0, ge=0.0)
    """Divides the logits; 0 takes the likeliest token."""
    top_p: float = Field(default=0.8, gt=0.0, le=1.0)
    """Draw from the fewest likeliest tokens that hold this probability."""
    top_k: int = Field(default=8192, ge=1)
    """And from at most so many."""
    contrast_alpha: float = Field(default=0.1, gt=0.0, le=1.0)
    """CD-K offers tokens that are at least this many times as likely as the k-th likeliest. 0.1: what
    contrastive decoding had (arXiv 2210.15097); CM3Leon's is not published, nor is its k."""
    contrast_k: int = Field(default=64, ge=1)
    """Which k; 1 is contrastive decoding as it was."""
    guidance: float = Field(default=3.0, ge=1.0)
    """Weight of the text: logits = u + guidance (c - u); 1 is plain sampling. For images only."""
    image_guidance: float = Field(default=1.5, ge=0.0)
    """Editing: how far towards the picture (arXiv 2309.02591, section 4.1)."""
    text_guidance: float = Field(default=7.5, ge=0.0)
    """Editing: how far from there towards what the instruction says."""
    max_text_tokens: int = Field(default=64, ge=1)
    """Texts are cut here when they do not end by themselves."""
    precision: Precision = "float32"
    """Of the weights while drawing. ``int8``: of the linear layers, one scale an output."""
    engine: Engine = "eager"
    """compile: one graph a step, on a GPU captured; pays where many images of equal shape are drawn. A minute
    to begin with; then 8 images of 256 tokens from a model of 125M in bfloat16 took 0.7 and not 4.3 s of an
    H200."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Samples of one prompt."""

    prompt: Ids
    away: Ids = UNCONDITIONAL
    """What guidance leads away from."""
    image_only: Ids | None = None
    """The prompt without its instruction: given, guidance has two terms, of the picture and of the words."""
    samples: int = 1
    given: Ids | None = None
    """Image ids that are written whatever the model thinks; ``DRAWN`` where it draws. None: everywhere."""


@torch.inference_mode()
def draw_images(
    model: Transformer, requests: Sequence[Request], section: SamplerSection, *, num_tokens: int, seed: int
) -> NDArray[np.int64]:
    """Codes [N, num_tokens] in [0, num_codes), a row a sample, in the order of the requests.

    Image positions offer image ids only, exactly so many. Each stream of guidance is one more row a sample,
    behind its own prompt: 2 with one term, 3 with two. All N samples are held in memory at once: give fewer
    requests a call if that is too much. ``ValueError`` if two-term guidance is asked for by some requests
    only, or together with contrastive decoding, or if what is given is not of ``num_tokens``.
    """
    model = ready(model, section.precision)
    streams = _streams(requests, section)
    decoder = Decoder.start(
        model, [row for stream in streams for row in stream], num_new=num_tokens, engine=section.engine
    )
    head = image_head(model, len(decoder.row_at_B)) if section.engine == "eager" else model.image_logits
    contrasted_N1 = _contrasted(requests, section).to(decoder.last_BD.device)
    pick = ImagePick(model, head, section, len(streams), contrasted_N1)
    given_NS = _given(requests, num_tokens, num_codes=model.live.num_codes)
    uniforms_NS = _uniforms(requests, num_steps=num_tokens, seed=seed)
    codes_NS = torch.stack(
        list(stepping.written(decoder, pick, uniforms_NS, given_NS, section.engine)), dim=1
    )
    return codes_NS.cpu().numpy() - vocabulary.IMAGE_START


@torch.inference_mode()
def draw_texts(
    model: Transformer, requests: Sequence[Request], section: SamplerSection, *, seed: int
) -> list[Ids]:
    """Text ids of each sample in the order of the requests, up to ``<eoss>``, which is left out; by ``top_p``
    and without guidance.
    """
    model = ready(model, section.precision)
    prompts = [request.prompt for request in requests for _ in range(request.samples)]
    decoder = Decoder.start(model, prompts, num_new=section.max_text_tokens, engine=section.engine)
    uniforms_NS = _uniforms(requests, num_steps=section.max_text_tokens, seed=seed)
    nothing_NS = torch.full_like(uniforms_NS, DRAWN, dtype=torch.int64)
    ids: list[Tensor] = []
    for ids_N in stepping.written(decoder, TextPick(model, section), uniforms_NS, nothing_NS, section.engine):
        ids.append(ids_N)
        # Asking waits for the device, so it is not asked at every token.
        if len(ids) % ENDED_EVERY == 0 and bool((torch.stack(ids) == vocabulary.EOSS).any(dim=0).all()):
            break
    return [_until_eoss(row) for row in torch.stack(ids, dim=1).tolist()]


@dataclass(frozen=True, slots=True)
class ImagePick:
    """The next image id of each sample, from the states of its streams: prompt, image only, away."""

    model: Transformer
    head: Callable[[Tensor], Tensor]
    """Logits of image ids [B, V] from states [B, D]."""
    section: SamplerSection
    num_streams: int
    contrasted_N1: Tensor
    """Whether a sample is drawn by CD-K."""

    def __call__(self, hidden_BD: Tensor, uniform_N: Tensor) -> Tensor:
        with numerics(self.model):
            logits = self.head(hidden_BD).chunk(self.num_streams)
        section, scores_NV = self.section, self._guided(logits)
        top_p: Tensor | float = section.top_p
        top_k: Tensor | int = section.top_k
        if section.method != "top_p":
            contrast_NV = choosing.contrast(
                logits[0], logits[1], alpha=section.contrast_alpha, k=section.contrast_k
            )
            scores_NV = torch.where(self.contrasted_N1, contrast_NV, scores_NV)
            # CD-K has cut already what it does not offer.
            top_p = torch.where(self.contrasted_N1, 1.0, top_p)
            top_k = torch.where(self.contrasted_N1, scores_NV.shape[1], top_k)
        codes_N = choosing.choose(
            scores_NV, uniform_N, temperature=section.temperature, top_p=top_p, top_k=top_k
        )
        return codes_N + vocabulary.IMAGE_START

    def _guided(self, logits: Sequence[Tensor]) -> Tensor:
        match logits:
            case [with_text_NV]:
                return with_text_NV
            case [with_text_NV, without_NV]:
                return choosing.guide(with_text_NV, without_NV, weight=self.section.guidance)
        section = self.section
        return choosing.guide_twice(*logits, image=section.image_guidance, text=section.text_guidance)


@dataclass(frozen=True, slots=True)
class TextPick:
    """The next text id of each sample, or ``<eoss>``."""

    model: Transformer
    section: SamplerSection

    def __call__(self, hidden_BD: Tensor, uniform_N: Tensor) -> Tensor:
        section = self.section
        with numerics(self.model):
            logits_NV = only_text(self.model.text_logits(hidden_BD))
        return choosing.choose(
            logits_NV, uniform_N, temperature=section.temperature, top_p=section.top_p, top_k=section.top_k
        )


def only_text(logits_NV: Tensor) -> Tensor:
    """Inside an infilled text only text ids and ``<eoss>`` may come next."""
    allowed_V = torch.arange(logits_NV.shape[1], device=logits_NV.device) >= vocabulary.TEXT_START
    allowed_V[vocabulary.EOSS] = True
    return logits_NV.masked_fill(~allowed_V, -torch.inf)


def check_two_terms(section: SamplerSection) -> None:
    """Whether pictures can be edited with these settings."""
    if section.method != "top_p":
        raise ValueError(
            f"trainer.sampler.method is {section.method!r}, which knows no two-term guidance; set 'top_p'"
        )


def _streams(requests: Sequence[Request], section: SamplerSection) -> list[list[Ids]]:
    """The prompt of every sample, for each stream that is read."""
    edited = [request.image_only is not None for request in requests]
    if any(edited) and not all(edited):
        raise ValueError(
            f"{sum(edited)} of {len(edited)} requests have image_only; draw those with two-term guidance by "
            "themselves"
        )
    if any(edited):
        check_two_terms(section)
    streams = [[request.prompt for request in requests]]
    if any(edited):
        streams.append([request.image_only for request in requests if request.image_only is not None])
    if any(edited) or section.method != "top_p" or section.guidance != 1.0:
        streams.append([request.away for request in requests])
    copies = [request.samples for request in requests]
    return [
        [prompt for prompt, count in zip(stream, copies, strict=True) for _ in range(count)]
        for stream in streams
    ]


def _given(requests: Sequence[Request], num_tokens: int, *, num_codes: int) -> Tensor:
    """[N, S]"""
    nothing = (DRAWN,) * num_tokens
    rows = [nothing if request.given is None else request.given for request in requests]
    live = range(vocabulary.IMAGE_START, vocabulary.IMAGE_START + num_codes)
    for row in rows:
        if len(row) != num_tokens:
            raise ValueError(f"given are {len(row)} ids for {num_tokens} tokens; give one a token")
        wrong = [token for token in row if token != DRAWN and token not in live]
        if wrong:
            raise ValueError(f"given is {wrong[0]}, which is no image id in [{live.start}, {live.stop})")
    given = torch.tensor(rows).view(len(rows), num_tokens)
    return given.repeat_interleave(torch.tensor([request.samples for request in requests]), dim=0)


def _numbered(requests: Sequence[Request]) -> list[tuple[Ids, int]]:
    """Prompt of each sample, and the number of samples of equal prompts before it."""
    before: Counter[Ids] = Counter()
    found = []
    for request in requests:
        first = before[request.prompt]
        before[request.prompt] += request.samples
        found += [(request.prompt, number) for number in range(first, first + request.samples)]
    return found


def _contrasted(requests: Sequence[Request], section: SamplerSection) -> Tensor:
    """[N, 1]: all, none, or every other sample of a prompt."""
    numbers = torch.tensor([number for _, number in _numbered(requests)])[:, None]
    return numbers % {"contrastive": 1, "half": 2, "top_p": 1}[section.method] == 0


def _uniforms(requests: Sequence[Request], *, num_steps: int, seed: int) -> Tensor:
    """Numbers in [0, 1) [N, S], from (seed, prompt, number of the sample)."""
    rows = []
    for prompt, number in _numbered(requests):
        digest = hashlib.sha256(np.asarray([seed, number, *prompt], np.int64).tobytes()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
        rows.append(torch.rand(num_steps, generator=generator))
    return torch.stack(rows)


def _until_eoss(row: Sequence[int]) -> Ids:
    return tuple(row[: row.index(vocabulary.EOSS)] if vocabulary.EOSS in row else row)
