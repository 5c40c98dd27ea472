"""Decide whether an asset may be used, by its licences, its revocations and what its file says.

Denied by default: an asset is kept only when, for **each part that is used (the picture and the words), at
least one licence that it names covers that part and, on its own, admits the use** at that time, in that
territory, for that model. Grants are a union of licences, never a mixture: one that grants training until
yesterday and one that grants nothing until next year do not make a grant. Where art and metadata come under
two licences (``covers: ["image"]`` and ``covers: ["text"]``), both must therefore admit the use; a licence
that covers the whole asset is enough alone. The order of the rules is that of the decision table in the
contract: revoked, licences, releases, adults and minors; and where a person has to look, the file's own
prohibitions and conditions, what it contradicts, and the agency's restrictions in words.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from pipeline import credit
from pipeline.contract import PARTS, Asset, License, Part, Use
from pipeline.embedded import NOTHING, Extracted, signals
from pipeline.grants import NOTICE, Case, Purpose, Uses, candidates, misses, nearest_miss
from pipeline.revoked import Revoked

__all__ = ["NOTICE", "Decision", "Purpose", "admitting", "decide", "forbidden", "may_be_neighbor"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    outcome: Literal["kept", "rejected", "quarantined"]
    reasons: tuple[str, ...]
    """``CODE`` or ``CODE:WHICH``, of those in ``pipeline.reasons``. Empty for a kept asset, but for
    ``contract_prevails:CONTRACT``."""
    license_ids: tuple[str, ...] = ()
    """The licences that admit the use, and those that admit showing."""
    may_be_neighbor: bool = False
    may_be_shown: bool = False
    may_derive: bool = False
    """New captions may be made from its words."""
    attribution: str = ""
    """Credit to show with the asset; empty if none is owed."""


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
    case = Case(
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


def _withdrawn(case: Case) -> Iterator[str]:
    if revocation_id := case.revoked.covers(case.asset):
        yield f"revoked:{revocation_id}"
    elif case.asset.status != "active":
        yield case.asset.status
    else:
        ended = case.revoked.restricts(case.asset)
        yield from (f"restricted:{use}" for use in sorted(case.purpose.needed & ended.keys()))


def _unlicensed(case: Case) -> Iterator[str]:
    reasons = (reason for part in PARTS for reason in nearest_miss(case, part))
    yield from dict.fromkeys(reasons)


def _unreleased(case: Case) -> Iterator[str]:
    if "generation" not in case.purpose.needed:
        return
    if case.asset.has_people != "no" and case.asset.releases.model != "unlimited":
        yield "release:model"
    if case.asset.has_property == "yes" and case.asset.releases.property != "unlimited":
        yield "release:property"


def _unfit(case: Case) -> Iterator[str]:
    asset, purpose = case.asset, case.purpose
    if asset.is_adult and purpose.adult == "deny":
        yield "adult"
    unstated = asset.has_people != "no" and asset.has_minors in (None, "unknown")
    seen = asset.has_minors == "yes" or case.signals.has_minors
    refused = seen or (unstated and purpose.minors == "deny_unknown")
    if refused and purpose.minors != "allow":
        yield "minors"


def _unclear(case: Case) -> Iterator[str]:
    """The contract says yes and the file says no, or says to read on: a person looks."""
    yield from forbidden(case)
    yield from _contradicted(case)
    if case.asset.usage_restrictions:
        yield "usage_restrictions"
    if revocation_id := case.revoked.resembles(case.asset):
        yield f"resembles_revoked:{revocation_id}"


def forbidden(case: Case) -> Iterator[str]:
    """What the file itself has against a use that is needed."""
    needed = case.purpose.needed
    if not _prevailing(case):
        yield from (f"embedded_prohibition:{use}" for use in sorted(needed & case.signals.denied))
    sources = (source for use in sorted(needed) for source in case.signals.unclear.get(use, ()))
    yield from (f"embedded_constraint:{source}" for source in dict.fromkeys(sources))


def _contradicted(case: Case) -> Iterator[str]:
    """What the record says and the file does not bear out. A release matters where something is generated."""
    asset, generated = case.asset, "generation" in case.purpose.needed
    claimed = {
        "model": asset.has_people != "no" and asset.releases.model == "unlimited",
        "property": asset.has_property != "no" and asset.releases.property == "unlimited",
    }
    for kind in sorted(case.signals.unreleased):
        # A limited release is somebody's: whoever says that nobody is pictured is contradicted.
        if generated and (claimed[kind] or kind in case.signals.limited):
            yield f"embedded_release:{kind}"
    if case.signals.ai_generated and asset.ai_generated == "no":
        yield "embedded_conflict:ai_generated"


def _prevailing(case: Case) -> str | None:
    """The contract that admits the picture and prevails over what the file forbids."""
    record = _admitting(case, "image", case.purpose.needed)
    known = record is not None and record.contract_id in case.purpose.contract_prevails
    return record.contract_id if record is not None and known else None


def _admitting(case: Case, part: Part, uses: Uses) -> License | None:
    """The first licence that admits the uses of the part by itself."""
    found = (record for record in candidates(case, part) if not misses(case, record, part, uses))
    return next(found, None)


def _for_every_part(case: Case, uses: Uses) -> tuple[License, ...]:
    """One licence a part that admits the uses; empty where a part has none."""
    found = tuple(_admitting(case, part, uses) for part in PARTS)
    return tuple(record for record in found if record is not None) if all(found) else ()


def _further(case: Case, use: Use, *, beside: Uses) -> tuple[License, ...]:
    """The licences that admit one more use; none where the file or a revocation forbids it."""
    forbidden = use in case.signals.denied and not _prevailing(case)
    barred = forbidden or use in case.signals.unclear or use in case.revoked.restricts(case.asset)
    return () if barred else _for_every_part(case, beside | {use})


def admitting(case: Case) -> tuple[License, ...]:
    """The licences under which an asset of the corpus serves all the uses of the purpose; none where a use is
    not granted, or was taken back, or is forbidden by the file.
    """
    needed = case.purpose.needed
    found = [_further(case, use, beside=needed) for use in sorted(needed)]
    return tuple({record.license_id: record for record in found[0]}.values()) if all(found) else ()


def may_be_neighbor(case: Case) -> bool:
    """Whether it may be in an index that answers, beside what it is shown for."""
    return bool(_further(case, "retrieval_index", beside=frozenset()))


def _kept(case: Case) -> Decision:
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
        attribution=credit.owed(credit.facts(case.asset), used.values()),
    )
