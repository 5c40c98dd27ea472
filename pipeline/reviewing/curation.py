"""`pardalis filters report`: what removed how many rows, and how that shifted what the corpus is made of.

Before is what rights admitted and could be decoded; each rule removed the rows that carry its code, which is
the first that they broke. The surprising rule: nothing is judged again, so the report is of the last build.
"""

from __future__ import annotations

import collections
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from infra.corpus import Corpus, Version
from infra.options import ReadOptions, answer
from pipeline import outcomes, pages, reasons, schema
from pipeline.reviewing import catalogs, composition, meanings
from pipeline.reviewing.composition import Dimension
from pipeline.reviewing.gates import catalog

REMOVING = ("filter", "screen", "dedup")
"""Steps that take out what rights let in."""
MOST_VALUES = 12
"""Of a dimension, on the page, beside those that are flagged."""
POINTS = 0.005
"""Half a percentage point: a composition that shifts by less is not said to shift."""
OPAQUE = schema.CONTRIBUTOR.name
"""Its values are ids, thousands of them: all are measured together, and those that are flagged are named."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """Rows that left for one reason, or in one step, or in all."""

    step: str
    rule: str
    removed: NDArray[np.bool_]


def report(*, out: Path | None = None, options: ReadOptions | None = None) -> None:
    """Count rows by rule over every step, and compare what the corpus is made of before and after each.

    Example: pardalis filters report --out report.html --corpus demo/corpus

    Parameters
    ----------
    out
        The page; default report.html, and none with --json.
    """
    options = options or ReadOptions()
    if out is None and not options.json:
        out = Path("report.html")
    page = pages.place(out) if out else None
    corpus = options.open()
    version = corpus.newest()
    facts = measured(corpus, version)
    if page:
        limits = {"most": MOST_VALUES, "enough": composition.ENOUGH, "points": POINTS}
        shown = {"flagged": flagged(facts["cuts"]), "moved": moved(facts["cuts"])}
        pages.write(page, "curation.html", **facts, **limits, **shown)
    answer(facts, "\n".join(told(facts, page)), json=options.json)


def measured(corpus: Corpus, version: Version) -> dict[str, Any]:
    """All that the page shows, as JSON values."""
    corpus.artifact(version, "filter")
    rows = catalog(corpus, version)
    codes = codes_of(rows)
    entered = pc.or_(outcomes.is_kept(rows), pc.is_in(rows[schema.SETTLED_BY.name], pa.array(REMOVING)))
    mask = np.asarray(entered, bool)
    dimensions = composition.dimensions(rows.filter(entered))
    found = cuts(rows.filter(entered), [code for code, here in zip(codes, mask, strict=True) if here])
    return {
        "corpus": corpus.store.uri,
        "version": version.number,
        "as_of": version.as_of,
        "delivered": rows.num_rows,
        "before": int(mask.sum()),
        "outcomes": balance(rows, codes),
        "cuts": [told_cut(cut, dimensions) for cut in found],
    }


def codes_of(rows: pa.Table) -> list[str]:
    """The code that each row is counted under; empty while it is kept."""
    return [reasons.code_of(found[0]) if found else "" for found in rows[schema.REASONS.name].to_pylist()]


def balance(rows: pa.Table, codes: Sequence[str]) -> list[dict[str, Any]]:
    """Rows by step, outcome and code, in the order of the steps."""
    steps, found = (rows[column.name].to_pylist() for column in (schema.SETTLED_BY, schema.OUTCOME))
    counted = collections.Counter(zip(steps, found, codes, strict=True))
    order = {name: place for place, name in enumerate((*reversed(catalogs.STEPS), "dedup", ""))}
    ordered = sorted(counted.items(), key=lambda item: (order.get(item[0][0], -1), -item[1], item[0]))
    return [
        {"step": step, "outcome": outcome, "code": code, "setting": meanings.of(code).setting, "rows": count}
        for (step, outcome, code), count in ordered
    ]


def cuts(rows: pa.Table, codes: Sequence[str]) -> Iterator[Cut]:
    """All that left; then each step that took any, and its rules one by one."""
    steps = np.array(rows[schema.SETTLED_BY.name].to_pylist(), dtype=object)
    rules = np.array(codes, dtype=object)
    yield Cut(step="all", rule="", removed=steps != "")
    for step in REMOVING:
        here = steps == step
        names = collections.Counter(rules[here].tolist())
        if len(names) > 1:
            yield Cut(step=step, rule="", removed=here)
        for name, _ in names.most_common():
            yield Cut(step=step, rule=name, removed=here & (rules == name))


def told_cut(cut: Cut, dimensions: Sequence[Dimension]) -> dict[str, Any]:
    total, lost = len(cut.removed), int(cut.removed.sum())
    found = {one.name: told_dimension(one, cut.removed) for one in dimensions}
    return {
        "step": cut.step,
        "rule": cut.rule,
        "setting": meanings.of(cut.rule).setting,
        "removed": lost,
        "rate": lost / total if total else 0.0,
        "notable": [name for name, one in found.items() if one["distance"] >= POINTS or one["flagged"]],
        "dimensions": found,
    }


def told_dimension(dimension: Dimension, removed: NDArray[np.bool_]) -> dict[str, Any]:
    shifts = composition.shifts(dimension, removed)
    listed = [one for one in shifts if one.flag] if dimension.name == OPAQUE else shifts
    everything = np.ones(len(removed), bool)
    return {
        "distance": composition.distance(dimension, removed),
        "compared": sum(one.before >= composition.ENOUGH for one in shifts),
        "flagged": sum(one.flag is not None for one in shifts),
        "before": composition.concentration(dimension, everything),
        "after": composition.concentration(dimension, ~removed),
        "values": [asdict(one) for one in listed],
    }


def moved(found: Sequence[dict[str, Any]]) -> list[str]:
    """The dimensions that any cut shifts."""
    return [
        name
        for name in found[0]["dimensions"]
        if any(cut["dimensions"][name]["distance"] >= POINTS for cut in found)
    ]


def flagged(found: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Values that a cut hits more or less than the rest, the most removed rows beyond the expected first.

    What a rule shows is not said again of its step and of all.
    """
    rows = [
        {**value, "step": cut["step"], "rule": cut["rule"], "dimension": name, "overall": cut["rate"]}
        for cut in found
        for name, dimension in cut["dimensions"].items()
        for value in dimension["values"]
        if value["flag"]
    ]
    said = {(row["step"], *hit(row)) for row in rows if row["rule"]}
    said |= {("all", *hit(row)) for row in rows if row["step"] != "all"}
    own = [row for row in rows if row["rule"] or (row["step"], *hit(row)) not in said]
    return sorted(own, key=lambda row: -abs(row["removed"] - row["overall"] * row["before"]))


def hit(row: dict[str, Any]) -> tuple[str, ...]:
    return row["dimension"], row["value"], row["flag"]


def told(facts: dict[str, Any], page: Path | None) -> Iterator[str]:
    yield f"{facts['corpus']}, version {facts['version']}: {facts['before']} of {facts['delivered']} rows"
    yield "  were admitted by rights and decoded; of these left:"
    quiet = 0
    for cut in facts["cuts"]:
        name = f"{cut['step']} {meanings.listed([cut['rule']])}".strip()
        found = "; ".join(standing_out(cut))
        quiet += not found
        yield f"  {name:<40} {cut['removed']:>8} {cut['rate']:>7.1%}  {found}".rstrip()
    if quiet:
        whose = "" if quiet == len(facts["cuts"]) else " by the others"
        yield f"no shift over {100 * POINTS:g} points{whose}"
    if page:
        yield f"page: {page}"


def standing_out(cut: dict[str, Any]) -> Iterator[str]:
    """What is to be said of a cut, if anything is."""
    name, far = max(cut["dimensions"].items(), key=lambda item: float(item[1]["distance"]))
    if far["distance"] >= POINTS:
        yield f"shifts {name} most, by {100 * far['distance']:.1f} points"
    if marks := sum(dimension["flagged"] for dimension in cut["dimensions"].values()):
        yield f"{marks} value{' stands' if marks == 1 else 's stand'} out"
