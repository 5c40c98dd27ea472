"""Where a rule cuts: the values on both sides of its threshold, and what other thresholds would do.

The rule itself says what it breaks, here as in the step that judges by it. A value that nobody measured lies
on neither side.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.filtering.rules import Rule

QUANTILES = (0.0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)
SHARES = (0.001, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5)
"""Of the values, those that another threshold might reject."""
BINS = 48
LOGARITHMIC = 30.0
"""Highest over lowest shown value from which an axis counts in ratios: lengths, areas, sharpness."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sides:
    """Rows nearest to the threshold, the nearest first; of equals, by uid."""

    rejected: tuple[int, ...]
    kept: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Another threshold, and what it would reject alone."""

    bound: float
    rejected: int
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    edges: NDArray[np.float64]
    """[BINS + 1]; what lies beyond the first or the last is counted in the bin beside it. Where they count in
    ratios and some values are 0, the first bin begins there."""
    rejected: NDArray[np.int64]
    kept: NDArray[np.int64]
    logarithmic: bool


def values_of(rule: Rule) -> pa.ChunkedArray:
    """As float64; null where there is none, be it null, not a number, or without end."""
    values = pc.cast(rule.value, pa.float64())
    return pc.if_else(pc.is_finite(values), values, None)


def measured(rule: Rule) -> NDArray[np.float64]:
    return np.asarray(values_of(rule).drop_null(), np.float64)


def num_rejected(rule: Rule) -> int:
    """By this rule alone, whatever the others say."""
    return int(pc.sum(rule.broken).as_py() or 0)


def num_first(rules: Sequence[Rule]) -> list[int]:
    """Rows that break each rule and none before it: those that carry its code."""
    found = []
    earlier: pa.ChunkedArray | bool = False
    for rule in rules:
        now = pc.or_(earlier, rule.broken)
        found.append(int(pc.sum(pc.and_not(now, earlier)).as_py() or 0))
        earlier = now
    return found


def nearest(rule: Rule, uids: pa.ChunkedArray, count: int) -> Sides:
    """The ``count`` rows next to the threshold on each side of it."""
    values = values_of(rule)
    table = pa.table(
        {
            "row": np.arange(len(uids)),
            "distance": pc.abs(pc.subtract(values, rule.bound)),
            "uid": uids,
            "broken": rule.broken,
        }
    ).filter(pc.is_valid(values))
    order = [("distance", "ascending"), ("uid", "ascending")]

    def first(rows: pa.Table) -> tuple[int, ...]:
        chosen = pc.select_k_unstable(rows, k=count, sort_keys=order)
        return tuple(rows["row"].take(chosen).to_pylist())

    return Sides(
        rejected=first(table.filter(table["broken"])),
        kept=first(table.filter(pc.invert(table["broken"]))),
    )


def level(rule: Rule, count: int) -> float | None:
    """The one value of all rows that the rule keeps, where they are more than ``count``: then none is nearer
    than another.
    """
    kept = values_of(rule).filter(pc.invert(rule.broken)).drop_null()
    found = kept.unique()
    return float(found[0].as_py()) if len(kept) > count and len(found) == 1 else None


def quantiles(rule: Rule) -> Mapping[str, float]:
    """Of the measured values; none where nothing was measured."""
    values = measured(rule)
    if not values.size:
        return {}
    found = np.quantile(values, QUANTILES, method="inverted_cdf")
    return {f"{share:g}": float(value) for share, value in zip(QUANTILES, found, strict=True)}


def what_if(rule: Rule) -> tuple[Choice, ...]:
    """The threshold that is set and those that reject about :data:`SHARES`, from the laxest on."""
    values = measured(rule)
    if not values.size:
        return ()
    shares = SHARES if rule.sign == "<" else [1 - share for share in SHARES]
    # Rounded, so that a person can type them; what they reject is counted after that.
    asked = [float(f"{bound:.4g}") for bound in np.quantile(values, shares, method="inverted_cdf")]
    found = [choice(rule, bound, values.size) for bound in {*asked, rule.bound}]
    lax = 1 if rule.sign == "<" else -1
    return tuple(sorted(found, key=lambda one: lax * one.bound))


def choice(rule: Rule, bound: float, num_values: int) -> Choice:
    rejected = num_rejected(replace(rule, bound=bound))
    return Choice(bound=bound, rejected=rejected, share=rejected / num_values)


def histogram(rule: Rule) -> Histogram | None:
    """All but the outermost half per cent on each side, and the threshold in any case."""
    values = measured(rule)
    if not values.size:
        return None
    edges, logarithmic = axis(values, rule.bound)
    broken = np.asarray(rule.broken.filter(pc.is_valid(values_of(rule))), bool)
    rejected, kept = (
        np.histogram(np.clip(side, edges[0], edges[-1]), edges)[0]
        for side in (values[broken], values[~broken])
    )
    return Histogram(edges=edges, rejected=rejected, kept=kept, logarithmic=logarithmic)


def axis(values: NDArray[np.float64], bound: float) -> tuple[NDArray[np.float64], bool]:
    """Edges of the bins, and whether they count in ratios: values over decades that are mostly not 0 do."""
    above = values[values > 0]
    ratios = bound > 0 and values.min() >= 0 and 2 * above.size > values.size
    low, high = ends(above if ratios else values, bound)
    if ratios and high / low > LOGARITHMIC:
        if above.size == values.size:
            return np.geomspace(low, high, BINS + 1), True
        return np.concatenate([[0.0], np.geomspace(low, high, BINS)]), True
    low, high = ends(values, bound)
    if high <= low:
        low, high = low - 0.5, high + 0.5
    return np.linspace(low, high, BINS + 1), False


def ends(values: NDArray[np.float64], bound: float) -> tuple[float, float]:
    """The first and the last value that is shown."""
    low, high = np.quantile(values, (0.005, 0.995), method="inverted_cdf").tolist()
    # A threshold that is far off would leave one bar of all the values: then it is marked at the edge.
    reach = max(high - low, abs(high), 1e-6) * 2
    return min(low, max(bound, low - reach)), max(high, min(bound, high + reach))


def also_broken(rules: Sequence[Rule], rule: Rule, rows: Sequence[int]) -> list[tuple[str, ...]]:
    """For each row, the codes of the other rules that it breaks: moving this threshold alone frees it not."""
    at = pa.array(rows, pa.int64())
    others = [(one.code, one.broken.take(at).to_pylist()) for one in rules if one is not rule]
    return [
        tuple(itertools.compress((code for code, _ in others), (mask[place] for _, mask in others)))
        for place in range(len(rows))
    ]
