"""AdamW and its schedule, in steps.

The surprising rule: only weights that multiply are decayed. Positions and memories are looked up, not
multiplied, and rows that a step did not touch would only shrink; gains of norms belong at 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import nn

from infra.settings import Section
from trainer import parallel
from trainer.model import NORMS


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
    spike_ratio: float | None = Field(default=2.0, gt=1.0)
    """A step whose loss is so many times its running mean changes no weight; none: every step counts."""
    most_skipped: int = Field(default=10, ge=1)
    """Steps skipped in a row that end the run with an error: it has diverged."""

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
    kind = name.split(".")[-2]
    return kind in {"positions", "places", "rows"} or kind in NORMS


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Spikes:
    """The running mean of the loss, and the steps that changed no weight. Equal on all ranks."""

    mean: float | None = None
    in_a_row: int = 0
    skipped: int = 0
    """In all."""

    def is_spike(self, loss: float, section: OptimizerSection, *, step: int) -> bool:
        """Nothing is one in the warm-up, whose losses fall fast."""
        if self.mean is None or section.spike_ratio is None or step < section.warmup_steps:
            return False
        return loss > section.spike_ratio * self.mean

    def after(self, loss: float) -> Spikes:
        """An update. The mean is that of about 50 steps, as metaseq keeps one."""
        mean = loss if self.mean is None else self.mean + SPIKE_SHARE * (loss - self.mean)
        return replace(self, mean=mean, in_a_row=0)

    def past(self, section: OptimizerSection, *, step: int, why: str) -> Spikes:
        """A step that was skipped. Raises FloatingPointError where the run has diverged."""
        if self.in_a_row >= section.most_skipped:
            raise FloatingPointError(
                f"step {step + 1}: {why}, and {self.in_a_row} steps before it were skipped too; go on from "
                "the last checkpoint with a lower trainer.optimizer.learning_rate"
            )
        return replace(self, in_a_row=self.in_a_row + 1, skipped=self.skipped + 1)


SPIKE_SHARE = 0.02


def clip(optimizer: torch.optim.AdamW, section: OptimizerSection) -> float:
    """Shorten the gradients to ``clip_norm``; their norm before comes back."""
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    return parallel.full(nn.utils.clip_grad_norm_(weights, section.clip_norm)).item()


def update(optimizer: torch.optim.AdamW, section: OptimizerSection, *, step: int) -> None:
    """Take one step along the gradients and drop them."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(section, step)
    optimizer.step()
    optimizer.zero_grad()
