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
from infra.options import CorpusOptions, answer
from pipeline import catalogs, composition, outcomes, pages, reasons, schema
from pipeline.composition import Dimension
from pipeline.gates import catalog

REMOVING = ("filter", "screen", "dedup")
"""Steps that take out what rights let in."""
MOST_VALUES = 12
"""Of a dimension, on the page, beside those that are flagged."""
OPAQUE = schema.CONTRIBUTOR.name
"""Its values are ids, thousands of them: all are measured together, and those that are flagged are named."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """Rows that left for one reason, or in one step, or in all."""

    step: str
    rule: str
    removed: NDArray[np.bool_]


def report(*, out: Path | None = None, options: CorpusOptions | None = None) -> None:
    """Count rows by rule over every step, and compare what the corpus is made of before and after each.

    Example: pardalis filters report --out report.html --corpus demo/corpus

    Parameters
    ----------
    out
        The page; default report.html, and none with --json.
    """
    options = options or CorpusOptions()
    if out is None and not options.json:
        out = Path("report.html")
    page = pages.place(out) if out else None
    corpus = options.open()
    version = corpus.newest()
    facts = measured(corpus, version)
    if page:
        limits = {"most": MOST_VALUES, "enough": composition.ENOUGH}
        pages.write(page, "curation.html", **facts, **limits, flagged=flagged(facts["cuts"]))
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
        {"step": step, "outcome": outcome, "code": code, "rows": count}
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
    return {
        "step": cut.step,
        "rule": cut.rule,
        "removed": lost,
        "rate": lost / total if total else 0.0,
        "dimensions": {one.name: told_dimension(one, cut.removed) for one in dimensions},
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


def flagged(found: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Values that a cut hits more or less than the rest, the most removed rows beyond the expected first."""
    rows = [
        {**value, "step": cut["step"], "rule": cut["rule"], "dimension": name, "overall": cut["rate"]}
        for cut in found
        for name, dimension in cut["dimensions"].items()
        for value in dimension["values"]
        if value["flag"]
    ]
    return sorted(rows, key=lambda row: -abs(row["removed"] - row["overall"] * row["before"]))


def told(facts: dict[str, Any], page: Path | None) -> Iterator[str]:
    yield f"{facts['corpus']}, version {facts['version']}: {facts['before']} of {facts['delivered']} rows"
    yield "  were admitted by rights and decoded; of these left:"
    for cut in facts["cuts"]:
        name = f"{cut['step']} {cut['rule']}".strip()
        marks = sum(dimension["flagged"] for dimension in cut["dimensions"].values())
        far = max(cut["dimensions"].items(), key=lambda item: item[1]["distance"])
        shift = f"{far[0]} shifts most, by {far[1]['distance']:.3f}"
        yield f"  {name:<28} {cut['removed']:>8} {cut['rate']:>7.1%}  {marks:>3} values stand out; {shift}"
    if page:
        yield f"page: {page}"
