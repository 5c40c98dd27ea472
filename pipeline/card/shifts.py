"""Whom each step takes out: of the rows that come to it, the share of each group that it removes.

The groups are those of the identity list in caption and keywords, the kind of image, and whether people are
pictured. The intervals and the flags are those of the curation report. ``decide`` is here only with refusals
about what is pictured; of its others no word is read.
"""

from __future__ import annotations

import collections
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline import schema
from pipeline.card.associations import Axis
from pipeline.card.figures import Figure, few, of_reasons, share, with_next
from pipeline.card.matching import Ints
from pipeline.card.parts import STEPS, Bools, Part
from pipeline.reviewing import meanings
from pipeline.reviewing.composition import ENOUGH, flag, wilson

Value = tuple[str, str]
"""Dimension and value."""
UNMARKED = "(nobody named)"
SINGLE = (schema.IMAGE_TYPE, schema.PEOPLE)


def counter() -> collections.Counter[Any]:
    return collections.Counter()


@dataclass(slots=True)
class Shifts:
    """Counts over the shards seen so far."""

    axes: tuple[Axis, ...]
    came: collections.Counter[tuple[str, str, str]] = field(default_factory=counter)
    """Rows that came to a step, by step, dimension and value."""
    gone: collections.Counter[tuple[str, str, str, str]] = field(default_factory=counter)
    """Rows that it removed, by step, code, dimension and value."""
    entered: collections.Counter[str] = field(default_factory=counter)
    removed: collections.Counter[tuple[str, str]] = field(default_factory=counter)

    def add(self, part: Part, masks: Ints) -> None:
        """``masks``: a bit for each group that a row names."""
        alive = part.readable.copy()
        values = list(self._values(part, masks))
        for step in STEPS:
            here = alive & np.asarray(pc.equal(part.settled_by, step), np.bool_)
            self.entered[step] += int(alive.sum())
            for dimension, value, mask in values:
                self.came[step, dimension, value] += int((alive & mask).sum())
            for rule in pc.unique(part.codes.filter(pa.array(here))).to_pylist():
                gone = here & np.asarray(pc.equal(part.codes, rule), np.bool_)
                self.removed[step, rule] += int(gone.sum())
                for dimension, value, mask in values:
                    self.gone[step, rule, dimension, value] += int((gone & mask).sum())
            alive &= ~here

    def _values(self, part: Part, masks: Ints) -> Iterator[tuple[str, str, Bools]]:
        for axis in self.axes:
            for label, bit in zip(axis.groups, axis.bits.tolist(), strict=True):
                yield axis.name, label.name, (masks >> bit & 1) != 0
            yield axis.name, UNMARKED, (masks & axis.mask) == 0
        for column in SINGLE:
            texts = part.column(column)
            for value in pc.unique(texts).to_pylist():
                yield column.name.replace("_", " "), value, np.asarray(pc.equal(texts, pa.scalar(value)))

    def cuts(self) -> list[dict[str, Any]]:
        """Every step and code that removed something, with the groups that come often enough."""
        found = []
        for step in STEPS:
            counts = of_reasons({rule: rows for (of, rule), rows in self.removed.items() if of == step})
            ordered = sorted(counts.items(), key=lambda one: (-(one[1] or 0), one[0]))
            found += [self._cut(step, rule, count) for rule, count in ordered]
        return found

    def _cut(self, step: str, rule: str, count: int | None) -> dict[str, Any]:
        """Without groups where its count is withheld: a rate of theirs would give it away."""
        entered = self.entered[step]
        values = sorted(key[1:] for key in self.came if key[0] == step)
        often = [
            value
            for value in values
            if self.came[step, *value] >= ENOUGH and not few(self.came[step, *value], entered)
        ]
        return {
            "step": step,
            "rule": rule,
            "setting": meanings.of(rule).setting,
            "entered": entered,
            "removed": count,
            "rate": share(count, entered),
            "groups": [] if count is None else self._groups(step, rule, often),
        }

    def _groups(self, step: str, rule: str, often: Sequence[Value]) -> list[dict[str, Any]]:
        """Neither what the rule took of others, nor what the step leaves of a group, may be few."""
        count, hidden = self.removed[step, rule], set[Value]()
        for dimension in {value[0] for value in often}:
            gone = {value: self.gone[step, rule, *value] for value in often if value[0] == dimension}
            few_of = {
                value
                for value, taken in gone.items()
                if few(taken, count) or few(self._gone_by(step, value), self.came[step, *value])
            }
            hidden |= with_next(few_of, gone)
        return [self._row(step, rule, value, hidden=value in hidden) for value in often]

    def _gone_by(self, step: str, value: Value) -> int:
        """Of the group, by all rules of the step."""
        return sum(self.gone[step, rule, *value] for of, rule in self.removed if of == step)

    def _row(self, step: str, rule: str, value: Value, *, hidden: bool) -> dict[str, Any]:
        came, gone = self.came[step, *value], self.gone[step, rule, *value]
        overall = self.removed[step, rule] / self.entered[step]
        low, high = wilson(gone, came)
        return {
            "dimension": value[0],
            "group": value[1],
            "entered": came,
            "removed": None if hidden else gone,
            "rate": None if hidden else gone / came,
            "low": None if hidden else low,
            "high": None if hidden else high,
            "ratio": None if hidden else gone / came / overall,
            "flag": flag(low, high, overall),
        }

    def figure(self, step: str) -> Figure:
        return Figure(
            name="shift.cuts",
            title="Whom each step takes out",
            step=step,
            file="rows.parquet",
            counted="of the rows that no earlier step settled (in the order decide, images, filter, screen, "
            "dedup; of those settled by decide only with the codes release, adult, minors and editorial): "
            "rows with that settled_by and code, by the groups whose terms stand in description or keywords "
            "of the record JSON (records.parquet of records), by image_type and by people; groups of at "
            f"least {ENOUGH} rows, 95 % Wilson intervals",
            values=self.cuts(),
        )
