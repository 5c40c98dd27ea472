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
    """The running mean of the loss, and how many steps in a row lay above it. Equal on all ranks."""

    mean: float | None = None
    in_a_row: int = 0
    skipped: int = 0
    """In all."""

    def judged(self, loss: float, section: OptimizerSection, *, step: int) -> tuple[bool, Spikes]:
        """Whether a step with this loss is skipped, and what is known afterwards.

        Nothing is skipped in the warm-up, whose losses fall fast. A mean over 50 steps, as metaseq keeps one.
        Raises FloatingPointError where the run has diverged.
        """
        above = self.mean is not None and section.spike_ratio is not None and step >= section.warmup_steps
        if above and loss > section.spike_ratio * self.mean:  # type: ignore[operator]  # neither is None
            found = replace(self, in_a_row=self.in_a_row + 1, skipped=self.skipped + 1)
            if found.in_a_row > section.most_skipped:
                raise FloatingPointError(
                    f"step {step + 1}: the loss is {loss:.3f} and was {self.mean:.3f}; {self.in_a_row} steps "
                    "in a row were skipped; go on from the last checkpoint with a lower "
                    "trainer.optimizer.learning_rate"
                )
            return True, found
        mean = loss if self.mean is None else self.mean + SPIKE_SHARE * (loss - self.mean)
        return False, replace(self, mean=mean, in_a_row=0)


SPIKE_SHARE = 0.02


def update(optimizer: torch.optim.AdamW, section: OptimizerSection, *, step: int) -> float:
    """Clip the gradients, take one step and drop them. Returns their norm before clipping."""
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    norm = parallel.full(nn.utils.clip_grad_norm_(weights, section.clip_norm)).item()
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(section, step)
    optimizer.step()
    optimizer.zero_grad()
    return norm
