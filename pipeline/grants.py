"""Which of the licences that an asset names admits a use of one of its parts, and what the others lack.

Each is judged whole: use, territory, model, dates and editorial limits of one record, never the union of two.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Literal

from pydantic import Field

from infra.settings import Section
from pipeline.contract import Asset, License, Part, Use
from pipeline.embedded import Signals
from pipeline.fields import Many, Place
from pipeline.revoked import Revoked

NOTICE = timedelta(days=30)
"""A licence that does not say what follows its end starts no new training so shortly before it."""
EDITORIAL_MATTERS: frozenset[Use] = frozenset({"generation", "retrieval_display"})
Uses = frozenset[Use]


class Purpose(Section):
    """What the corpus is for. An asset that does not grant all of it is not in the corpus."""

    uses: Annotated[Many[Use], Field(min_length=1)] = ("ml_training", "generation")
    """Uses that every asset must grant. ``retrieval_index`` decides besides whether it may be a neighbor."""
    territory: Literal["worldwide"] | Annotated[Many[Place], Field(min_length=1)] = "worldwide"
    """Where the corpus and its models are used: everywhere, or a list of ISO 3166-1 codes."""
    model: str = "pardalis"
    """The model or programme, for licences that are limited to named ones."""
    commercial: bool = False
    """True asks every licence for ``commercial`` too."""
    adult: Literal["deny", "allow"] = "deny"
    minors: Literal["deny", "deny_unknown", "allow"] = "deny"
    """``deny_unknown`` also refuses pictures of people whose age nobody stated."""
    contract_prevails: Many[str] = ()
    """Contract ids that were signed knowing of the files' own prohibitions; written into the reasons."""

    @property
    def needed(self) -> Uses:
        return frozenset(self.uses) | (frozenset({"commercial"}) if self.commercial else frozenset())


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """All that the decision about one asset depends on."""

    asset: Asset
    licenses: Mapping[str, License]
    """The provider's records by id."""
    purpose: Purpose
    as_of: datetime
    revoked: Revoked
    signals: Signals


def nearest_miss(case: Case, part: Part) -> tuple[str, ...]:
    """Why no licence admits the part: what the one that fails least lacks. Empty if one admits it."""
    return nearest(case, part)[1]


def nearest(case: Case, part: Part) -> tuple[str, tuple[str, ...]]:
    """The id of the licence that fails least to admit the part, and what it lacks: nothing if it admits it.
    Where none speaks for the part, no id.
    """
    found = [
        (record.license_id, misses(case, record, part, case.purpose.needed))
        for record in candidates(case, part)
    ]
    if found:
        return min(found, key=lambda one: len(one[1]))
    unknown = [name for name in case.asset.license_ids if name not in case.licenses]
    return "", tuple(f"license_missing:{name}" for name in unknown) or (f"no_license:{part}",)


def lacks(case: Case) -> dict[str, tuple[str, ...]]:
    """For each licence that the asset names, all that keeps it, taken whole, from admitting the uses of the
    parts that it covers. Empty for one that admits them.
    """
    found: dict[str, tuple[str, ...]] = {}
    for name in case.asset.license_ids:
        record = case.licenses.get(name)
        if record is None:
            found[name] = (f"license_missing:{name}",)
        else:
            missed = (misses(case, record, part, case.purpose.needed) for part in record.covers)
            found[name] = tuple(dict.fromkeys(itertools.chain.from_iterable(missed)))
    return found


def candidates(case: Case, part: Part) -> list[License]:
    """Licences that the asset names, that we have, and that speak for the part."""
    named = (case.licenses.get(name) for name in case.asset.license_ids)
    return [record for record in named if record is not None and part in record.covers]


def misses(case: Case, record: License, part: Part, uses: Uses) -> tuple[str, ...]:
    """All that keeps one licence, taken whole, from admitting the uses of a part."""
    return (
        *_out_of_force(case, record),
        *_not_granted(case, record, uses),
        *_elsewhere(case, record),
        *_editorial(case, record, part, uses),
    )


def _out_of_force(case: Case, record: License) -> Iterator[str]:
    until, provider = record.valid_until, case.asset.provider
    ended = record.revoked_at is not None and record.revoked_at <= case.as_of
    if ended or case.revoked.license(provider, record.license_id):
        yield "license_revoked"
    if case.as_of < record.valid_from:
        yield "not_yet_valid"
    if until is not None and until <= case.as_of:
        yield "expired"
    elif until is not None and record.after_term == "unknown" and until - NOTICE <= case.as_of:
        yield "expires_soon"


def _not_granted(case: Case, record: License, uses: Uses) -> Iterator[str]:
    ended = case.revoked.license_restricts(case.asset.provider, record.license_id)
    for use in sorted(uses):
        if not record.uses.allows(use):
            yield f"use_not_granted:{use}"
        elif use in ended:
            yield f"restricted:{use}"


def _elsewhere(case: Case, record: License) -> Iterator[str]:
    places, named = case.purpose.territory, record.territory.countries or ()
    match record.territory.mode:
        case "worldwide":
            inside = True
        case "only":
            inside = places != "worldwide" and set(places) <= set(named)
        case "except":
            inside = places != "worldwide" and not set(places) & set(named)
    if not inside:
        yield "territory"
    if record.models is not None and case.purpose.model not in record.models:
        yield "model"


def _editorial(case: Case, record: License, part: Part, uses: Uses) -> Iterator[str]:
    """Editorial pictures are no material for new ones, unless a licence for editorial content says so."""
    if not uses & EDITORIAL_MATTERS:
        return
    foreign = part == "image" and case.asset.is_editorial and record.tier != "editorial"
    if record.editorial_only or foreign:
        yield "editorial"
