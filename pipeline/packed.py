"""What a packed row is made of: documents, and spans that say which asset put which tokens there."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from tokenizer_service.vocabulary import Ids


class Modality(enum.IntEnum):
    TEXT = 0
    IMAGE = 1


class Role(enum.IntEnum):
    TARGET = 0
    NEIGHBOR = 1
    GIVEN = 2
    """What an instruction example says or shows beside its answer; it goes where the target goes."""


class Via(enum.IntEnum):
    """What a neighbor was found by."""

    NOTHING = 0
    """It is the target."""
    IMAGE = 1
    TEXT = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A text or an image of one asset: exactly what lies between two of ``<eos>`` and ``<break>``."""

    start: int
    """Token of the document at which it begins."""
    length: int
    modality: Modality
    role: Role
    uid: str
    revision: int
    via: Via


@dataclass(frozen=True, slots=True, kw_only=True)
class Laid:
    """A document as tokens."""

    example_id: str
    ids: Ids
    spans: tuple[Span, ...]
    continues: bool = False
    """It goes on in the next row."""


Row = tuple[Laid, ...]
"""Documents, end to end from position 0; ``<pad>`` fills the rest."""
