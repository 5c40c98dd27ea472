"""Figures of a card as sentences, for documents that have room for words alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.card.shifts import UNMARKED

Card = Mapping[str, Any]
UNSTATED = "not stated"


def values(card: Card, name: str) -> Any:
    """The values of a figure; none of one that was not measured."""
    return card["figures"].get(name, {}).get("values", [])


def number(count: int | None) -> str:
    """As the card tells it.

    >>> number(1234), number(None)
    ('1,234', 'withheld')
    """
    return "withheld" if count is None else f"{count:,}"


def percent(share: float | None) -> str:
    return UNSTATED if share is None else f"{share:.1%}".replace("%", " %")


def kept(card: Card) -> int:
    return sum(row["assets"] for row in values(card, "rights.providers"))


def delivered(card: Card) -> int:
    return sum(row["delivered"] for row in values(card, "rights.providers"))


def listed(rows: Sequence[Mapping[str, Any]], *names: str, most: int = 5) -> str:
    """The first rows in words: their values, and how many assets."""
    told = [f"{' / '.join(str(row[name]) for name in names)}: {number(row['assets'])}" for row in rows[:most]]
    return "; ".join(told) or UNSTATED


def named(card: Card) -> str:
    """Who is named, axis by axis."""
    axes: dict[str, list[str]] = {}
    for row in values(card, "representation.identity"):
        if row["assets"] != 0:
            told = percent(row["share"]) if row["assets"] else number(None)
            group = "nobody" if row["group"] == UNMARKED else row["group"]
            axes.setdefault(row["axis"], []).append(f"{group} {told}")
    return "; ".join(f"{axis}: {', '.join(groups)}" for axis, groups in axes.items())


def associated(card: Card, most: int = 10) -> str:
    found = values(card, "associations.summary")
    head = f"{found['skewed']} of {found['tested']} tested pairs of a term and a group are skewed"
    rows = [row for row in values(card, "associations.skewed") if row["log2_ratio"] is not None][:most]
    told = (
        f"{row['attribute']} with {row['group']} (log2 ratio {row['log2_ratio']:+.2f}, "
        f"{number(row['together'])} captions)"
        for row in rows
    )
    return f"{head}: {', '.join(told)}" if rows else head


def hit(card: Card) -> str:
    """The groups that steps take out more or less often than the rest."""
    told = [
        f"{row['group']} ({cut['rule']} of {cut['step']}, {row['ratio']:.2f} times the rate of all)"
        for cut in values(card, "shift.cuts")
        for row in cut["groups"]
        if row["flag"] == "over-removed" and row["ratio"] is not None
    ]
    return "Taken out more often than the rest: " + "; ".join(told) if told else ""
