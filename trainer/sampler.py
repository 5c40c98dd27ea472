"""Draw images and captions from a trained model: cached decoding, guidance, temperature, top-k and top-p.

The surprising rule: a sample depends on the seed, its prompt and on how many equal prompts stand before it,
never on the others of the batch. N samples of a prompt are N copies of it. (Batches of other sizes round
differently: equal up to that.)

Shapes: B prompts, T their tokens, S steps or slots of the cache, D width, V ids that may come next.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from infra.settings import Section
from tokenizer_service import vocabulary
from trainer.model import Cache, Inputs, Transformer, at_rest

Ids = tuple[int, ...]

UNCONDITIONAL: Ids = (vocabulary.EOS, vocabulary.sentinel(0), vocabulary.BREAK)
"""An image whose text was cut, without neighbours: guidance leads away from it (arXiv 2309.02591, eq. 1)."""


class SamplerSection(Section):
    """``[trainer.sampler]``: how tokens are drawn. Defaults: those of the authors' demo."""

    temperature: float = Field(default=1.0, ge=0.0)
    """Divides the logits; 0 takes the likeliest token."""
    top_p: float = Field(default=0.8, gt=0.0, le=1.0)
    """Draw from the fewest likeliest tokens that hold this probability."""
    top_k: int = Field(default=8192, ge=1)
    """And from at most so many."""
    guidance: float = Field(default=3.0, ge=1.0)
    """Weight of the text: logits = u + guidance (c - u); 1 is plain sampling. For images only."""
    max_text_tokens: int = Field(default=64, ge=1)
    """Captions are cut here when they do not end by themselves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A neighbour in front of a prompt: the ids of its text and of its image."""

    text: Ids
    image: Ids


def image_prompt(text: Sequence[int], neighbors: Sequence[Pair] = ()) -> Ids:
    """``<eos> T1 <break> I1 <break> ... Tq <break>``: an image comes next."""
    return (*_opening(neighbors), *text, vocabulary.BREAK)


def caption_prompt(image: Sequence[int], neighbors: Sequence[Pair] = ()) -> Ids:
    """``<eos> ... <sentinel:0> <break> I <eos> <sentinel:0>``: the text that was cut comes next."""
    mask = vocabulary.sentinel(0)
    return (*_opening(neighbors), mask, vocabulary.BREAK, *image, vocabulary.EOS, mask)


def _opening(neighbors: Sequence[Pair]) -> Ids:
    pairs = ((*pair.text, vocabulary.BREAK, *pair.image, vocabulary.BREAK) for pair in neighbors)
    return (vocabulary.EOS, *(token for pair in pairs for token in pair))


@torch.inference_mode()
def draw_images(
    model: Transformer, prompts: Sequence[Ids], section: SamplerSection, *, num_tokens: int, seed: int
) -> NDArray[np.int64]:
    """Codes [B, num_tokens] in [0, num_codes): image positions offer image ids only, exactly so many.

    Guidance doubles the rows that are read: each sample also runs behind ``UNCONDITIONAL``.
    """
    streams = 1 if section.guidance == 1.0 else 2
    rows = [*prompts, *[UNCONDITIONAL] * (len(prompts) * (streams - 1))]
    decoder = Decoder.start(model, rows, num_new=num_tokens)
    uniforms_BS = _uniforms(prompts, num_steps=num_tokens, seed=seed).to(decoder.last_BD.device)
    codes: list[Tensor] = []
    for step in range(num_tokens):
        if codes:
            decoder.read((codes[-1] + vocabulary.IMAGE_START).repeat(streams))
        logits_BV = guide(model.image_logits(decoder.last_BD), streams=streams, weight=section.guidance)
        codes.append(choose(logits_BV, uniforms_BS[:, step], section))
    return torch.stack(codes, dim=1).cpu().numpy()


@torch.inference_mode()
def draw_texts(
    model: Transformer, prompts: Sequence[Ids], section: SamplerSection, *, seed: int
) -> list[Ids]:
    """Text ids up to ``<eoss>``, which is left out."""
    decoder = Decoder.start(model, prompts, num_new=section.max_text_tokens)
    uniforms_BS = _uniforms(prompts, num_steps=section.max_text_tokens, seed=seed).to(decoder.last_BD.device)
    ids: list[Tensor] = []
    ended_B = torch.zeros(len(prompts), dtype=torch.bool, device=decoder.last_BD.device)
    while len(ids) < section.max_text_tokens and not bool(ended_B.all()):
        if ids:
            decoder.read(ids[-1])
        logits_BV = only_text(model.text_logits(decoder.last_BD))
        ids.append(choose(logits_BV, uniforms_BS[:, len(ids)], section))
        ended_B = ended_B | (ids[-1] == vocabulary.EOSS)
    return [_until_eoss(row) for row in torch.stack(ids, dim=1).tolist()]


def _until_eoss(row: Sequence[int]) -> Ids:
    return tuple(row[: row.index(vocabulary.EOSS)] if vocabulary.EOSS in row else row)


def only_text(logits_BV: Tensor) -> Tensor:
    """Inside a caption only text ids and ``<eoss>`` may come next."""
    allowed_V = torch.arange(logits_BV.shape[1], device=logits_BV.device) >= vocabulary.TEXT_START
    allowed_V[vocabulary.EOSS] = True
    return logits_BV.masked_fill(~allowed_V, -torch.inf)


def guide(logits_BV: Tensor, *, streams: int, weight: float) -> Tensor:
    """Mix u + weight (c - u) of rows that are conditional ones, then unconditional ones."""
    if streams == 1:
        return logits_BV
    with_text_BV, without_BV = logits_BV.log_softmax(dim=-1).chunk(2)
    return without_BV + weight * (with_text_BV - without_BV)


def choose(logits_BV: Tensor, uniform_B: Tensor, section: SamplerSection) -> Tensor:
    """One token a row [B], by inverting the cumulated probabilities at a number drawn in [0, 1)."""
    if section.temperature == 0.0:
        return logits_BV.argmax(dim=-1)
    sorted_BV, order_BV = (logits_BV / section.temperature).sort(dim=-1, descending=True, stable=True)
    kept_BV = sorted_BV[:, : section.top_k].softmax(dim=-1)
    below_BV = kept_BV.cumsum(dim=-1) - kept_BV
    kept_BV = torch.where(below_BV < section.top_p, kept_BV, 0.0)
    cumulated_BV = kept_BV.cumsum(dim=-1)
    place_B1 = torch.searchsorted(cumulated_BV, uniform_B[:, None] * cumulated_BV[:, -1:], right=True)
    # Rounding may put the place behind the last kept token, whose probability is then not above the sum.
    last_B1 = (kept_BV > 0.0).sum(dim=-1, keepdim=True) - 1
    return order_BV.gather(1, torch.minimum(place_B1, last_B1)).squeeze(1)


def _uniforms(prompts: Sequence[Ids], *, num_steps: int, seed: int) -> Tensor:
    """Numbers in [0, 1) [B, S], from (seed, prompt, equal prompts before it)."""
    before: Counter[Ids] = Counter()
    rows = []
    for prompt in prompts:
        digest = hashlib.sha256(np.asarray([seed, before[prompt], *prompt], np.int64).tobytes()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
        rows.append(torch.rand(num_steps, generator=generator))
        before[prompt] += 1
    return torch.stack(rows)


class Decoder:
    """Rows being written: the cache, and the state behind the last token of each row.

    Prompts are padded on the left, so that all rows write the same slot; padding is never looked at.
    """

    def __init__(self, model: Transformer, *, lengths_B: Tensor, cache: Cache) -> None:
        self.model = model
        self.cache = cache
        self.lengths_B = lengths_B
        self.last_BD = torch.empty(0)

    @classmethod
    def start(cls, model: Transformer, prompts: Sequence[Ids], *, num_new: int) -> Decoder:
        """Read the prompts; room is taken for ``num_new`` more tokens."""
        longest = max(map(len, prompts))
        if longest + num_new > model.section.context:
            raise ValueError(
                f"a prompt of {longest} tokens and {num_new} new ones exceed the context of "
                f"{model.section.context}; give fewer neighbours or a shorter text"
            )
        device = model.tokens.weight.device
        lengths_B = torch.tensor([len(prompt) for prompt in prompts], device=device)
        cache = Cache(
            model.section, batch_rows=len(prompts), num_slots=longest + num_new, like=model.tokens.weight
        )
        decoder = cls(model, lengths_B=lengths_B, cache=cache)
        padded = [[vocabulary.PAD] * (longest - len(prompt)) + list(prompt) for prompt in prompts]
        decoder._read(torch.tensor(padded, device=device))
        return decoder

    def read(self, ids_B: Tensor) -> None:
        """Append one token to each row."""
        self.lengths_B = self.lengths_B + 1
        self._read(ids_B[:, None])

    def _read(self, ids_BT: Tensor) -> None:
        num_new = ids_BT.shape[1]
        stop = self.cache.num_filled + num_new
        slots_S = torch.arange(stop, device=ids_BT.device)
        slots_T = slots_S[-num_new:]
        first_B11 = (stop - self.lengths_B)[:, None, None]
        causal_TS = slots_S[None, :] <= slots_T[:, None]
        own_TS = slots_S[None, :] == slots_T[:, None]
        inputs = Inputs(
            ids_BT=ids_BT,
            positions_BT=(slots_T[None, :] - first_B11[:, 0]).clamp(min=0),
            seen=causal_TS & ((slots_S >= first_B11) | own_TS),
        )
        with at_rest(self.model):
            self.last_BD = self.model(inputs, self.cache)[:, -1]
