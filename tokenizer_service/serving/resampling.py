"""A caller's picture as published models see it, in the process that :mod:`looking` tells of."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from infra.guarded.isolated import Answer
from tokenizer_service import squares
from tokenizer_service.serving.looking import seen
from tokenizer_service.vq import Preprocessing


def look(image: bytes, settings: Mapping[str, Any]) -> Answer:
    """As :func:`looking.look`, resampled as the model's own training was."""
    preprocessing = Preprocessing(resize=settings["resize"])
    return seen(image, settings, partial(squares.square, preprocessing=preprocessing))
