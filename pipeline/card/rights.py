"""Whose the corpus is and until when: decisions, licences, tiers, providers, territories, ends of terms.

An asset's *term* ends with the first of its parts: a picture or its words are licensed as long as one licence
that covers the part and grants what the corpus needs is in force. Licences that grant only less, such as
showing, do not lengthen it.
"""

from __future__ import annotations

import collections
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline import outcomes, schema
from pipeline.card.figures import ABOUT_PEOPLE, Figure, of_whole
from pipeline.card.parts import Part
from pipeline.contract import PARTS, License
from pipeline.grants import Uses
from pipeline.license import Territory

APART = "\0"
"""Between the licences of an asset; no id has it."""
NEVER = "no end"
SOON_DAYS = (30, 90, 365)


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What the licences of an asset come to."""

    tier: str
    territory: str
    ends: datetime | None
    after_term: str
    """Of the licence whose end is the asset's."""


def terms(licenses: Sequence[License], needed: Uses) -> Terms:
    """Of the licences that admit an asset."""
    granting = [one for one in licenses if all(one.uses.allows(use) for use in needed)] or list(licenses)
    last = [
        max((one for one in granting if part in one.covers), key=ending, default=granting[0])
        for part in PARTS
    ]
    first = min(last, key=ending)
    places = {place(one.territory) for one in last}
    return Terms(
        tier=" + ".join(sorted({one.tier or "not stated" for one in last})),
        territory=" and ".join(sorted(places - {"worldwide"})) or "worldwide",
        ends=first.valid_until,
        after_term=first.after_term if first.valid_until else NEVER,
    )


def ending(one: License) -> datetime:
    return one.valid_until or datetime.max.replace(tzinfo=UTC)


def place(territory: Territory) -> str:
    if territory.mode == "worldwide":
        return "worldwide"
    return f"{territory.mode} {', '.join(sorted(territory.countries or ()))}"


@dataclass(slots=True)
class Rights:
    """Counts over the shards seen so far."""

    licenses: Mapping[str, Mapping[str, License]]
    """Of each provider, by id."""
    needed: Uses
    as_of: datetime
    outcomes: collections.Counter[tuple[str, str, str]] = field(default_factory=collections.Counter)
    named: collections.Counter[str] = field(default_factory=collections.Counter)
    kinds: collections.Counter[str] = field(default_factory=collections.Counter)
    delivered: collections.Counter[str] = field(default_factory=collections.Counter)
    kept: collections.Counter[str] = field(default_factory=collections.Counter)
    found: collections.Counter[Terms] = field(default_factory=collections.Counter)

    def add(self, part: Part) -> None:
        columns = [part.settled_by, part.column(schema.OUTCOME), part.codes]
        for step, outcome, code, rows in grouped(columns):
            self.outcomes[step, outcome, code] += rows
        mask = pa.array(part.kept)
        providers = part.providers.filter(mask)
        lists = part.column(schema.LICENSES).filter(mask)
        joined = pc.binary_join(lists, APART)
        self.delivered.update(dict(grouped([part.providers])))
        self.kept.update(dict(grouped([providers])))
        for provider, text, rows in grouped([providers, joined]):
            names = text.split(APART)
            self.named.update({f"{provider}:{name}": rows for name in names})
            records = [self.licenses[provider][name] for name in names]
            self.kinds.update(dict.fromkeys({one.kind for one in records}, rows))
            self.found[terms(records, self.needed)] += rows

    @property
    def total(self) -> int:
        return sum(self.kept.values())

    def months(self) -> dict[str, int]:
        """Assets whose term ends in each month."""
        counts: collections.Counter[str] = collections.Counter()
        for one, rows in self.found.items():
            counts[one.ends.strftime("%Y-%m") if one.ends else NEVER] += rows
        return dict(sorted(counts.items()))

    def soon(self) -> dict[str, Any]:
        """Assets whose term ends within some days of the version's instant, and that instant."""
        told: dict[str, Any] = {"as_of": self.as_of.isoformat()}
        for days in SOON_DAYS:
            until = self.as_of + timedelta(days=days)
            rows = sum(rows for one, rows in self.found.items() if one.ends and one.ends <= until)
            told[f"within_{days}_days"] = rows
        return told

    def settled(self) -> list[dict[str, Any]]:
        """The most frequent first; few of a code that tells of people are withheld. What is kept is told
        elsewhere, and hides nothing.
        """
        gone = {key: rows for key, rows in self.outcomes.items() if key[1] != outcomes.KEPT}
        counts = {**self.outcomes, **of_whole(gone, [key for key in gone if key[2].startswith(ABOUT_PEOPLE)])}
        return [
            {"step": step, "outcome": outcome, "code": code, "assets": rows}
            for (step, outcome, code), rows in sorted(
                counts.items(), key=lambda one: (-(one[1] if one[1] is not None else 0.5), one[0])
            )
        ]

    def by(self, name: str) -> list[dict[str, Any]]:
        counts: collections.Counter[str] = collections.Counter()
        for one, rows in self.found.items():
            counts[getattr(one, name)] += rows
        return listed(counts, self.total, name)

    def figures(self, step: str) -> list[Figure]:
        rows = "rows.parquet"
        kept = "rows whose outcome is kept"
        beside = "with the licence records that the deliveries brought, the highest revision of each"
        last = (
            "of each part (image, text) the licence named in `licenses` that covers it, grants all uses of "
            f"the purpose and ends last; of the parts the one that ends first, {beside}"
        )
        return [
            Figure(
                name="rights.outcomes",
                title="What became of every delivered row",
                step=step,
                file=rows,
                counted="rows by settled_by, outcome and the code of the first of reasons (before its colon)",
                values=self.settled(),
            ),
            Figure(
                name="rights.providers",
                title="Providers",
                step=step,
                file=rows,
                counted=f"rows by what stands before the colon of uid: all, and {kept}",
                values=[
                    {"provider": name, "delivered": count, "assets": self.kept[name]}
                    for name, count in sorted(self.delivered.items())
                ],
            ),
            Figure(
                name="rights.licenses",
                title="Licences",
                step=step,
                file=rows,
                counted=f"{kept}, by each entry of `licenses`; an asset may name several",
                values=[
                    {**one, **self._record(one["license"])}
                    for one in listed(self.named, self.total, "license")
                ],
            ),
            Figure(
                name="rights.kinds",
                title="Kinds of licences",
                step=step,
                file=rows,
                counted=f"{kept} with an entry of `licenses` of the kind, each asset once, {beside}",
                values=listed(self.kinds, self.total, "kind"),
            ),
            *(
                Figure(
                    name=f"rights.{name}",
                    title=title,
                    step=step,
                    file=rows,
                    counted=f"{kept}, by the {what} of: {last}",
                    values=self.by(name),
                )
                for name, title, what in (
                    ("tier", "Tiers", "tier"),
                    ("territory", "Territories", "territory"),
                    ("after_term", "What follows the end of the term", "after_term"),
                )
            ),
            Figure(
                name="rights.expiry",
                title="When terms end",
                step=step,
                file=rows,
                counted=f"{kept}, by the month (UTC) of valid_until of: {last}",
                values=self.months(),
            ),
            Figure(
                name="rights.soon",
                title="Terms that end soon",
                step=step,
                file=rows,
                counted=f"{kept} whose term, as in rights.expiry, ends at most so many days after as_of, the "
                "instant at which the version's rights were judged",
                values=self.soon(),
            ),
        ]

    def _record(self, name: str) -> dict[str, Any]:
        provider, _, license_id = name.partition(":")
        one = self.licenses[provider][license_id]
        until = one.valid_until.date().isoformat() if one.valid_until else NEVER
        return {"kind": one.kind, "expression": one.expression, "covers": list(one.covers), "until": until}


def listed(counts: Mapping[str, int], total: int, name: str) -> list[dict[str, Any]]:
    """The most frequent first. Licences and terms are no people: few are told too."""
    return [
        {name: value, "assets": count, "share": count / total if total else 0.0}
        for value, count in sorted(counts.items(), key=lambda one: (-one[1], one[0]))
    ]


def grouped(columns: Sequence[pa.Array]) -> Iterable[tuple[Any, ...]]:
    """Each combination of values, and how many rows have it."""
    names = [str(number) for number in range(len(columns))]
    found = pa.table(list(columns), names=names).group_by(names).aggregate([([], "count_all")])
    return zip(*(found[name].to_pylist() for name in (*names, "count_all")), strict=True)
