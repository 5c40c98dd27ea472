"""A run is admitted before its first step, or it does not begin: its declared purpose against every licence.

Three things may be wrong with an asset of the packs, and they end differently. What a revocation took back is
blanked as it is read, and the run goes on. What the licences do not admit as of the run's beginning refuses
the start. And what ends later is blanked when the run goes on, since a licence that stops new training stops
no run in the middle. So the instant of the first start is kept with the run, and asked again at every other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import Field

from infra.corpus import Corpus, Version
from infra.ending import GateRefused
from infra.settings import Section
from pipeline import deciding, objecting
from pipeline.contract import Use
from pipeline.fields import Many, Place, Timestamp
from pipeline.grants import Purpose
from pipeline.objecting import TAKES_MODELS, Asked, Objection
from pipeline.reasons import code_of, rule_of

WEIGHED_WHEN_DECIDED: Mapping[Use, str] = {
    "generation": "whether releases are unlimited",
    "commercial": "whether the weights that made its tokens may be used so",
}
"""What no licence says, and was looked at only if the corpus was decided for the use."""
MOST = 12
"""Objections told of one corpus."""
Read = Mapping[str, tuple[Corpus, Version]]
"""By source, what a run reads."""


class AdmissionSection(Section):
    """``[trainer.admission]``: what a run declares. What is left out is as each corpus was decided."""

    uses: Annotated[Many[Use], Field(min_length=1)] | None = None
    """Uses that the model is for; ``ml_training`` and ``generation`` for one that makes pictures."""
    commercial: bool | None = None
    """True asks every licence for ``commercial`` too."""
    territory: Literal["worldwide"] | Annotated[Many[Place], Field(min_length=1)] | None = None
    """Where the model is used: everywhere, or a list of ISO 3166-1 codes."""
    model: str | None = None
    """The model or programme, as licences that are limited to named ones have it."""
    as_of: Timestamp | None = None
    """When licences are judged, such as "2026-11-22T00:00:00Z"; the instant of the run's first start."""
    deletion_plans: dict[str, Annotated[str, Field(min_length=1)]] = Field(default_factory=dict)
    """By licence (PROVIDER:ID) that takes models along when it ends: who then deletes them, and how."""

    def purpose(self, decided: Purpose) -> Purpose:
        """That of a corpus, with what the run declares."""
        names = ("uses", "commercial", "territory", "model")
        told = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        return decided.model_copy(update=told)


def pinned(declared: AdmissionSection, begun: str | None, now: datetime) -> AdmissionSection:
    """With the instant as of which the run is judged: as declared, as it began, or now."""
    if declared.as_of is not None:
        return declared
    as_of = now if begun is None else datetime.fromisoformat(begun)
    return declared.model_copy(update={"as_of": as_of.astimezone(UTC).replace(microsecond=0)})


def check(read: Read, declared: AdmissionSection, *, now: datetime) -> None:
    """Raises :class:`GateRefused` with all that the licences have against the run."""
    told = [line for corpus, version in read.values() for line in refusal(corpus, version, declared, now=now)]
    if told:
        raise GateRefused("\n".join(told))


def refusal(corpus: Corpus, version: Version, declared: AdmissionSection, *, now: datetime) -> Iterator[str]:
    """What is against training on one corpus, with the purpose that it was held against."""
    decided = deciding.purpose_of(corpus, version)
    purpose = declared.purpose(decided)
    where = f"{corpus.store.uri}, version {version.number},"
    for use, weighed in WEIGHED_WHEN_DECIDED.items():
        if use in purpose.needed - decided.needed:
            yield (
                f"{where} was decided for {', '.join(sorted(decided.needed))}, and the run declares {use}: "
                f"{weighed} was not looked at; leave it out of trainer.admission, or {anew(use)}"
            )
            return
    as_of = declared.as_of or now
    asked = Asked(purpose=purpose, planned=declared.deletion_plans.keys(), as_of=as_of, now=now)
    found = objecting.objections(corpus, version, asked)
    if found:
        yield f"{where} may not be trained on for {spelled(purpose)}, as of {as_of:%Y-%m-%dT%H:%M:%SZ}:"
        yield from (f"  {line(one)}" for one in found[:MOST])
        if len(found) > MOST:
            yield f"  and {len(found) - MOST} more"
        if any(one.reason != TAKES_MODELS for one in found):
            yield "or leave the assets out: `pardalis ingest` and `pardalis build` with that pipeline.purpose"


def spelled(purpose: Purpose) -> str:
    """What was declared, in the words of the settings."""
    places = purpose.territory if isinstance(purpose.territory, str) else ", ".join(purpose.territory)
    return f"uses {', '.join(sorted(purpose.needed))}; model {purpose.model!r}; territory {places}"


def anew(use: str) -> str:
    setting = "pipeline.purpose.commercial" if use == "commercial" else "pipeline.purpose.uses"
    return f"set {setting} and run `pardalis ingest` and `pardalis build`"


def line(one: Objection) -> str:
    """One objection: the licence, its field and what stands there, how many assets, the rule and the fix."""
    code = code_of(one.reason)
    source = "the files" if code.startswith("embedded") else "no licence"
    held = f"{one.license}: {one.field} is {one.value!r}" if one.license else source
    more = " …" if one.num_assets > len(one.examples) else ""
    rule = MODELS_TAKEN if code == TAKES_MODELS else rule_of(one.reason)
    fix = FIXES.get(code, UNLICENSED).format(license=one.license)
    return f"{held} ({one.reason}), {one.num_assets} assets: {', '.join(one.examples)}{more}; {rule}; {fix}"


MODELS_TAKEN = "models that were trained under it must be deleted when it ends"
UNLICENSED = "have the records delivered that the assets name"
RENEWED = "have it renewed, and ingest the renewal"
FIXES: Mapping[str, str] = {
    "use_not_granted": "leave the use out of trainer.admission.uses",
    "territory": "declare the places that it names in trainer.admission.territory",
    "model": "declare a model that it names in trainer.admission.model",
    "editorial": "leave generation out of trainer.admission.uses",
    "not_yet_valid": "begin the run when it is valid",
    "expired": RENEWED,
    "expires_soon": RENEWED,
    "embedded_prohibition": "leave the use out of trainer.admission.uses",
    "embedded_constraint": "leave the use out of trainer.admission.uses",
    TAKES_MODELS: "say who deletes them, and how: trainer.admission.deletion_plans.{license!r} = '…'",
}
