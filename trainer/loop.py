"""Fit a model to a stream of packed rows: accumulate, update, validate, keep checkpoints, stop early.

The surprising rule: nothing here hangs on a clock. Everything is counted in steps, so that a resumed run, and
on one kind of CPU a repeated one, gives the same bytes; how fast it went is told apart, by
:mod:`trainer.meter`.

Shapes: B rows, T tokens, C counts of masks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

import torch
from pydantic import Field
from torch import Tensor

from infra.settings import Section
from trainer import attention, budget, cm3, evaluate, parallel
from trainer import optimizer as optimizers
from trainer.checkpoint import Checkpoints, State, restore, take_weights
from trainer.cm3 import Batch
from trainer.evaluate import Losses
from trainer.meter import Meter
from trainer.model import Transformer, at_rest, initialise
from trainer.objective import Objective
from trainer.optimizer import OptimizerSection, Spikes
from trainer.parallel import Strategy
from trainer.spans import Counts, MaskingSection

T = TypeVar("T")
Report = Callable[[Mapping[str, float]], None]
"""Is told the numbers of a step, on every rank."""


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
    """compile: ``torch.compile`` of each block; needs a C++ compiler, or Triton on a GPU."""
    strategy: Strategy = "ddp"
    """ddp: each rank holds the whole model. fsdp: ranks share its weights and moments (FSDP2)."""
    recompute: Literal["off", "blocks"] = "off"
    """blocks: keep the input of each block only, and compute it again backward (activation checkpointing)."""


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
    seed: int
    """Of the first weights."""
    weights: Path | None = None
    """A checkpoint whose weights are the first ones instead."""
    loop: LoopSection
    optimizer: OptimizerSection
    masking: MaskingSection
    note: Mapping[str, Any]
    """Stored in each checkpoint: the run's configuration and what it was trained on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    step: int
    best_step: int
    best_loss: float
    """Of ``watch``; infinite where nothing was validated."""
    stopped_early: bool


class _Run:
    """Weights, optimiser and counters between two steps."""

    def __init__(self, model: Transformer, streams: Streams, recipe: Recipe) -> None:
        self.model = model
        self.streams = streams
        self.recipe = recipe
        on_meta = model.tokens.weight.is_meta
        self.device = parallel.device() if on_meta else model.tokens.weight.device
        objective = Objective(
            model,
            compiled=recipe.loop.engine == "compile",
            recomputes=recipe.loop.recompute == "blocks",
        )
        if on_meta and recipe.loop.strategy == "ddp":
            first_weights(model, self.device, recipe.seed)
        self.objective = parallel.dealt(
            objective, model.blocks, recipe.loop.strategy, half=recipe.loop.dtype == "bfloat16"
        )
        if on_meta and recipe.loop.strategy == "fsdp":  # each rank draws what it holds
            first_weights(model, self.device, recipe.seed)
        self.optimizer = optimizers.build(model, recipe.optimizer)
        self.meter = Meter(device=self.device, ranks=parallel.world_size())
        self.step = 0
        self.best_step = 0
        self.best_loss = float("inf")
        self.num_worse = 0
        self.spikes = Spikes()
        self.masks = Counts()

    def resume(self, folder: Path) -> None:
        state = restore(folder, self.model, self.optimizer)
        self.streams.train.seek(state.stream)
        self.step = state.step
        self.best_step = state.progress["best_step"]
        self.best_loss = float(state.progress["best_loss"])
        self.num_worse = state.progress["num_worse"]
        self.spikes = Spikes(**state.progress["spikes"])

    def check_weights(self) -> None:
        """A checkpoint of weights that are no numbers would push a good one out."""
        wrong = sum(
            (
                weight.isfinite().logical_not().sum()
                for weight in map(parallel.local, self.model.parameters())
            ),
            torch.zeros((), dtype=torch.int64, device=self.device),
        )
        if int(parallel.total(wrong)):
            raise FloatingPointError(
                f"step {self.step}: some weights are no numbers, so no checkpoint was written; go on from "
                "the last with `pardalis train --resume` and a lower trainer.optimizer.learning_rate"
            )

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
                "updates": self.step - self.spikes.skipped,
                "spikes": asdict(self.spikes),
            },
            note=self.recipe.note,
        )

    def advance(self, *, told: bool) -> dict[str, float]:
        """One update, equal however its batches are cut or dealt to ranks: nats are divided by all tokens.

        ``told``: with everything that is reported; else nothing that takes time.
        """
        with self.meter.waiting():
            batches = [next(self.streams.train) for _ in range(self.recipe.loop.accumulation)]
        batches = [batch.to(self.device) for batch in batches]
        counted = [cm3.counted(batch, self.recipe.masking) for batch in batches]
        found = sum((one.sum() for one in counted), torch.zeros((), dtype=torch.int64, device=self.device))
        num_tokens = parallel.total(found)
        nlls = self._backward(batches, counted, num_tokens)
        tokens = num_tokens.item()
        loss = parallel.total(torch.stack([nll.sum() for nll in nlls]).sum()).item() / max(tokens, 1)
        self._check(loss)
        numbers = {"loss": loss, "tokens": tokens, **self._update(loss, tokens)}
        self.step += 1
        self.meter.trained(tokens)
        self.masks += sum((batch.masks for batch in batches), Counts())
        if told:
            numbers |= self._told(batches, nlls, counted)
        return numbers

    def _backward(self, batches: list[Batch], counted: list[Tensor], num_tokens: Tensor) -> list[Tensor]:
        """Gradients of the step's loss; the nats of each batch's targets come back."""
        # Those who deal a model average over ranks; we want the sum.
        share = parallel.world_size() / num_tokens.clamp(min=1)
        self.model.train()
        nlls = []
        for number, (batch, counted_BT) in enumerate(zip(batches, counted, strict=True)):
            with parallel.adding_up(self.objective, last=number == len(batches) - 1), self.autocast():
                loss, nll_BT = self.objective(*batch, counted_BT * share)
            with parallel.adding_up(self.objective, last=number == len(batches) - 1):
                loss.backward()
            nlls.append(nll_BT)
        return nlls

    def _check(self, loss: float) -> None:
        if not math.isfinite(loss):
            raise FloatingPointError(
                f"step {self.step + 1}: the loss is {loss}; it changed no weight, and the last checkpoint is "
                "whole; go on from it with `pardalis train --resume`, with a lower "
                "trainer.optimizer.learning_rate or trainer.loop.dtype = 'float32'"
            )

    def _update(self, loss: float, tokens: float) -> dict[str, float]:
        """A step changes no weight if its loss is a spike, its gradient no number, or all its documents were
        taken back.
        """
        section, spikes = self.recipe.optimizer, self.spikes
        norm = optimizers.clip(self.optimizer, section)
        if not tokens:
            self.spikes = replace(spikes, skipped=spikes.skipped + 1)
        elif spikes.is_spike(loss, section, step=self.step):
            why = f"the loss is {loss:.3f} and was {spikes.mean:.3f}"
            self.spikes = spikes.past(section, step=self.step, why=why)
        elif not math.isfinite(norm):
            self.spikes = spikes.past(section, step=self.step, why=f"the gradient's norm is {norm}")
        else:
            optimizers.update(self.optimizer, section, step=self.step)
            self.spikes = spikes.after(loss)
        self.optimizer.zero_grad()
        return {
            "gradient_norm": norm,
            "learning_rate": optimizers.learning_rate(section, self.step),
            "skipped": self.spikes.skipped,
        }

    def _told(self, batches: list[Batch], nlls: list[Tensor], counted: list[Tensor]) -> dict[str, float]:
        """Of this step, losses by modality and place; since the last report, what was masked; how fast."""
        parts = [
            evaluate.bucketed(nll, batch, counted_BT)
            for nll, batch, counted_BT in zip(nlls, batches, counted, strict=True)
        ]
        losses = over_ranks(sum(parts, Losses()), Losses())
        masks = over_ranks(self.masks, Counts())
        self.masks = Counts()
        table = {name: value for name, value in losses.table().items() if name != "loss"}
        shares = {f"masks/{name}": value for name, value in masks.shares().items()} if masks.rows else {}
        section, live = self.model.section, self.model.live
        length = masks.tokens / masks.documents if masks.documents else section.context
        return {**table, **shares, **self.meter.told(budget.flops_per_token(section, live, longest=length))}

    def validate(self) -> dict[str, float]:
        """Every number of every validation stream, and whether it is the best so far."""
        table: dict[str, float] = {}
        for name, batches in self.streams.validation.items():
            losses = over_ranks(self._losses(batches()), Losses())
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

    def _losses(self, batches: Iterable[Batch]) -> Losses:
        """Of this rank's share. All ranks take equally many batches, since sharded weights are gathered by
        all at once; what is left over is computed and not counted.
        """
        rank, found = parallel.rank(), Losses()
        objective = parallel.whole(self.objective)
        with self.autocast(), torch.no_grad(), at_rest(objective):
            for group in in_groups(batches, parallel.world_size()):
                batch = group[rank % len(group)]
                counted_BT = attention.counted(batch.documents_BT)
                nll_BT = objective(*batch.to(self.device), counted_BT.to(self.device))[1]
                if rank < len(group):
                    found += evaluate.bucketed(nll_BT, batch, counted_BT)
        parallel.apart(objective)
        return found

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


def first_weights(model: Transformer, device: torch.device, seed: int) -> Transformer:
    """Memory and first weights for a model on the meta device."""
    return initialise(model.to_empty(device=device), seed=seed)


def in_groups(batches: Iterable[T], size: int) -> Iterator[list[T]]:
    """The last may be smaller.

    >>> list(in_groups("abcde", 2))
    [['a', 'b'], ['c', 'd'], ['e']]
    """
    iterator = iter(batches)
    while group := list(islice(iterator, size)):
        yield group


Sum = TypeVar("Sum", Losses, Counts)


def over_ranks(found: Sum, nothing: Sum) -> Sum:
    return sum(parallel.gathered(found), nothing)


def fit(
    model: Transformer, streams: Streams, recipe: Recipe, *, report: Report, checkpoints: Checkpoints
) -> Outcome:
    """Train until the schedule ends or validation stops improving; goes on where the checkpoints end.

    A model on the meta device gets memory and its first weights here, once it was dealt to the ranks; or
    those of ``recipe.weights``.
    Afterwards ``model`` holds the last weights; the best are in ``checkpoints.best()``. Raises
    FloatingPointError where the loss is no number, and OSError where a checkpoint cannot be written; the
    checkpoint before is whole.
    """
    torch.set_num_threads(recipe.loop.threads)
    run = _Run(model, streams, recipe)
    if latest := parallel.told_by_first(checkpoints.latest()):
        run.resume(latest)
        checkpoints.forget(after=run.step)
    elif recipe.weights is not None:
        take_weights(recipe.weights, model)
    try:
        while not run.finished:
            _step(run, report=report, checkpoints=checkpoints)
    except BaseException:
        checkpoints.settle()  # not wait: the other ranks may be anywhere
        raise
    checkpoints.wait()
    return Outcome(
        step=run.step,
        best_step=run.best_step,
        best_loss=run.best_loss,
        stopped_early=run.step < recipe.optimizer.num_steps,
    )


def _step(run: _Run, *, report: Report, checkpoints: Checkpoints) -> None:
    section, num_steps = run.recipe.loop, run.recipe.optimizer.num_steps
    last = run.step + 1 == num_steps
    validates = last or (run.step + 1) % section.validate_every == 0
    told = validates or (run.step + 1) % section.report_every == 0
    metrics = run.advance(told=told)
    if validates:
        metrics |= run.validate()
        if run.best_step == run.step:
            checkpoints.save_best(run.model, state=run.state())
    if run.finished or run.step % section.checkpoint_every == 0:
        run.check_weights()
        checkpoints.save(run.model, run.optimizer, state=run.state())
    if told:
        report({"step": run.step, **metrics})
        run.meter.begin()


def to_ray(metrics: Mapping[str, float]) -> None:
    """Report to Ray Train, from inside a worker that it started."""
    from ray import train  # noqa: PLC0415  # only a run that Ray started pays for the import

    train.report(dict(metrics))
