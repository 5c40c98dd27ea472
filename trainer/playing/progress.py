"""How far a drawing is: counted at the model itself, where it can also be stopped."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from trainer.decoding import Engine
from trainer.model import Transformer

PATIENCE_S = 150.0
"""Without a question from whoever asked for it: browsers ask once a minute for a page in the background."""


class Stopped(Exception):
    """Nobody waits for the drawing any more."""


@dataclass(slots=True, kw_only=True)
class Progress:
    """Written by the thread that draws, read by the others."""

    total: int
    """Tokens; of words, as many as there may be."""
    seen: float
    """When it was last asked about."""
    done: int = 0
    began: float | None = None
    """When the first token was there: the prompt is read before."""
    stopped: bool = False

    @property
    def abandoned(self) -> bool:
        return self.stopped or now() - self.seen > PATIENCE_S

    def step(self) -> None:
        if self.abandoned:
            raise Stopped
        if self.began is None:
            self.began = now()
        self.done += 1

    def told(self) -> dict[str, Any]:
        """Tokens a second, and seconds that are left, as far as they are known."""
        taken = None if self.began is None else now() - self.began
        rate = (self.done - 1) / taken if taken and self.done > 1 else None
        return {
            "done": self.done,
            "total": self.total,
            "rate": rate and round(rate, 1),
            "left_s": rate and round((self.total - self.done) / rate, 1),
        }


@contextlib.contextmanager
def watched(model: Transformer, progress: Progress, engine: Engine) -> Iterator[None]:
    """Counts the tokens that are drawn in the block; a compiled graph cannot be looked into."""
    if engine == "compile":
        yield
        return

    def step(_model: nn.Module, given: tuple[Any, ...], _states: Tensor) -> None:
        if given[0].ids_BT.shape[1] == 1:  # one more token of each row; prompts have more
            progress.step()

    hook = model.register_forward_hook(step)
    try:
        yield
    finally:
        hook.remove()


def now() -> float:
    return time.monotonic()
