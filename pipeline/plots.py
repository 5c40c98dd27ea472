"""Curves as coordinates of an SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

WIDTH, HEIGHT, MARGIN = 420, 180, 48
COLORS = ("#1f6feb", "#d1242f", "#2da44e", "#8250df", "#bf8700", "#1b7c83", "#bf3989", "#57606a")
"""As many as there are losses at most."""


def series(lines: Sequence[Mapping[str, float]], name: str) -> list[tuple[float, float]]:
    return [(line["step"], line[name]) for line in lines if name in line]


def plot(title: str, lines: Mapping[str, list[tuple[float, float]]]) -> dict[str, Any]:
    points = [point for line in lines.values() for point in line]
    if not points:
        return {"title": title, "lines": [], "top": 0, "bottom": 0, "right": 0}
    right = max(x for x, _ in points)
    bottom, top = min(y for _, y in points), max(y for _, y in points)
    span = max(top - bottom, 1e-9)

    def place(x: float, y: float) -> str:
        across = MARGIN + (WIDTH - 2 * MARGIN) * x / max(right, 1)
        return f"{across:.1f},{HEIGHT - MARGIN - (HEIGHT - 2 * MARGIN) * (y - bottom) / span:.1f}"

    polylines = [
        {"name": name, "color": color, "points": " ".join(place(*point) for point in line)}
        for (name, line), color in zip(lines.items(), COLORS, strict=False)
    ]
    return {"title": title, "lines": polylines, "top": top, "bottom": bottom, "right": right}
