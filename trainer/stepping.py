"""Token after token: choose, write, read what was written; step by step, or as one graph.

The surprising rule: the number of the step is a tensor and no step waits for the device, so that all steps
are one graph, which a GPU replays without being asked for each kernel.

Shapes: N samples, B = N x streams rows that are read, S new tokens, D width.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from trainer.decoding import Decoder, Engine, Slot

Pick = Callable[[Tensor, Tensor], Tensor]
"""Ids [N], from the states [B, D] and numbers in [0, 1) [N]."""


def written(
    decoder: Decoder, pick: Pick, uniforms_NS: Tensor, given_NS: Tensor, engine: Engine
) -> Iterator[Tensor]:
    """The ids [N] of each step; an id that is given, at least 0, is written instead of one that is chosen."""
    hidden_BD = decoder.last_BD
    device, num_steps = hidden_BD.device, uniforms_NS.shape[1]
    uniforms_SN, given_SN = (one.T.contiguous().to(device) for one in (uniforms_NS, given_NS))
    slots_S = torch.arange(num_steps, device=device)
    step_of = _captured if engine == "compile" else _advanced
    for step in range(num_steps - 1):
        numbers = hidden_BD, uniforms_SN[step], given_SN[step]
        ids_N, hidden_BD = step_of(decoder, pick, numbers, slots_S, step)
        yield ids_N
    yield _picked(pick, (hidden_BD, uniforms_SN[-1], given_SN[-1]))


Numbers = tuple[Tensor, Tensor, Tensor]
"""States [B, D] to choose from, uniforms [N], given ids [N]."""


def _advanced(
    decoder: Decoder, pick: Pick, numbers: Numbers, slots_S: Tensor, step: int
) -> tuple[Tensor, Tensor]:
    """Ids [N] and the states [B, D] behind them: only the slots that are filled are looked at."""
    slot = Slot(at_1=slots_S[step : step + 1], stop=step + 1, unseen_S=None)
    return advance(decoder, pick, numbers, slot)


def _captured(
    decoder: Decoder, pick: Pick, numbers: Numbers, slots_S: Tensor, step: int
) -> tuple[Tensor, Tensor]:
    """The same as one graph, which is the same at every step: it looks at all slots and masks the rest."""
    torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]  # torch has no annotation
    ids_N, hidden_BD = _graph()(decoder, pick, numbers, slots_S, slots_S[step : step + 1])
    # A replay writes its answers to where the last ones are.
    return ids_N.clone(), hidden_BD.clone()


@functools.cache
def _graph() -> Any:
    return torch.compile(_masked, mode="reduce-overhead", dynamic=False)


def _masked(
    decoder: Decoder, pick: Pick, numbers: Numbers, slots_S: Tensor, at_1: Tensor
) -> tuple[Tensor, Tensor]:
    return advance(decoder, pick, numbers, Slot(at_1=at_1, stop=len(slots_S), unseen_S=slots_S > at_1))


def advance(decoder: Decoder, pick: Pick, numbers: Numbers, slot: Slot) -> tuple[Tensor, Tensor]:
    """Choose, and read what was chosen: nothing here waits for the device."""
    ids_N = _picked(pick, numbers)
    num_streams = len(numbers[0]) // len(ids_N)
    return ids_N, decoder(ids_N.repeat(num_streams), slot)


def _picked(pick: Pick, numbers: Numbers) -> Tensor:
    hidden_BD, uniform_N, given_N = numbers
    return torch.where(given_N < 0, pick(hidden_BD, uniform_N), given_N)
