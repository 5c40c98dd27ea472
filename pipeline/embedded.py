"""What an image file itself says about its use, and which uses that forbids.

The surprising rule: a file can only forbid. ``DMI-ALLOWED`` and ``allowed`` grant nothing, since the absence
of a prohibition is no permission (PLUS, definition of Data Mining); an unknown value asks for a person.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from pydantic import TypeAdapter

from pipeline.contract import Use
from pipeline.fields import Release, Tri

Released = Literal["model", "property"]
"""Whom or what a release is about."""

TRAINING: frozenset[Use] = frozenset({"ml_training", "generation", "retrieval_index"})
MINING: frozenset[Use] = TRAINING | {"evaluation", "derived_captions"}
EVERY_USE: frozenset[Use] = MINING | {"retrieval_display", "redistribution", "commercial"}

PLUS_VOCABULARY = "ns.useplus.org/ldf/vocab/"
PLUS: dict[str, frozenset[Use]] = {
    "DMI-UNSPECIFIED": frozenset(),
    "DMI-ALLOWED": frozenset(),
    "DMI-PROHIBITED": MINING,
    "DMI-PROHIBITED-EXCEPTSEARCHENGINEINDEXING": MINING,
    "DMI-PROHIBITED-AIMLTRAINING": TRAINING,
    "DMI-PROHIBITED-GENAIMLTRAINING": frozenset({"generation"}),
}
"""The values of ``plus:DataMining`` that are an answer, and the uses that each denies. The three others
(``…SEECONSTRAINT``, ``…SEEEMBEDDEDRIGHTSEXPR``, ``…SEELINKEDRIGHTSEXPR``) point to a text for a person."""

CAWG: dict[str, frozenset[Use]] = {
    "data_mining": MINING,
    "ai_training": frozenset({"ml_training"}),
    "ai_generative_training": frozenset({"generation"}),
    "ai_inference": frozenset({"retrieval_index"}),
}
"""Entries of the assertions ``cawg.training-mining`` and ``c2pa.training-mining``, without their prefix."""

RELEASES: dict[Released, dict[str, Release]] = {
    "model": {"MR-UMR": "unlimited", "MR-LMR": "limited", "MR-NON": "none", "MR-NAP": "not_applicable"},
    "property": {"PR-UPR": "unlimited", "PR-LPR": "limited", "PR-NON": "none", "PR-NAP": "not_applicable"},
}
"""The values of ``plus:ModelReleaseStatus`` and ``plus:PropertyReleaseStatus``, in the words of a record."""
AGES: dict[str, Tri] = {
    **dict.fromkeys(("AG-U14", "AG-A15", "AG-A16", "AG-A17"), "yes"),
    **{f"AG-A{years}": "no" for years in range(18, 26)},
    "AG-UNK": "unknown",
}
"""The values of ``plus:MinorModelAgeDisclosure``, the age of the youngest: is a minor pictured?"""
GENERATED: dict[str, Literal["yes", "partial"]] = {
    "trainedAlgorithmicMedia": "yes",
    "compositeWithTrainedAlgorithmicMedia": "partial",
}
"""The values of ``Iptc4xmpExt:DigitalSourceType`` that name a model. ``algorithmicMedia`` names none: it is
drawn by a formula, without training data (IPTC, Digital Source Type NewsCodes)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Extracted:
    """What we found in a file's XMP, IPTC and C2PA; never taken from a delivery's records."""

    data_mining: tuple[str, ...] = ()
    """Values of ``plus:DataMining``, each as an address or as its last part."""
    training_mining: tuple[tuple[str, str], ...] = ()
    """(entry, use) of the C2PA assertion; use is allowed, notAllowed or constrained. A signature that nobody
    trusts counts: restricting is safe."""
    model_release: tuple[str, ...] = ()
    property_release: tuple[str, ...] = ()
    minor_age: tuple[str, ...] = ()
    """Values of the three properties of PLUS, written as those of ``data_mining`` are."""
    digital_source: tuple[str, ...] = ()
    other_constraints: str = ""
    special_instructions: str = ""
    unread: tuple[str, ...] = ()
    """What is there and could not be read, such as ``unreadable_xmp``: it may be a prohibition."""


NOTHING = Extracted()
_JSON = TypeAdapter(Extracted)


def to_json(extracted: Extracted) -> str | None:
    """None where the file says nothing, as most do."""
    return None if extracted == NOTHING else _JSON.dump_json(extracted).decode()


def from_json(text: str | None) -> Extracted:
    return NOTHING if text is None else _JSON.validate_json(text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Signals:
    """What follows from it. Nothing here is a permission, and silence is the empty value of each field."""

    denied: frozenset[Use] = frozenset()
    """Uses that the file forbids."""
    unclear: Mapping[Use, tuple[str, ...]] = field(default_factory=dict)
    """Uses on which a person must read the file first, and what to read."""
    unreleased: frozenset[Released] = frozenset()
    """Whose release is less than the unlimited one that a record may claim, or a word unknown to us."""
    limited: frozenset[Released] = frozenset()
    """Of these, whose release is a limited one: so people, or property, are pictured."""
    has_minors: bool = False
    ai_generated: bool = False
    """Wholly or in part."""


def value_of(address: str) -> str:
    """The last part of an address in PLUS's vocabulary; anything else as it is."""
    return address.rpartition(PLUS_VOCABULARY)[2]


def source_of(address: str) -> str:
    """The last part of an address in IPTC's vocabulary of digital sources, or in any other."""
    return address.rpartition("/")[2]


def signals(extracted: Extracted) -> Signals:
    """Every source is read, and the most restrictive wins."""
    unclear: dict[Use, tuple[str, ...]] = {}
    for uses, source in _questions(extracted):
        unclear |= {use: (*unclear.get(use, ()), source) for use in uses}
    released = _released(extracted)
    return Signals(
        denied=frozenset().union(*_prohibitions(extracted)),
        unclear=unclear,
        unreleased=frozenset(kind for kind in released if released[kind] - {"unlimited", "not_applicable"}),
        limited=frozenset(kind for kind in released if "limited" in released[kind]),
        has_minors=any(AGES.get(value_of(value)) == "yes" for value in extracted.minor_age),
        ai_generated=any(source_of(value) in GENERATED for value in extracted.digital_source),
    )


def _prohibitions(extracted: Extracted) -> Iterator[frozenset[Use]]:
    yield from (PLUS.get(value_of(value), frozenset()) for value in extracted.data_mining)
    yield from (_mined(entry) for entry, use in extracted.training_mining if use == "notAllowed")


def _questions(extracted: Extracted) -> Iterator[tuple[frozenset[Use], str]]:
    """Uses, and what has to be read before any of them."""
    if any(value_of(value) not in PLUS for value in extracted.data_mining):
        yield EVERY_USE, "data_mining"
    for entry, use in extracted.training_mining:
        if use not in ("allowed", "notAllowed"):
            yield _mined(entry), "training_mining"
    if any(value_of(value) not in AGES for value in extracted.minor_age):
        yield EVERY_USE, "minor_age"
    if extracted.other_constraints.strip():
        yield EVERY_USE, "other_constraints"
    if extracted.special_instructions.strip():
        yield EVERY_USE, "special_instructions"
    yield from ((EVERY_USE, what) for what in extracted.unread)


def _mined(entry: str) -> frozenset[Use]:
    """An entry that nobody defined may mean any use."""
    return CAWG.get(entry.rpartition(".")[2], EVERY_USE)


def _released(extracted: Extracted) -> dict[Released, set[Release | None]]:
    """The releases that the file tells of; None is a word unknown to us."""
    found: dict[Released, tuple[str, ...]] = {
        "model": extracted.model_release,
        "property": extracted.property_release,
    }
    return {kind: {RELEASES[kind].get(value_of(value)) for value in values} for kind, values in found.items()}
