"""What an image file itself says about its use, and which uses that forbids.

The surprising rule: a file can only forbid. ``DMI-ALLOWED`` and ``allowed`` grant nothing, since the absence
of a prohibition is no permission (PLUS, definition of Data Mining); an unknown value asks for a person.
"""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import TypeAdapter

from pipeline.contract import Use

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Extracted:
    """What we found in a file's XMP, IPTC and C2PA; never taken from a delivery's records."""

    data_mining: tuple[str, ...] = ()
    """Values of ``plus:DataMining``, each as an address or as its last part."""
    training_mining: tuple[tuple[str, str], ...] = ()
    """(entry, use) of the C2PA assertion; use is allowed, notAllowed or constrained. A signature that nobody
    trusts counts: restricting is safe."""
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
    """Uses that the file forbids, and those on which a person must read it first (with the reason)."""

    denied: frozenset[Use]
    unclear: dict[Use, str]


def value_of(data_mining: str) -> str:
    """The last part of an address in PLUS's vocabulary; anything else as it is."""
    return data_mining.rpartition(PLUS_VOCABULARY)[2]


def signals(extracted: Extracted) -> Signals:
    """Every source is read, and the most restrictive wins."""
    denied: set[Use] = set()
    unclear: dict[Use, str] = {}
    for value in map(value_of, extracted.data_mining):
        denied |= PLUS.get(value, frozenset())
        if value not in PLUS:
            unclear |= dict.fromkeys(EVERY_USE, "data_mining")
    for entry, use in extracted.training_mining:
        uses = CAWG.get(entry.rpartition(".")[2], EVERY_USE)
        if use == "notAllowed":
            denied |= uses
        elif use != "allowed":
            unclear |= dict.fromkeys(uses, "training_mining")
    for source in ("other_constraints", "special_instructions"):
        if getattr(extracted, source).strip():
            unclear |= dict.fromkeys(EVERY_USE, source)
    for what in extracted.unread:
        unclear |= dict.fromkeys(EVERY_USE, what)
    return Signals(denied=frozenset(denied), unclear=unclear)
