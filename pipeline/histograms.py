"""A rule's histogram as coordinates of an SVG."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline import borderline
from pipeline.borderline import Histogram
from pipeline.rules import Rule

WIDTH, HEIGHT = 480, 120
"""Of the bars, in pixels; words stand outside."""
LEAST = 1.5
"""Pixels of a bar that stands for any rows at all: rejected ones are few."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    x: float
    width: float
    kept: float
    """Height."""
    rejected: float
    """Height; stands on top of the kept ones."""
    told: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    bars: tuple[Bar, ...]
    threshold: float
    """Where the line of the threshold stands; at the edge where it is beyond."""
    beyond: bool
    ticks: tuple[tuple[float, float], ...]
    """(place, value)."""
    top: int
    """Rows of the highest bar."""
    logarithmic: bool


def drawn(rule: Rule) -> Drawing | None:
    """None where nothing was measured."""
    found = borderline.histogram(rule)
    if found is None:
        return None
    top = int((found.kept + found.rejected).max())
    low, high = found.edges[0], found.edges[-1]
    return Drawing(
        bars=bars(found, top),
        threshold=float(places(found, np.array([rule.bound]))[0]),
        beyond=not low <= rule.bound <= high,
        ticks=ticks(found),
        top=top,
        logarithmic=found.logarithmic,
    )


def places(found: Histogram, values: np.ndarray) -> np.ndarray:
    """Pixels from the left of values, those beyond at the edge."""
    scale = np.log if found.logarithmic else np.asarray
    low, high = scale(found.edges[[0, -1]])
    clipped = np.clip(values, found.edges[0], found.edges[-1])
    return np.asarray((scale(clipped) - low) / (high - low) * WIDTH)


def bars(found: Histogram, top: int) -> tuple[Bar, ...]:
    xs = places(found, found.edges)
    made = []
    for at, (kept, rejected) in enumerate(zip(found.kept.tolist(), found.rejected.tolist(), strict=True)):
        if kept or rejected:
            low, high = found.edges[at : at + 2]
            bar = Bar(
                x=float(xs[at]),
                width=float(xs[at + 1] - xs[at]),
                kept=height(kept, top),
                rejected=height(rejected, top),
                told=f"{low:.4g} to {high:.4g}: {kept} kept, {rejected} rejected",
            )
            made.append(bar)
    return tuple(made)


def height(rows: int, top: int) -> float:
    return max(LEAST, rows / top * (HEIGHT - LEAST)) if rows else 0.0


def ticks(found: Histogram) -> tuple[tuple[float, float], ...]:
    """Five values, evenly over the axis."""
    spaced = np.geomspace if found.logarithmic else np.linspace
    values = spaced(found.edges[0], found.edges[-1], 5)
    return tuple(zip(places(found, values).tolist(), values.tolist(), strict=True))
