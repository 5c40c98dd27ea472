"""Small models with large random weights, so that every token matters, and what they say without a cache."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tokenizer_service.vocabulary import Live
from trainer.model import ModelSection, Transformer, at_rest, packed_inputs

LIVE = Live(num_text=30, num_codes=20)


def random(**shape: Any) -> Transformer:
    section = ModelSection(**{"num_layers": 2, "width": 32, "num_heads": 4, "context": 64, **shape})
    model = Transformer(section, LIVE)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator) * 0.4)
    return model


@torch.no_grad()
def hidden(model: Transformer, ids: Sequence[int]) -> Tensor:
    """The state [1, D] behind the last token, when everything is read again."""
    ids_BT = torch.tensor([[*ids]])
    with at_rest(model):
        positions_BT = torch.arange(len(ids))[None]
        states: Tensor = model(packed_inputs(ids_BT, torch.zeros_like(ids_BT), positions_BT))
    return states[:, -1]
