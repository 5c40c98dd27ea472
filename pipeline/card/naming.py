"""Figures of who is named, alone and together with what, and how that changed since an earlier version."""

from __future__ import annotations

from typing import Any

from pipeline.card.associations import Counts, Pair, change, pairs
from pipeline.card.figures import Figure, few, of_whole, share, told
from pipeline.card.settings import CardSettings
from pipeline.card.shifts import UNMARKED
from pipeline.reviewing.composition import wilson

SKEWED = 60
"""Pairs that are listed, the surest first; all that were tested are counted."""
ALWAYS = ("CEO", "director")
"""Are told of whether they are skewed or not: the examples that everybody asks for."""
WORDS = "caption and keywords (description and keywords of the record JSON) of the rows whose outcome is kept"
Key = tuple[str, str, str, str]


def figures(counts: Counts, settings: CardSettings, before: Counts | None) -> list[Figure]:
    now = pairs(counts, settings.least)
    then = {key(one): one for one in pairs(before, settings.least)} if before else {}
    tested = (
        f"pairs of an attribute with at least {settings.least} captions that name somebody on the axis, and "
        "with at least 5 expected by chance in the group and in the rest"
    )
    return [
        Figure(
            name="representation.identity",
            title="Who is named",
            step="records",
            file="records.parquet",
            counted=f"rows by groups of the identity list whose terms stand in {WORDS}; {UNMARKED}: no term "
            "of the axis; 95 % Wilson intervals",
            values=named(counts, before),
        ),
        Figure(
            name="associations.summary",
            title="Associations",
            step="records",
            file="records.parquet",
            counted=f"{tested}; skewed: q of Benjamini and Hochberg at most {settings.false_discoveries}",
            values=summary(now, settings.false_discoveries),
        ),
        Figure(
            name="associations.skewed",
            title="The most skewed pairs",
            step="records",
            file="records.parquet",
            counted=f"of the captions ({WORDS}) that name somebody on the axis: together has terms of both, "
            f"elsewhere of the attribute and not of the group; {tested}, the surest {SKEWED}",
            values=[row(one, then) for one in skewed(now, settings.false_discoveries)],
        ),
        Figure(
            name="associations.always",
            title="CEO and director",
            step="records",
            file="records.parquet",
            counted="as associations.skewed, whether a pair is skewed or tested or not",
            values=asked(counts, now, then),
        ),
    ]


def key(one: Pair) -> Key:
    return one.attribute.kind, one.attribute.name, one.group.category, one.group.name


def skewed(found: list[Pair], level: float) -> list[Pair]:
    return [one for one in found if one.q <= level][:SKEWED]


def summary(found: list[Pair], level: float) -> dict[str, Any]:
    """How many pairs, and the largest effect of those whose counts may be told."""
    sure = [one for one in found if one.q <= level]
    open_ = [one for one in sure if not hidden(one)]
    return {
        "tested": len(found),
        "skewed": len(sure),
        "max_abs_log2_ratio": max((abs(one.log2_ratio) for one in open_), default=None),
        "max_abs_npmi_gap": max((abs(one.npmi_gap) for one in open_), default=None),
    }


def hidden(one: Pair) -> bool:
    """Whether a count of the pair is few: then the other, and what follows from both, would give it away."""
    return told(one.together) is None or told(one.elsewhere) is None


def row(one: Pair, before: dict[Key, Pair]) -> dict[str, Any]:
    closed = hidden(one)
    measured = {name: getattr(one, name) for name in ("log2_ratio", "low", "high", "npmi", "npmi_gap")}
    earlier = before.get(key(one))
    changed = change(one, earlier) if earlier and not closed and not hidden(earlier) else None
    return {
        "kind": one.attribute.kind,
        "category": one.attribute.category,
        "attribute": one.attribute.name,
        "axis": one.group.category,
        "group": one.group.name,
        "together": None if closed else one.together,
        "elsewhere": None if closed else one.elsewhere,
        "attribute_total": one.attribute_total,
        "group_total": told(one.group_total),
        "marked": one.marked,
        "more_with": one.group.name if one.log2_ratio > 0 else "the others",
        **{name: None if closed else value for name, value in measured.items()},
        "q": one.q,
        "before": changed and {"log2_ratio": changed.before, "together": earlier and earlier.together},
        "change": changed and {"log2_ratio": changed.difference, "low": changed.low, "high": changed.high},
    }


def asked(counts: Counts, found: list[Pair], before: dict[Key, Pair]) -> list[dict[str, Any]]:
    """On the first axis; where too few captions have the attribute, how many there are."""
    rows: list[dict[str, Any]] = []
    axis = counts.axes[0] if counts.axes else None
    for place, label in enumerate(counts.attributes):
        if axis is None or label.name not in ALWAYS:
            continue
        of = [one for one in found if one.attribute == label and one.group.category == axis.name]
        captions = int(counts.alone_A[place])
        common = {"attribute": label.name, "axis": axis.name, "captions": told(captions)}
        rows += [{**row(one, before), **common, "tested": True} for one in of]
        if not of:
            together = {
                group.name: None if few(both, captions) else both
                for group, bit in zip(axis.groups, axis.bits.tolist(), strict=True)
                for both in [int(counts.joint_AG[place, bit])]
            }
            rows.append({**common, "tested": False, "together": together})
    return rows


def named(counts: Counts, before: Counts | None) -> list[dict[str, Any]]:
    """A row for each group of each axis, and for the captions that name nobody on it."""
    rows = []
    for number, axis in enumerate(counts.axes):
        marked = int(counts.marked_X[number])
        counted = on_axis(counts, number)
        shown = of_whole(counted)
        for name, count in counted.items():
            low, high = wilson(count, counts.num_rows)
            hidden = shown[name] is None or few(count, counts.num_rows)
            rows.append(
                {
                    "axis": axis.name,
                    "group": name,
                    "assets": None if hidden else count,
                    "share": None if hidden else share(count, counts.num_rows),
                    "share_of_marked": None if hidden or name == UNMARKED else share(count, marked),
                    "low": None if hidden else low,
                    "high": None if hidden else high,
                    "before": earlier(before, axis.name, name),
                }
            )
    return rows


def on_axis(counts: Counts, number: int) -> dict[str, int]:
    """Captions that name each group of an axis, and last those that name none."""
    axis = counts.axes[number]
    bits = zip(axis.groups, axis.bits.tolist(), strict=True)
    groups = {label.name: int(counts.groups_G[bit]) for label, bit in bits}
    return {**groups, UNMARKED: counts.num_rows - int(counts.marked_X[number])}


def earlier(before: Counts | None, axis_name: str, name: str) -> float | None:
    """The share of the same group in the earlier version."""
    for number, axis in enumerate(before.axes if before else ()):
        if before and axis.name == axis_name:
            counted = on_axis(before, number)
            if name in counted and not few(counted[name], before.num_rows):
                return share(counted[name], before.num_rows)
    return None
