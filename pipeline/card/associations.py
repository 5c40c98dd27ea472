"""Who is named together with what: counts over a corpus, and how far they are from chance.

On an axis such as gender, of all captions that name somebody on it, those with a group ``g`` are compared
with the rest. For an occupation ``a``: the log2 ratio of P(a | g) to P(a | not g), with a half added to each
cell (Haldane 1956) and the interval of Katz et al. (Biometrics 1978); nPMI (Bouma 2009) of ``a`` and ``g``
among the same captions, and its gap to that of ``a`` and the rest. All pairs are tested together (Benjamini
and Hochberg, JRSS B 1995).

The surprising rule: captions that name nobody on the axis do not enter. Most captions are such, and beside
them every occupation would go with every group. Shapes: A attributes, G groups, X axes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.card.matching import Ints
from pipeline.card.parts import Found
from pipeline.card.termlists import ATTRIBUTES, Label
from pipeline.reviewing.composition import Z

Floats = NDArray[np.float64]
LEAST_EXPECTED = 5.0
"""Captions expected in each cell by chance, from which the normal approximation is trusted (Cochran 1954)."""
MAX_GROUPS = 63
"""Bits of a row's mask."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    name: str
    groups: tuple[Label, ...]
    bits: Ints
    """Of each group in a row's mask."""

    @property
    def mask(self) -> int:
        return int(np.bitwise_or.reduce(1 << self.bits))


def axes(labels: Sequence[Label]) -> tuple[Axis, ...]:
    """Those of the identity list; a group's bit is its place among all groups."""
    groups = [label for label in labels if label.kind == "identity"]
    if len(groups) > MAX_GROUPS:
        raise ValueError(f"the identity list has {len(groups)} groups, and at most {MAX_GROUPS} are counted")
    names = dict.fromkeys(label.category for label in groups)
    return tuple(
        Axis(
            name=name,
            groups=tuple(label for label in groups if label.category == name),
            bits=np.array([bit for bit, label in enumerate(groups) if label.category == name], np.int64),
        )
        for name in names
    )


@dataclass(slots=True)
class Counts:
    """Of the captions that are kept, added up shard by shard."""

    labels: tuple[Label, ...]
    axes: tuple[Axis, ...] = field(init=False)
    num_rows: int = 0
    marked_X: Ints = field(init=False)
    """Captions that name somebody on each axis."""
    groups_G: Ints = field(init=False)
    attributes_AX: Ints = field(init=False)
    """Captions with the attribute that name somebody on the axis."""
    joint_AG: Ints = field(init=False)
    alone_A: Ints = field(init=False)
    """Captions with the attribute, whoever is named."""

    def __post_init__(self) -> None:
        self.axes = axes(self.labels)
        num_groups = sum(len(axis.groups) for axis in self.axes)
        num_attributes = len(self.attributes)
        self.marked_X = np.zeros(len(self.axes), np.int64)
        self.groups_G = np.zeros(num_groups, np.int64)
        self.attributes_AX = np.zeros((num_attributes, len(self.axes)), np.int64)
        self.joint_AG = np.zeros((num_attributes, num_groups), np.int64)
        self.alone_A = np.zeros(num_attributes, np.int64)

    @property
    def attributes(self) -> tuple[Label, ...]:
        return tuple(label for label in self.labels if label.kind in ATTRIBUTES)

    def masks(self, found: Found, num_rows: int) -> Ints:
        """[num_rows]: a bit for each group that a row names."""
        return masked(self.labels, found, num_rows)

    def add(self, found: Found, num_rows: int, num_kept: int) -> None:
        """Count what the kept rows of a shard of ``num_rows`` rows name."""
        masks = self.masks(found, num_rows)
        place = np.full(len(self.labels), -1, np.int64)
        place[[self.labels.index(label) for label in self.attributes]] = np.arange(len(self.attributes))
        attribute = place[found.labels]
        is_attribute = attribute >= 0
        attribute, mask = attribute[is_attribute], masks[found.rows[is_attribute]]
        num = len(self.attributes)
        self.num_rows += num_kept
        self.alone_A += np.bincount(attribute, minlength=num)
        for number, axis in enumerate(self.axes):
            self.marked_X[number] += int(((masks & axis.mask) != 0).sum())
            self.attributes_AX[:, number] += np.bincount(attribute[(mask & axis.mask) != 0], minlength=num)
            for bit in axis.bits.tolist():
                self.groups_G[bit] += int((masks >> bit & 1).sum())
                self.joint_AG[:, bit] += np.bincount(attribute[(mask >> bit & 1) != 0], minlength=num)


def masked(labels: Sequence[Label], found: Found, num_rows: int) -> Ints:
    """[num_rows]: a bit for each group that a row names."""
    bit = np.full(len(labels), -1, np.int64)
    groups = [place for place, label in enumerate(labels) if label.kind == "identity"]
    bit[groups] = np.arange(len(groups))
    bits = bit[found.labels]
    is_group = bits >= 0
    masks = np.zeros(num_rows, np.int64)
    np.bitwise_or.at(masks, found.rows[is_group], 1 << bits[is_group])
    return masks


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """An attribute and a group, over the captions that name somebody on the group's axis."""

    attribute: Label
    group: Label
    together: int
    attribute_total: int
    group_total: int
    marked: int
    log2_ratio: float
    low: float
    high: float
    """95 % interval."""
    npmi: float
    npmi_gap: float
    """To the nPMI of the attribute and the rest of the axis."""
    p: float
    q: float
    """Smallest share of false discoveries at which the pair would be called skewed; over all tested pairs."""

    @property
    def elsewhere(self) -> int:
        """Captions with the attribute that name others on the axis and not the group."""
        return self.attribute_total - self.together


def pairs(counts: Counts, least: int) -> list[Pair]:
    """All pairs that are frequent enough to be tested, the least likely by chance first.

    Where an axis has two groups and each caption names one of them, the second group would say what the first
    says, turned around: it is left out.
    """
    found = [one for number in range(len(counts.axes)) for one in tested(counts, number, least)]
    q = discoveries(np.array([one["p"] for one in found], np.float64))
    ready = [Pair(**one, q=float(value)) for one, value in zip(found, q, strict=True)]
    return sorted(ready, key=lambda one: (one.p, -abs(one.log2_ratio), one.attribute.name, one.group.name))


def tested(counts: Counts, number: int, least: int) -> Iterator[dict[str, Any]]:
    """The pairs of an axis, all of a pair but its q."""
    axis, marked = counts.axes[number], int(counts.marked_X[number])
    for place, attribute in enumerate(counts.attributes):
        total = int(counts.attributes_AX[place, number])
        seen: set[tuple[int, int]] = set()
        for label, bit in zip(axis.groups, axis.bits.tolist(), strict=True):
            of_group, both = int(counts.groups_G[bit]), int(counts.joint_AG[place, bit])
            mirrored = (marked - of_group, total - both) in seen
            seen.add((of_group, both))
            if mirrored or not frequent(total, of_group, marked, least):
                continue
            yield {
                "attribute": attribute,
                "group": label,
                "together": both,
                "attribute_total": total,
                "group_total": of_group,
                "marked": marked,
                **measure(both, total, of_group, marked),
            }


def frequent(of_attribute: int, of_group: int, marked: int, least: int) -> bool:
    """Enough captions have the attribute, and each cell of the four would by chance have enough."""
    if of_attribute < least or not 0 < of_group < marked:
        return False
    smaller = min(of_group, marked - of_group)
    return of_attribute * smaller / marked >= LEAST_EXPECTED


def measure(both: int, of_attribute: int, of_group: int, marked: int) -> dict[str, float]:
    """How far one pair is from chance, of the four counts.

    >>> one = measure(30, 40, 500, 1000)
    >>> round(one["log2_ratio"], 3), round(one["low"], 3), round(one["high"], 3)
    (1.538, 0.543, 2.534)
    """
    others, elsewhere = marked - of_group, of_attribute - both
    with_group, without = (both + 0.5) / (of_group + 0.5), (elsewhere + 0.5) / (others + 0.5)
    variance = 1 / (both + 0.5) - 1 / (of_group + 0.5) + 1 / (elsewhere + 0.5) - 1 / (others + 0.5)
    ratio, error = math.log2(with_group / without), math.sqrt(max(variance, 0.0)) / math.log(2)
    gap = npmi(both, of_attribute, of_group, marked) - npmi(elsewhere, of_attribute, others, marked)
    return {
        "log2_ratio": ratio,
        "low": ratio - Z * error,
        "high": ratio + Z * error,
        "npmi": npmi(both, of_attribute, of_group, marked),
        "npmi_gap": gap,
        "p": math.erfc(abs(ratio) / error / math.sqrt(2)) if error else 1.0,
    }


def npmi(both: int, one: int, other: int, total: int) -> float:
    """Normalised pointwise mutual information, -1 (never together) to 1 (never apart).

    >>> npmi(0, 10, 10, 100), round(npmi(10, 10, 10, 100), 9), round(npmi(25, 50, 50, 100), 9)
    (-1.0, 1.0, 0.0)
    """
    if not both:
        return -1.0
    if both == total:
        return 1.0
    return math.log(both * total / (one * other)) / -math.log(both / total)


def discoveries(p: Floats) -> Floats:
    """Benjamini and Hochberg's adjusted p-values.

    >>> discoveries(np.array([0.01, 0.04, 0.03])).round(3).tolist()
    [0.03, 0.04, 0.04]
    """
    order = np.argsort(p)
    ranked = p[order] * len(p) / np.arange(1, len(p) + 1)
    lowest = np.minimum.accumulate(ranked[::-1])[::-1]
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(lowest, 1.0)
    return adjusted


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Of a pair since an earlier version."""

    before: float
    """Its log2 ratio there."""
    difference: float
    low: float
    high: float
    """As if the two versions were drawn apart: they share captions, so a true change is surer than this."""


def change(now: Pair, before: Pair) -> Change:
    error = math.hypot(*((one.high - one.low) / 2 for one in (now, before)))
    difference = now.log2_ratio - before.log2_ratio
    return Change(
        before=before.log2_ratio, difference=difference, low=difference - error, high=difference + error
    )
