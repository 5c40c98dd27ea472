"""Figures of the card as coordinates of SVGs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.card.rights import NEVER
from pipeline.plots import COLORS

CELL = 26
"""Pixels of a month."""
YEARS = 12
"""At most; months after them are one sum."""
SIDE = 200
"""Of the plot of curves, in pixels."""
SCALE = 140
"""Width of whiskers, in pixels."""


def calendar(months: Mapping[str, int]) -> dict[str, Any]:
    """A square for each month in which terms end, the darker the more assets."""
    dated = {month: count for month, count in months.items() if month != NEVER}
    if not dated:
        return {"years": [], "later": 0, "never": months.get(NEVER, 0)}
    first = int(min(dated)[:4])
    last = min(int(max(dated)[:4]), first + YEARS - 1)
    most = max(dated.values())
    years = [
        {
            "year": year,
            "y": CELL * row,
            "months": [
                {
                    "x": CELL * month,
                    "count": count,
                    "shade": round(0.15 + 0.85 * math.log1p(count) / math.log1p(most), 2) if count else 0.0,
                    "told": f"{year}-{month + 1:02d}",
                }
                for month in range(12)
                for count in [dated.get(f"{year}-{month + 1:02d}", 0)]
            ],
        }
        for row, year in enumerate(range(first, last + 1))
    ]
    later = sum(count for month, count in dated.items() if int(month[:4]) > last)
    return {"years": years, "later": later, "never": months.get(NEVER, 0)}


def curves(lines: Mapping[str, Sequence[float]]) -> list[dict[str, Any]]:
    """Lorenz curves, from the lower left; none of what was not measured."""
    found = []
    for (name, line), color in zip(lines.items(), COLORS, strict=False):
        if line:
            step = SIDE / (len(line) - 1)
            points = " ".join(
                f"{step * place:.1f},{SIDE * (1 - value):.1f}" for place, value in enumerate(line)
            )
            found.append({"name": name, "color": color, "points": points})
    return found


def whiskers(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Log2 ratios with their intervals about a middle line; no mark where the counts are withheld."""
    ends = [abs(row[name]) for row in rows if row["log2_ratio"] is not None for name in ("low", "high")]
    reach = max(1.0, *ends) if ends else 1.0

    def across(value: float) -> float:
        return round(SCALE * (0.5 + value / reach / 2), 1)

    return [
        {
            **row,
            "mark": None
            if row["log2_ratio"] is None
            else {name: across(row[name]) for name in ("low", "log2_ratio", "high")},
        }
        for row in rows
    ]


def by(rows: Sequence[Mapping[str, Any]], name: str) -> dict[str, list[Mapping[str, Any]]]:
    """Rows by a value, in the order in which the values come."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        found.setdefault(row[name], []).append(row)
    return found
