"""What a task's items scored, for the model and for those that need no model; and the verdict on it.

The surprising rule: a verdict is about the lower bound of a difference. A model whose mean is above a
baseline's, by no more than the items leave open, is not above it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.colors import Pixels
from pipeline.reviewing.thumbnails import png
from trainer.evaluation import bootstrap

MODEL, CHANCE, COPY, CEILING = "model", "chance", "copy", "ceiling"
MEAN = "mean color of the rest"
"""Of a region that is missing."""
BASELINES = (CHANCE, COPY, MEAN)
SHOWN = 8
"""Items of a task whose pictures are shown: the first, in an order that nobody chose."""
Cell = str | int | float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """One number an item, the larger the better, by who answered; equal items in equal places."""

    name: str
    scores: Mapping[str, Sequence[float]]

    @property
    def num_items(self) -> int:
        return len(self.scores[MODEL])

    def json(self, *, seed: int) -> dict[str, Any]:
        """Means with their bounds, the differences to the baselines, and the verdict."""
        if not self.num_items:
            return {"name": self.name, "items": 0, "means": {}, "differences": {}, "verdict": "no items"}
        means = {who: bootstrap.of_mean(each, seed=seed).json() for who, each in self.scores.items()}
        differences = {
            who: bootstrap.of_difference(self.scores[MODEL], self.scores[who], seed=seed).json()
            for who in BASELINES
            if who in self.scores
        }
        return {
            "name": self.name,
            "items": self.num_items,
            "means": means,
            "differences": differences,
            "verdict": verdict({who: one["low"] for who, one in differences.items()}),
        }


def verdict(lows: Mapping[str, float]) -> str:
    """By the lower bounds of the differences to the baselines.

    >>> verdict({"chance": 0.1, "copy": 0.0})
    'above chance, not above copy'
    """
    if not lows:
        return "no baseline"
    told = [f"{'above' if low > 0 else 'not above'} {who}" for who, low in lows.items()]
    return ", ".join(told)


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Figures without bounds."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]

    def json(self) -> dict[str, Any]:
        return {"title": self.title, "head": list(self.head), "rows": [list(row) for row in self.rows]}


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """One item on the page. Words and pictures are None where no licence lets them be displayed."""

    said: Mapping[str, str | None] = field(default_factory=dict)
    pictures: Mapping[str, Pixels | None] = field(default_factory=dict)

    def json(self) -> dict[str, Any]:
        pictures = {name: None if one is None else png(one) for name, one in self.pictures.items()}
        return {"said": dict(self.said), "pictures": pictures}


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A task. The first measure is the one that it is judged by."""

    title: str
    about: str
    """What chance and copy are here, and how items are scored."""
    measures: Sequence[Measure] = ()
    tables: Sequence[Table] = ()
    shown: Sequence[Shown] = ()

    def json(self, *, seed: int) -> dict[str, Any]:
        return {
            "title": self.title,
            "about": self.about,
            "measures": [one.json(seed=seed) for one in self.measures],
            "tables": [one.json() for one in self.tables],
            "shown": [one.json() for one in self.shown],
        }


def nothing(title: str, why: str) -> Judged:
    """A task without items."""
    return Judged(title=title, about=why)
