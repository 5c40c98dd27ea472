"""What ``pipeline.looking:look`` does in the guarded process, and the CPU seconds that decoding took there.

``ingesting`` has the images step use it, to tell how much of the step is spent elsewhere.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from infra.guarded.isolated import Answer
from pipeline import looking
from tokenizer_service import jpegs

spent_s = 0.0
"""Of this process, so far."""


def timed(work: Callable[..., Any]) -> Callable[..., Any]:
    def done(*given: Any, **named: Any) -> Any:
        global spent_s  # noqa: PLW0603
        began = time.thread_time()
        found = work(*given, **named)
        spent_s += time.thread_time() - began
        return found

    return done


jpegs.small = timed(jpegs.small)


def look(image: bytes, settings: Mapping[str, Any]) -> Answer:
    told, parts = looking.look(image, settings)
    return {**told, "spent_s": spent_s}, parts
