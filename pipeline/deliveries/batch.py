"""The part of a delivery that one task reads, whatever the form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.contract import DeliveryFile
from pipeline.deliveries.fetched import NOT_FOLLOWED, Answers

ASSETS = 256
"""Of a batch, where the form does not set it. At half a megabyte an image this is the size of a tar."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    files: tuple[DeliveryFile, ...] = ()
    """What is opened for it, as the delivery lists it."""
    rows: bytes = b""
    """Its rows, a line of JSON each, cut from the delivery's tables (:mod:`pipeline.deliveries.rows`)."""
    addresses: int = 0
    """Rows whose image lies at an address outside the delivery."""
    signed: Mapping[int, str] = field(default_factory=dict, repr=False)
    """The whole address, by row, where ``rows`` hold less than that. Never written: who follows them makes
    the batch anew."""
    samples: int | None = None
    """How many come of it, where that is known before it is read."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """JSON values that tell it from other batches of the same bytes."""
    answers: Answers = NOT_FOLLOWED
    """What was found at the addresses."""
