"""What a purpose does not admit of a version's packs for training, counted by licence and reason.

The surprising rule: where every licence that the packs count admits the purpose by itself, no row is read:
there are few licences, whatever the number of assets. Only where one does not are the assets looked at, by
kinds that are weighed alike. What was taken back by a revocation is no objection: it is blanked as it is read
(:mod:`pipeline.refused`).

Legend: N assets of the version, K kinds.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow.compute as pc

from infra.corpus import Corpus, Version
from pipeline import deciding, folding, packs, rights, schema
from pipeline.contract import PARTS, Asset, License
from pipeline.embedded import Signals
from pipeline.grants import Case, Purpose, lacks, nearest
from pipeline.refused import Held
from pipeline.revoked import Revoked
from pipeline.searching.holdings import Mask
from pipeline.split import TRAIN

TAKES_MODELS = "takes_models"
"""Reason: when the licence ends, models that were trained under it go too, and nobody said how."""
REVOKED = "license_revoked"
MAX_EXAMPLES = 3
Ground = tuple[str, str]
"""A licence as PROVIDER:ID, and a reason. No licence, where the file objects or none speaks for a part."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a run is to be admitted for."""

    purpose: Purpose
    planned: Collection[str] = ()
    """Licences, as PROVIDER:ID, that take models along when they end, and for which there is a plan."""
    as_of: datetime
    """When licences are judged."""
    now: datetime
    """When revocations are: whatever is in force is blanked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Objection:
    license: str
    """As PROVIDER:ID; empty where the file itself objects, or where there is none."""
    reason: str
    """``CODE`` or ``CODE:WHICH`` of ``pipeline.reasons``, or TAKES_MODELS."""
    field: str
    """Of the licence, and what stands there; empty without one."""
    value: str
    num_assets: int
    """Whose tokens the packs for training hold."""
    examples: tuple[str, ...]
    """The first of their uids."""


def objections(corpus: Corpus, version: Version, asked: Asked) -> list[Objection]:
    """Most assets first; none if the run is admitted.

    Raises ``ValueError`` if the revocations of the newest version cannot be read.
    """
    return [] if is_plain(corpus, version, asked) else counted(corpus, version, asked)


def is_plain(corpus: Corpus, version: Version, asked: Asked) -> bool:
    """Whether every licence under which something was packed admits all its parts by itself.

    What files forbid, and what is editorial, was weighed when the version was decided, for its uses.
    """
    if not asked.purpose.needed <= deciding.purpose_of(corpus, version).needed:
        return False
    named: dict[str, list[str]] = {}
    for name in packs.by_license(packs.slots(corpus, version, TRAIN)):
        provider, _, license_id = name.partition(":")
        named.setdefault(provider, []).append(license_id)
    revoked = Revoked.of(folding.revocations(corpus.store, corpus.newest()), asked.now)
    for provider, license_ids in named.items():
        records = folding.licenses(corpus.store, version, provider)
        case = Case(
            asset=anybodys(provider, license_ids),
            licenses=records,
            purpose=asked.purpose,
            as_of=asked.as_of,
            revoked=revoked,
            signals=Signals(),
        )
        if any(lacks(case).values()):
            return False
        if any(unplanned(records[name], provider, asked.planned) for name in license_ids):
            return False
    return True


def anybodys(provider: str, license_ids: Sequence[str]) -> Asset:
    """An asset of which nothing is said but its licences, to weigh these by themselves."""
    said: dict[str, Any] = {"provider": provider, "license_ids": tuple(license_ids), "is_editorial": False}
    return Asset.model_construct(**said)


def counted(corpus: Corpus, version: Version, asked: Asked) -> list[Objection]:
    held = Held.read(corpus, version, asked.now)
    licenses = held.holdings.licenses
    kinds = [
        grounds(
            Case(
                asset=kind.asset,
                licenses=licenses[kind.asset.provider],
                purpose=asked.purpose,
                as_of=asked.as_of,
                revoked=held.standing.of_licenses,
                signals=kind.signals,
            ),
            asked.planned,
        )
        for kind in held.holdings.kinds
    ]
    trained_N = trained(held, asked.purpose)
    found = []
    for ground in dict.fromkeys(ground for of_kind in kinds for ground in of_kind):
        objects_K = np.array([ground in of_kind for of_kind in kinds], np.bool_)
        (rows,) = np.nonzero(trained_N & objects_K[held.holdings.kinds_N])
        if len(rows):
            examples = held.table[schema.UID.name].take(rows[:MAX_EXAMPLES]).to_pylist()
            found.append(objection(ground, licenses, len(rows), tuple(examples)))
    return sorted(found, key=lambda one: (-one.num_assets, one.license, one.reason))


def trained(held: Held, purpose: Purpose) -> Mask:
    """Assets [N] in the packs for training that no revocation has taken back, by itself or for a use."""
    found_N: Mask = np.asarray(pc.equal(held.table[schema.SPLIT.name], TRAIN), np.bool_)
    found_N = found_N & ~held.standing.removed_N
    for use, ended_N in held.standing.restricted.items():
        if use in purpose.needed:
            found_N = found_N & ~ended_N
    return found_N


def grounds(case: Case, planned: Collection[str]) -> tuple[Ground, ...]:
    """What is to be said against assets of a kind: what the nearest licence lacks, and what the file forbids;
    else that the licences which admit them take models along, and there is no plan for that.
    """
    if all(REVOKED in missed for missed in lacks(case).values()):
        return ()
    provider, granted = case.asset.provider, unrevoked(case)
    found = dict.fromkeys(
        (f"{provider}:{name}" if name else "", reason)
        for name, reasons in (nearest(granted, part) for part in PARTS)
        for reason in reasons
    ) or dict.fromkeys(("", reason) for reason in rights.forbidden(granted))
    if found:
        return tuple(found)
    return tuple(
        (f"{provider}:{record.license_id}", TAKES_MODELS)
        for record in rights.admitting(case)
        if unplanned(record, provider, planned)
    )


def unrevoked(case: Case) -> Case:
    """As if nothing were revoked: what is admitted but for that is blanked, and the run goes on."""
    named = {name: case.licenses[name] for name in case.asset.license_ids if name in case.licenses}
    granted = {name: record.model_copy(update={"revoked_at": None}) for name, record in named.items()}
    return replace(case, licenses=granted, revoked=Revoked())


def unplanned(record: License, provider: str, planned: Collection[str]) -> bool:
    """Whether the licence takes models along when it ends, and there is no plan for that."""
    return bool(model_term(record)) and f"{provider}:{record.license_id}" not in planned


def model_term(record: License) -> tuple[str, str] | None:
    """The field of a licence that takes models along, and what stands there."""
    if record.after_term == "delete_data_and_models":
        return "after_term", record.after_term
    if record.revocation.revocable and record.revocation.scope == "models_too":
        return "revocation.scope", record.revocation.scope
    return None


def objection(
    ground: Ground, licenses: Mapping[str, Mapping[str, License]], num_assets: int, examples: tuple[str, ...]
) -> Objection:
    name, reason = ground
    provider, _, license_id = name.partition(":")
    field, value = term(licenses[provider][license_id], reason) if name else ("", "")
    return Objection(
        license=name, reason=reason, field=field, value=value, num_assets=num_assets, examples=examples
    )


def term(record: License, reason: str) -> tuple[str, str]:
    """The field of a licence that a reason speaks of, and what stands there."""
    code, _, which = reason.partition(":")
    until = "null" if record.valid_until is None else record.valid_until.isoformat()
    told = {
        "use_not_granted": (f"uses.{which}", getattr(record.uses, which, None) or "not named"),
        "territory": ("territory", " ".join(_places(record))),
        "model": ("models", ", ".join(record.models or ())),
        "editorial": _editorial(record),
        "not_yet_valid": ("valid_from", record.valid_from.isoformat()),
        "expired": ("valid_until", until),
        "expires_soon": ("after_term", f"unknown, and valid_until {until}"),
        TAKES_MODELS: model_term(record) or ("", ""),
    }
    return told[code]


def _places(record: License) -> Iterator[str]:
    yield record.territory.mode
    yield from record.territory.countries or ()


def _editorial(record: License) -> tuple[str, str]:
    return ("editorial_only", "true") if record.editorial_only else ("tier", str(record.tier))
