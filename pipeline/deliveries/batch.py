"""The part of a delivery that one task reads, whatever the form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.contract import DeliveryFile

ASSETS = 256
"""Of a batch, where the form does not set it. At half a megabyte an image this is the size of a tar."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    files: tuple[DeliveryFile, ...]
    """What is opened for it first; at least one."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """JSON values that tell it from other batches of the same files."""
