"""Decide whether an asset may be used, by its licences, its revocations and what its file says.

Denied by default: an asset is kept only when, for **each part that is used (the picture and the words), at
least one licence that it names covers that part and, on its own, admits the use** at that time, in that
territory, for that model. Grants are a union of licences, never a mixture: one that grants training until
yesterday and one that grants nothing until next year do not make a grant. Where art and metadata come under
two licences (``covers: ["image"]`` and ``covers: ["text"]``), both must therefore admit the use; a licence
that covers the whole asset is enough alone. The order of the rules is that of the decision table in the
contract: revoked, licences, releases, adults and minors, the file's own prohibitions, the file's conditions.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Literal

from pydantic import Field

from infra.settings import Section
from pipeline.contract import PARTS, Asset, License, Part, Use
from pipeline.embedded import NOTHING, Extracted, Signals, signals
from pipeline.fields import Country, Many
from pipeline.revoked import Revoked

NOTICE = timedelta(days=30)
"""A licence that does not say what follows its end starts no new training so shortly before it."""
EDITORIAL_MATTERS: frozenset[Use] = frozenset({"generation", "retrieval_display"})
Uses = frozenset[Use]


class Purpose(Section):
    """What the corpus is for. An asset that does not grant all of it is not in the corpus."""

    uses: Annotated[Many[Use], Field(min_length=1)] = ("ml_training", "generation")
    """Uses that every asset must grant. ``retrieval_index`` decides besides whether it may be a neighbor."""
    territory: Literal["worldwide"] | Annotated[Many[Country], Field(min_length=1)] = "worldwide"
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
class Decision:
    outcome: Literal["kept", "rejected", "quarantined"]
    reasons: tuple[str, ...]
    """``CODE`` or ``CODE:WHICH``. Empty for a kept asset, but for ``contract_prevails:CONTRACT``."""
    license_ids: tuple[str, ...] = ()
    """The licences that admit the use, and those that admit showing."""
    may_be_neighbor: bool = False
    may_be_shown: bool = False
    may_derive: bool = False
    """New captions may be made from its words."""
    attribution: str = ""
    """Credit to show with the asset; empty if none is owed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    asset: Asset
    licenses: Mapping[str, License]
    purpose: Purpose
    as_of: datetime
    revoked: Revoked
    signals: Signals


def decide(
    asset: Asset,
    licenses: Mapping[str, License],
    *,
    purpose: Purpose,
    as_of: datetime,
    revoked: Revoked,
    extracted: Extracted = NOTHING,
) -> Decision:
    """``licenses`` are the provider's records by id. The first rule that objects decides."""
    case = _Case(
        asset=asset,
        licenses=licenses,
        purpose=purpose,
        as_of=as_of,
        revoked=revoked,
        signals=signals(extracted),
    )
    for rule in (_withdrawn, _unlicensed, _unreleased, _unfit):
        if reasons := tuple(rule(case)):
            return Decision(outcome="rejected", reasons=reasons)
    if reasons := tuple(_unclear(case)):
        return Decision(outcome="quarantined", reasons=reasons)
    return _kept(case)


def _withdrawn(case: _Case) -> Iterator[str]:
    if revocation_id := case.revoked.covers(case.asset):
        yield f"revoked:{revocation_id}"
    elif case.asset.status != "active":
        yield case.asset.status
    else:
        ended = case.revoked.restricts(case.asset)
        yield from (f"restricted:{use}" for use in sorted(case.purpose.needed & ended.keys()))


def _unlicensed(case: _Case) -> Iterator[str]:
    reasons = (reason for part in PARTS for reason in _nearest_miss(case, part))
    yield from dict.fromkeys(reasons)


def _nearest_miss(case: _Case, part: Part) -> tuple[str, ...]:
    """Why no licence admits the part: what the one that fails least lacks. Empty if one admits it."""
    found = [_misses(case, record, part, case.purpose.needed) for record in _candidates(case, part)]
    if found:
        return min(found, key=len)
    unknown = [name for name in case.asset.license_ids if name not in case.licenses]
    return tuple(f"license_missing:{name}" for name in unknown) or (f"no_license:{part}",)


def _candidates(case: _Case, part: Part) -> list[License]:
    """Licences that the asset names, that we have, and that speak for the part."""
    named = (case.licenses.get(name) for name in case.asset.license_ids)
    return [record for record in named if record is not None and part in record.covers]


def _misses(case: _Case, record: License, part: Part, uses: Uses) -> tuple[str, ...]:
    """All that keeps one licence, taken whole, from admitting the uses of a part."""
    return (
        *_out_of_force(case, record),
        *_not_granted(case, record, uses),
        *_elsewhere(case, record),
        *_editorial(case, record, part, uses),
    )


def _out_of_force(case: _Case, record: License) -> Iterator[str]:
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


def _not_granted(case: _Case, record: License, uses: Uses) -> Iterator[str]:
    ended = case.revoked.license_restricts(case.asset.provider, record.license_id)
    for use in sorted(uses):
        if not record.uses.allows(use):
            yield f"use_not_granted:{use}"
        elif use in ended:
            yield f"restricted:{use}"


def _elsewhere(case: _Case, record: License) -> Iterator[str]:
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


def _editorial(case: _Case, record: License, part: Part, uses: Uses) -> Iterator[str]:
    """Editorial pictures are no material for new ones, unless a licence for editorial content says so."""
    if not uses & EDITORIAL_MATTERS:
        return
    foreign = part == "image" and case.asset.is_editorial and record.tier != "editorial"
    if record.editorial_only or foreign:
        yield "editorial"


def _unreleased(case: _Case) -> Iterator[str]:
    if "generation" not in case.purpose.needed:
        return
    if case.asset.has_people != "no" and case.asset.releases.model != "unlimited":
        yield "release:model"
    if case.asset.has_property == "yes" and case.asset.releases.property != "unlimited":
        yield "release:property"


def _unfit(case: _Case) -> Iterator[str]:
    asset, purpose = case.asset, case.purpose
    if asset.is_adult and purpose.adult == "deny":
        yield "adult"
    unstated = asset.has_people != "no" and asset.has_minors in (None, "unknown")
    refused = asset.has_minors == "yes" or (unstated and purpose.minors == "deny_unknown")
    if refused and purpose.minors != "allow":
        yield "minors"


def _unclear(case: _Case) -> Iterator[str]:
    """The contract says yes and the file says no, or says to read on: a person looks."""
    needed = case.purpose.needed
    if not _prevailing(case):
        yield from (f"embedded_prohibition:{use}" for use in sorted(needed & case.signals.denied))
    sources = (case.signals.unclear[use] for use in sorted(needed & case.signals.unclear.keys()))
    yield from (f"embedded_constraint:{source}" for source in dict.fromkeys(sources))
    if revocation_id := case.revoked.resembles(case.asset):
        yield f"resembles_revoked:{revocation_id}"


def _prevailing(case: _Case) -> str | None:
    """The contract that admits the picture and prevails over what the file forbids."""
    record = _admitting(case, "image", case.purpose.needed)
    known = record is not None and record.contract_id in case.purpose.contract_prevails
    return record.contract_id if record is not None and known else None


def _admitting(case: _Case, part: Part, uses: Uses) -> License | None:
    """The first licence that admits the uses of the part by itself."""
    found = (record for record in _candidates(case, part) if not _misses(case, record, part, uses))
    return next(found, None)


def _for_every_part(case: _Case, uses: Uses) -> tuple[License, ...]:
    """One licence a part that admits the uses; empty where a part has none."""
    found = tuple(_admitting(case, part, uses) for part in PARTS)
    return tuple(record for record in found if record is not None) if all(found) else ()


def _further(case: _Case, use: Use, *, beside: Uses) -> tuple[License, ...]:
    """The licences that admit one more use; none where the file or a revocation forbids it."""
    forbidden = use in case.signals.denied and not _prevailing(case)
    barred = forbidden or use in case.signals.unclear or use in case.revoked.restricts(case.asset)
    return () if barred else _for_every_part(case, beside | {use})


def _kept(case: _Case) -> Decision:
    needed = case.purpose.needed
    neighbor = _further(case, "retrieval_index", beside=needed)
    shown = _further(case, "retrieval_display", beside=frozenset())
    used = {record.license_id: record for record in (neighbor or _for_every_part(case, needed)) + shown}
    overridden = _prevailing(case) if case.signals.denied else None
    return Decision(
        outcome="kept",
        reasons=(f"contract_prevails:{overridden}",) if overridden else (),
        license_ids=tuple(used),
        may_be_neighbor=bool(neighbor),
        may_be_shown=bool(shown),
        may_derive=bool(_further(case, "derived_captions", beside=needed)),
        attribution="; ".join(
            dict.fromkeys(
                _credit(case.asset, record) for record in used.values() if record.attribution_required
            )
        ),
    )


def _credit(asset: Asset, record: License) -> str:
    """The licence's template, filled. Braces that name nothing of ours stay as they are: it is no program."""
    facts = {
        "title": asset.title or asset.description,
        "asset_id": asset.asset_id,
        "contributor": asset.contributor.display_name or asset.contributor.id,
        "credit_line": asset.credit_line or "",
        "attribution_text": asset.attribution_text or "",
        "rights_holder": (record.rights_holder or record.licensor).name,
    }
    template = record.attribution_template or record.expression
    return re.sub(r"\{([a-z_]+)\}", lambda found: facts.get(found[1], found[0]), template)
