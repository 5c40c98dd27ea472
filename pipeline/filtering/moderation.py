"""An agency's moderation labels: one name however it is spelled, one score however often it was sent."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any


def code(label: str) -> str:
    """What labels are compared by, and called in verdicts.

    >>> code("Explicit Nudity")
    'explicit_nudity'
    """
    return re.sub(r"\W+", "_", label.casefold()).strip("_")


def score(labels: Sequence[Mapping[str, Any]], *, label: str, unscored: float | None) -> float | None:
    """The highest score of a label; ``unscored`` stands for one that was not sent."""
    scores = [one["score"] for one in labels if code(one["name"]) == code(label)]
    told = [unscored if score is None else score for score in scores]
    return max((score for score in told if score is not None), default=None)
