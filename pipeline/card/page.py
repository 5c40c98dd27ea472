"""The card as one HTML page. All that it shows stands in ``card.json``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline import pages
from pipeline.card import drawing, wording
from pipeline.card.shifts import UNMARKED
from pipeline.card.wording import Card

OWN = Path(__file__).parent
GROUPS = 12
"""Of a step, beside those that are flagged."""


def rendered(card: Card) -> str:
    values = {name: figure["values"] for name, figure in card["figures"].items()}
    return pages.rendered_from(OWN, "card.html", {"card": card, **shown(card, values)})


def shown(card: Card, values: dict[str, Any]) -> dict[str, Any]:
    lines = {
        "candidates of neighbors": wording.values(card, "retrieval.candidates"),
        "neighbors shown in packs": wording.values(card, "retrieval.shown"),
        "assets of contributors": wording.values(card, "contributors.spread"),
    }
    axes = drawing.by(values["representation.identity"], "axis")
    return {
        "values": values,
        "kept": wording.kept(card),
        "delivered": wording.delivered(card),
        "calendar": drawing.calendar(values["rights.expiry"]),
        "cell_side": drawing.CELL,
        "side": drawing.SIDE,
        "scale": drawing.SCALE,
        "curves": drawing.curves({name: one["lorenz"] for name, one in lines.items() if one}),
        "axes": {axis: rows for axis, rows in axes.items() if anybody(rows)},
        "unnamed": [axis for axis, rows in axes.items() if not anybody(rows)],
        "skewed": drawing.whiskers(values["associations.skewed"]),
        "always": drawing.whiskers([row for row in values["associations.always"] if row["tested"]]),
        "untested": [row for row in values["associations.always"] if not row["tested"]],
        "cuts": [notable(cut) for cut in values["shift.cuts"]],
        "exposed": {
            name: {
                axis: [row for row in rows if row["members"] != 0]
                for axis, rows in drawing.by(one["groups"], "axis").items()
                if any(row["members"] != 0 for row in rows if row["group"] != UNMARKED)
            }
            for name, one in lines.items()
            if one and "groups" in one
        },
    }


def notable(cut: dict[str, Any]) -> dict[str, Any]:
    """A step's groups that stand out, and then the most frequent."""
    flagged = [row for row in cut["groups"] if row["flag"]]
    others = sorted((row for row in cut["groups"] if not row["flag"]), key=lambda row: -row["entered"])
    rows = [*flagged, *others[: max(GROUPS - len(flagged), 0)]]
    rows = [row for row in rows if row["entered"] < cut["entered"]]
    ends = [row["high"] for row in rows if row["high"] is not None]
    return {
        **cut,
        "shown": rows,
        "reach": max([2 * (cut["rate"] or 0), 0.01, *ends]),
        "flagged": len(flagged),
    }


def anybody(rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether an axis has a group that is named at all."""
    return any(row["assets"] != 0 for row in rows if row["group"] != UNMARKED)
