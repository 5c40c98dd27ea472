"""Read prompts: all their tokens at once, end to end, and what is kept of them.

The surprising rule: prompts of any lengths are read in one pass without padding and without a mask, document
by document, as a packed row is in training.

Shapes: T tokens of all prompts that are read at once, P tokens of a prompt, H heads, E head width, L layers,
D width, W words of a caption.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor

from tokenizer_service import vocabulary
from trainer import attention
from trainer.attention import Mask, Runs
from trainer.lookup import Captioned, captioned
from trainer.model import Inputs, Transformer, at_rest
from trainer.prompts import Ids

READ_TOKENS = 8192
"""Of prompts that are read at once: what the feed-forward makes of them is 92 MB at width 512."""


def numerics(model: Transformer) -> AbstractContextManager[None]:
    """Autocast where the weights are bfloat16: the residual and softmax stay float32."""
    weight = model.tokens.weight
    return torch.autocast(weight.device.type, torch.bfloat16, enabled=weight.dtype == torch.bfloat16)


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """A prompt that was read."""

    keys_LHPE: Tensor
    values_LHPE: Tensor
    last_D: Tensor
    """The state behind its last token, from which the next is chosen."""
    captioned: Captioned
    """Of an image token that would come next, all [1]."""


class _Reading:
    """Keeps what a pass makes of the prompts, end to end."""

    def __init__(self) -> None:
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []

    def attend(self, _layer: int, q_BHTE: Tensor, k_BHTE: Tensor, v_BHTE: Tensor, seen: Mask) -> Tensor:
        self.keys.append(k_BHTE[0])
        self.values.append(v_BHTE[0])
        return attention.attend(q_BHTE, k_BHTE, v_BHTE, seen)


def read(model: Transformer, prompts: Sequence[Ids]) -> list[Read]:
    """Each prompt, which begins with ``<eos>``; some at once, without padding."""
    return [one for batch in _batches(prompts) for one in _read(model, batch)]


def _batches(prompts: Sequence[Ids]) -> Iterator[Sequence[Ids]]:
    start, num_tokens = 0, 0
    for i, prompt in enumerate(prompts):
        if num_tokens and num_tokens + len(prompt) > READ_TOKENS:
            yield prompts[start:i]
            start, num_tokens = i, 0
        num_tokens += len(prompt)
    yield prompts[start:]


def _read(model: Transformer, prompts: Sequence[Ids]) -> list[Read]:
    device, lengths = model.tokens.weight.device, [len(prompt) for prompt in prompts]
    inputs = Inputs(
        ids_BT=torch.tensor([[token for prompt in prompts for token in prompt]], device=device),
        positions_BT=torch.cat([torch.arange(length, device=device) for length in lengths])[None],
        seen=Runs(tuple(lengths)),
    )
    reading = _Reading()
    with numerics(model), at_rest(model):
        hidden_TD = model(inputs, reading)[0]
    keys, values = (torch.split(torch.stack(one), lengths, dim=2) for one in (reading.keys, reading.values))
    lasts = torch.tensor(lengths).cumsum(0) - 1
    return [
        Read(keys_LHPE=k, values_LHPE=v, last_D=hidden_TD[last], captioned=_next(model, prompt))
        for k, v, last, prompt in zip(keys, values, lasts.tolist(), prompts, strict=True)
    ]


def _next(model: Transformer, prompt: Ids) -> Captioned:
    ids_1S = torch.tensor([[*prompt, vocabulary.IMAGE_START]])
    of = captioned(ids_1S, torch.arange(ids_1S.shape[1])[None], model.section.image_places)
    device = model.tokens.weight.device
    place, words, real = (one[0, -1:].to(device) for one in (of.place_BT, of.words_BTW, of.real_BTW))
    return Captioned(place_BT=place, words_BTW=words, real_BTW=real)
