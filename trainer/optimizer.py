"""AdamW and its schedule, in steps.

The surprising rule: only weights that multiply are decayed. Positions and memories are looked up, not
multiplied, and rows that a step did not touch would only shrink.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import nn

from infra.settings import Section


class OptimizerSection(Section):
    """``[trainer.optimizer]``: AdamW, warm-up, decay. Defaults: the paper's 350M run and its metaseq kin."""

    learning_rate: float = Field(default=6e-4, gt=0.0)
    """Peak, reached after the warm-up."""
    num_steps: int = Field(default=1000, ge=1)
    """Length of the schedule. Training stops here at the latest."""
    warmup_steps: int = Field(default=100, ge=0)
    """Steps of linear rise from 0; the paper: 1,500."""
    decay: Literal["cosine", "polynomial"] = "polynomial"
    """Fall from the peak; polynomial of power 1, as in OPT's launcher."""
    final_share: float = Field(default=0.1, ge=0.0, le=1.0)
    """Share of the peak at the last step."""
    beta1: float = Field(default=0.9, ge=0.0, lt=1.0)
    """Memory of the gradient's mean."""
    beta2: float = Field(default=0.95, ge=0.0, lt=1.0)
    """Memory of the gradient's square."""
    weight_decay: float = Field(default=0.1, ge=0.0)
    """Of the weights that multiply."""
    clip_norm: float = Field(default=1.0, gt=0.0)
    """Longest gradient, over all weights."""

    @model_validator(mode="after")
    def _warmup_ends(self) -> OptimizerSection:
        if self.warmup_steps >= self.num_steps:
            raise ValueError(f"warmup_steps {self.warmup_steps} leaves nothing of num_steps {self.num_steps}")
        return self


def build(model: nn.Module, section: OptimizerSection) -> torch.optim.AdamW:
    """AdamW (arXiv 1711.05101) over two groups: weights that multiply, which decay, and tables."""
    named = list(model.named_parameters())
    tables = [weight for name, weight in named if _is_table(name)]
    matrices = [weight for name, weight in named if not _is_table(name)]
    groups = [
        {"params": matrices, "weight_decay": section.weight_decay},
        {"params": tables, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        groups, lr=section.learning_rate, betas=(section.beta1, section.beta2), eps=1e-8, fused=True
    )


def _is_table(name: str) -> bool:
    return name.split(".")[-2] in {"positions", "places", "rows"}


def learning_rate(section: OptimizerSection, step: int) -> float:
    """Rate of the update that follows ``step`` finished ones.

    >>> section = OptimizerSection(learning_rate=1.0, num_steps=12, warmup_steps=2)
    >>> [round(learning_rate(section, step), 2) for step in (0, 1, 2, 7, 12)]
    [0.5, 1.0, 1.0, 0.55, 0.1]
    """
    if step < section.warmup_steps:
        return section.learning_rate * (step + 1) / section.warmup_steps
    done = min(1.0, (step - section.warmup_steps) / (section.num_steps - section.warmup_steps))
    left = 1.0 - done if section.decay == "polynomial" else 0.5 * (1.0 + math.cos(math.pi * done))
    return section.learning_rate * (section.final_share + (1.0 - section.final_share) * left)


def update(optimizer: torch.optim.AdamW, section: OptimizerSection, *, step: int) -> float:
    """Clip the gradients, take one step and drop them. Returns their norm before clipping."""
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    norm = nn.utils.clip_grad_norm_(weights, section.clip_norm)
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(section, step)
    optimizer.step()
    optimizer.zero_grad()
    return norm.item()
