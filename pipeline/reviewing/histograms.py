"""A rule's histogram as coordinates of an SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.filtering.rules import Rule
from pipeline.reviewing import borderline
from pipeline.reviewing.borderline import Histogram

WIDTH, HEIGHT = 480, 120
"""Of the bars, in pixels; words stand outside."""
LEAST = 1.5
"""Pixels of a bar that stands for any rows at all: rejected ones are few."""
FEW = 4
"""Ticks, under which more are put between powers of ten."""


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
        threshold=places(found, [rule.bound])[0],
        beyond=not low <= rule.bound <= high,
        ticks=ticks(found),
        top=top,
        logarithmic=found.logarithmic,
    )


def places(found: Histogram, values: Sequence[float]) -> list[float]:
    """Pixels from the left of values, those beyond at the edge. All bins are equally wide on the page."""
    of_edges = np.linspace(0, WIDTH, len(found.edges))
    placed: list[float] = np.interp(values, found.edges, of_edges).tolist()
    return placed


def bars(found: Histogram, top: int) -> tuple[Bar, ...]:
    xs = np.linspace(0, WIDTH, len(found.edges)).tolist()
    made = []
    for at, (kept, rejected) in enumerate(zip(found.kept.tolist(), found.rejected.tolist(), strict=True)):
        if kept or rejected:
            low, high = found.edges[at : at + 2]
            bar = Bar(
                x=xs[at],
                width=xs[at + 1] - xs[at],
                kept=height(kept, top),
                rejected=height(rejected, top),
                told=f"{low:.4g} to {high:.4g}: {kept} kept, {rejected} rejected",
            )
            made.append(bar)
    return tuple(made)


def height(rows: int, top: int) -> float:
    return max(LEAST, rows / top * (HEIGHT - LEAST)) if rows else 0.0


def ticks(found: Histogram) -> tuple[tuple[float, float], ...]:
    """Round values, three to ten of them."""
    if not found.logarithmic:
        return placed(found, steps(found.edges[0], found.edges[-1]))
    zero = [0.0] if found.edges[0] == 0 else []
    return placed(found, [*zero, *decades(found.edges[len(zero)], found.edges[-1])])


def placed(found: Histogram, values: Sequence[float]) -> tuple[tuple[float, float], ...]:
    return tuple(zip(places(found, values), values, strict=True))


def steps(low: float, high: float) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten.

    >>> steps(0.9, 3.1)
    [1.0, 1.5, 2.0, 2.5, 3.0]
    """
    least = (high - low) / 5
    power = math.floor(math.log10(least))
    factor = next(one for one in (1, 2, 5, 10) if one * 10.0**power >= least)
    unit = factor * 10.0**power
    # Whole numbers are divided: 3 * 0.1 would be 0.30000000000000004.
    return [
        number * factor * 10**power if power >= 0 else number * factor / 10**-power
        for number in range(math.ceil(low / unit), math.floor(high / unit) + 1)
    ]


def decades(low: float, high: float) -> list[float]:
    """Powers of ten; between them 3, or 2 and 5, where they are few.

    >>> decades(0.5, 2000), decades(3, 200)
    ([1.0, 10.0, 100.0, 1000.0], [3.0, 10.0, 30.0, 100.0])
    """
    powers = range(math.floor(math.log10(low)), math.floor(math.log10(high)) + 1)
    powers = powers[:: 1 + len(powers) // 8]
    for between in ((1,), (1, 3), (1, 2, 5)):
        found = [float(f"{one}e{power}") for power in powers for one in between]
        found = [value for value in found if low <= value <= high]
        if len(found) >= FEW:
            break
    return found
