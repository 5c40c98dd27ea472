"""Fit a model to a stream of packed rows: accumulate, update, validate, keep checkpoints, stop early.

The surprising rule: there is no clock here. Everything is counted in steps, so that a resumed run, and on one
kind of CPU a repeated one, gives the same bytes; whoever wants rates puts a time beside what is reported.

Shapes: B rows, T tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from pydantic import Field
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from infra.settings import Section
from trainer import attention
from trainer import optimizer as optimizers
from trainer.checkpoint import Checkpoints, State, restore
from trainer.cm3 import Batch
from trainer.evaluate import evaluate
from trainer.model import Transformer, packed_inputs
from trainer.optimizer import OptimizerSection

Report = Callable[[Mapping[str, float], Path | None], None]
"""Is told the numbers of a step, and the checkpoint just written, if any."""


class LoopSection(Section):
    """``[trainer.loop]``: what happens around the updates, and the numerics."""

    accumulation: int = Field(default=1, ge=1)
    """Batches of the stream in one update."""
    report_every: int = Field(default=10, ge=1)
    """Steps between two training reports."""
    validate_every: int = Field(default=100, ge=1)
    """Steps between two validations; there is one at the end too."""
    checkpoint_every: int = Field(default=100, ge=1)
    """Steps between two checkpoints; there is one at the end too."""
    keep_checkpoints: int = Field(default=2, ge=1)
    """So many of the latest stay, beside the best."""
    watch: str = "alone/loss"
    """The validation number whose minimum marks the best checkpoint: name of the stream, then the bucket."""
    patience: int | None = Field(default=None, ge=1)
    """Stop after so many validations without a new best; none: run the whole schedule."""
    threads: int = Field(default=2, ge=1)
    """CPU threads of a worker. Sums are split by thread, so the number is part of the result."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """bfloat16: autocast, weights stay float32. On a CPU without AMX float32 was twice as fast."""
    engine: Literal["eager", "compile"] = "eager"
    """compile: ``torch.compile`` of the trunk; needs a C++ compiler, or Triton on a GPU."""


class Stream(Protocol):
    """An endless source of batches that knows where it stands."""

    def __next__(self) -> Batch: ...

    def state(self) -> Mapping[str, Any]:
        """JSON from which an equal stream goes on; :meth:`seek` takes it."""

    def seek(self, state: Mapping[str, Any]) -> None: ...

    def close(self) -> None:
        """End whatever makes batches ahead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Streams:
    train: Stream
    validation: Mapping[str, Callable[[], Iterable[Batch]]]
    """Named finite passes, begun anew each time: ``alone`` without neighbours, ``neighbors`` with them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    loop: LoopSection
    optimizer: OptimizerSection
    note: Mapping[str, Any]
    """Stored in each checkpoint: the run's configuration and what it was trained on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    step: int
    best_step: int
    best_loss: float
    """Of ``watch``; infinite where nothing was validated."""
    stopped_early: bool


class _Objective(nn.Module):
    """Trunk and loss as one module, since DistributedDataParallel watches one forward."""

    def __init__(self, model: Transformer, *, engine: str) -> None:
        super().__init__()
        self.model = model
        self.trunk = torch.compile(model) if engine == "compile" else model

    def forward(self, ids_BT: Tensor, documents_BT: Tensor, positions_BT: Tensor) -> Tensor:
        """Summed nats of the batch."""
        inputs = packed_inputs(ids_BT[:, :-1], documents_BT[:, :-1], positions_BT[:, :-1])
        hidden_BTD = self.trunk(inputs)
        return self.model.nll(hidden_BTD, ids_BT[:, 1:], attention.counted(documents_BT)).sum()


class _Run:
    """Weights, optimiser and counters between two steps."""

    def __init__(self, model: Transformer, streams: Streams, recipe: Recipe) -> None:
        self.model = model
        self.streams = streams
        self.recipe = recipe
        self.optimizer = optimizers.build(model, recipe.optimizer)
        objective = _Objective(model, engine=recipe.loop.engine)
        self.objective = DistributedDataParallel(objective) if distributed.is_initialized() else objective
        self.device = model.tokens.weight.device
        self.step = 0
        self.best_step = 0
        self.best_loss = float("inf")
        self.num_worse = 0

    def resume(self, folder: Path) -> None:
        state = restore(folder, self.model, self.optimizer)
        self.streams.train.seek(state.stream)
        self.step = state.step
        self.best_step = state.progress["best_step"]
        self.best_loss = float(state.progress["best_loss"])
        self.num_worse = state.progress["num_worse"]

    def state(self) -> State:
        return State(
            step=self.step,
            stream=self.streams.train.state(),
            live=self.model.live,
            model=self.model.section,
            # A string, since JSON has no infinity.
            progress={
                "best_step": self.best_step,
                "best_loss": repr(self.best_loss),
                "num_worse": self.num_worse,
            },
            note=self.recipe.note,
        )

    def advance(self) -> dict[str, float]:
        """One update, equal however its batches are cut or dealt to ranks: nats are divided by all tokens."""
        batches = [next(self.streams.train).to(self.device) for _ in range(self.recipe.loop.accumulation)]
        num_tokens = self._over_ranks(sum(attention.counted(batch.documents_BT).sum() for batch in batches))
        # DistributedDataParallel averages over ranks; we want the sum.
        share = _world_size() / num_tokens
        nats = torch.zeros((), device=self.device)
        self.model.train()
        for batch in batches:
            with self.autocast():
                part = self.objective(*batch)
            (part * share).backward()
            nats += part.detach()
        norm = optimizers.update(self.optimizer, self.recipe.optimizer, step=self.step)
        self.step += 1
        return {
            "loss": float(self._over_ranks(nats) / num_tokens),
            "tokens": float(num_tokens),
            "gradient_norm": norm,
            "learning_rate": self.optimizer.param_groups[0]["lr"],
        }

    def validate(self) -> dict[str, float]:
        """Every number of every validation stream, and whether it is the best so far."""
        table: dict[str, float] = {}
        for name, batches in self.streams.validation.items():
            with self.autocast():
                losses = evaluate(self.model, batches())
            table |= {f"{name}/{bucket}": value for bucket, value in losses.table().items()}
        if not table:
            return table
        watch = self.recipe.loop.watch
        if watch not in table:
            raise ValueError(
                f"trainer.loop.watch is {watch!r}; the validation has {', '.join(sorted(table))}"
            )
        if table[watch] < self.best_loss:
            self.best_step, self.best_loss, self.num_worse = self.step, table[watch], 0
        else:
            self.num_worse += 1
        return table

    @property
    def out_of_patience(self) -> bool:
        patience = self.recipe.loop.patience
        return patience is not None and self.num_worse >= patience

    @property
    def finished(self) -> bool:
        return self.step >= self.recipe.optimizer.num_steps or self.out_of_patience

    def autocast(self) -> AbstractContextManager[None]:
        enabled = self.recipe.loop.dtype == "bfloat16"
        return torch.autocast(self.device.type, torch.bfloat16, enabled=enabled)

    def _over_ranks(self, value: Tensor | int) -> Tensor:
        total = torch.as_tensor(value, dtype=torch.float32, device=self.device).clone()
        if distributed.is_initialized():
            distributed.all_reduce(total)
        return total


def _world_size() -> int:
    return distributed.get_world_size() if distributed.is_initialized() else 1


def _is_first() -> bool:
    return not distributed.is_initialized() or distributed.get_rank() == 0


def fit(
    model: Transformer, streams: Streams, recipe: Recipe, *, report: Report, checkpoints: Checkpoints
) -> Outcome:
    """Train until the schedule ends or validation stops improving; goes on where the checkpoints end.

    Afterwards ``model`` holds the last weights; the best are in ``checkpoints.best()``.
    """
    torch.set_num_threads(recipe.loop.threads)
    run = _Run(model, streams, recipe)
    if latest := checkpoints.latest():
        run.resume(latest)
    while not run.finished:
        metrics = run.advance()
        last = run.step == recipe.optimizer.num_steps
        validated = run.validate() if last or run.step % recipe.loop.validate_every == 0 else {}
        saved = None
        if _is_first():
            saved = _save(run, checkpoints, validated=bool(validated))
        if validated or saved or run.step % recipe.loop.report_every == 0:
            report({"step": run.step, **metrics, **validated}, saved)
    return Outcome(
        step=run.step,
        best_step=run.best_step,
        best_loss=run.best_loss,
        stopped_early=run.step < recipe.optimizer.num_steps,
    )


def _save(run: _Run, checkpoints: Checkpoints, *, validated: bool) -> Path | None:
    """The checkpoints that are due now; the one to resume from comes back."""
    if validated and run.best_step == run.step:
        checkpoints.save_best(run.model, run.optimizer, state=run.state())
    if run.finished or run.step % run.recipe.loop.checkpoint_every == 0:
        return checkpoints.save(run.model, run.optimizer, state=run.state())
    return None


def to_ray(metrics: Mapping[str, float]) -> None:
    """Report to Ray Train, from inside a worker that it started."""
    from ray import train  # noqa: PLC0415  # only a run that Ray started pays for the import

    train.report(dict(metrics))
