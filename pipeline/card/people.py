"""People and releases, as the records state them; countries, languages and origin of the words."""

from __future__ import annotations

import collections
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline import schema
from pipeline.card.figures import Figure, most, of_whole, share, table
from pipeline.card.parts import Part
from pipeline.card.rights import grouped
from pipeline.card.settings import Reference

UNSTATED = "not stated"
COUNTRIES = 40
"""That are listed; those with fewer assets are counted together."""
Counter = collections.Counter[Any]
STATED = ("editorial", "adult", "minors", "property", "ai_generated")


def counter() -> Counter:
    return collections.Counter()


@dataclass(slots=True)
class People:
    """Counts over the kept rows of the shards seen so far."""

    total: int = 0
    released: Counter = field(default_factory=counter)
    """By people and release."""
    property_release: Counter = field(default_factory=counter)
    stated: dict[str, Counter] = field(default_factory=lambda: {name: counter() for name in STATED})
    countries: dict[str, Counter] = field(
        default_factory=lambda: {name: counter() for name in ("contributor", "location")}
    )
    texts: Counter = field(default_factory=counter)
    """By language and origin, of all texts of a record."""
    primary: Counter = field(default_factory=counter)
    """By language and origin, of the description that is trained on."""

    def add(self, part: Part) -> None:
        rows, told = part.kept_rows(), part.kept_told()
        self.total += rows.num_rows
        people, release = (rows[field.name].combine_chunks() for field in (schema.PEOPLE, schema.RELEASE))
        self.released.update({(one, other): count for one, other, count in grouped([people, release])})
        releases = told["releases"].combine_chunks()
        self.property_release.update(dict(grouped([stated(pc.struct_field(releases, "property"))])))
        flags = {
            "editorial": told["is_editorial"].combine_chunks().cast(pa.string()),
            "adult": told["is_adult"].combine_chunks().cast(pa.string()),
            "minors": told["has_minors"].combine_chunks(),
            "property": told["has_property"].combine_chunks(),
            "ai_generated": rows[schema.AI_GENERATED.name].combine_chunks(),
        }
        for name, column in flags.items():
            self.stated[name].update({worded(value): count for value, count in grouped([stated(column)])})
        for name in self.countries:
            places = pc.struct_field(told[name].combine_chunks(), "country")
            self.countries[name].update(dict(grouped([stated(places)])))
        self._add_texts(told)

    def _add_texts(self, told: pa.Table) -> None:
        lists = told["descriptions"].combine_chunks()
        found = pc.list_flatten(lists)
        if not len(found):
            self.primary[UNSTATED, UNSTATED] += told.num_rows
            return
        lang, origin, text = (stated(pc.struct_field(found, name)) for name in ("lang", "origin", "text"))
        self.texts.update({(one, other): count for one, other, count in grouped([lang, origin])})
        parents = pc.list_parent_indices(lists)
        same = pc.equal(text, told["description"].combine_chunks().take(parents))
        rows = np.asarray(parents.filter(same))
        first = np.unique(rows, return_index=True)[1]
        chosen = pa.array(np.flatnonzero(np.asarray(same, np.bool_))[first])
        pairs = grouped([lang.take(chosen), origin.take(chosen)])
        self.primary.update({(one, other): count for one, other, count in pairs})
        self.primary[UNSTATED, UNSTATED] += told.num_rows - len(first)

    def figures(self, step: str, reference: Reference | None) -> list[Figure]:
        kept = "of the rows whose outcome is kept"
        return [
            Figure(
                name="people.releases",
                title="People in pictures, and their releases",
                step=step,
                file="rows.parquet",
                counted=f"rows by people and release, {kept}",
                values=crossed(self.released, ("people", "release"), self.total),
            ),
            Figure(
                name="people.property_releases",
                title="Releases of property",
                step="records",
                file="records.parquet",
                counted=f"releases.property of the record JSON, {kept}",
                values=table(of_whole(self.property_release), self.total, "release"),
            ),
            *(
                Figure(
                    name=f"people.{name}",
                    title=title,
                    step=step if name == "ai_generated" else "records",
                    file="rows.parquet" if name == "ai_generated" else "records.parquet",
                    counted=f"{field_name} {kept}",
                    values=table(of_whole(self.stated[name]), self.total, name),
                )
                for name, title, field_name in (
                    ("minors", "Minors", "has_minors of the record JSON"),
                    ("editorial", "Editorial", "is_editorial of the record JSON"),
                    ("adult", "Adult", "is_adult of the record JSON"),
                    ("property", "Recognisable property", "has_property of the record JSON"),
                    ("ai_generated", "Made by AI", "ai_generated"),
                )
            ),
            *(
                Figure(
                    name=f"representation.{name}_country",
                    title=title,
                    step="records",
                    file="records.parquet",
                    counted=f"{name}.country of the record JSON, {kept}"
                    + (f"; beside the shares of: {reference.source}" if reference else ""),
                    values=self._countries(name, reference),
                )
                for name, title in (
                    ("contributor", "Countries of the contributors"),
                    ("location", "Countries of the pictures"),
                )
            ),
            Figure(
                name="representation.texts",
                title="All texts of the records, by language and origin",
                step="records",
                file="records.parquet",
                counted=f"entries of descriptions of the record JSON by lang and origin, {kept}",
                values=crossed(self.texts, ("language", "origin"), sum(self.texts.values())),
            ),
            Figure(
                name="representation.primary_text",
                title="The caption, by language and origin",
                step="records",
                file="records.parquet",
                counted="lang and origin of the first entry of descriptions whose text is description, "
                f"{kept}; {UNSTATED} where none is",
                values=crossed(self.primary, ("language", "origin"), self.total),
            ),
        ]

    def _countries(self, name: str, reference: Reference | None) -> list[dict[str, Any]]:
        rows = table(of_whole(self.countries[name]), self.total, "country")
        if reference:
            known = self.total - self.countries[name][UNSTATED]
            rows = [
                {**row, "reference": reference.countries.get(row["country"])}
                | {"share_of_stated": share(row["assets"], known) if row["country"] != UNSTATED else None}
                for row in rows
            ]
        return most(rows, COUNTRIES, "country")


def stated(column: pa.Array) -> pa.Array:
    return pc.fill_null(column.cast(pa.string()), UNSTATED)


def worded(value: str) -> str:
    return {"true": "yes", "false": "no"}.get(value, value)


def crossed(counts: Counter, names: Sequence[str], total: int) -> list[dict[str, Any]]:
    """Two values of a row, the most frequent first."""
    return [
        {**dict(zip(names, values, strict=True)), "assets": count, "share": share(count, total)}
        for values, count in sorted(
            of_whole(counts).items(), key=lambda one: (-(one[1] if one[1] is not None else 0.5), one[0])
        )
    ]
