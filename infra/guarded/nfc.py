"""Unicode's form NFC of text that we do not trust.

The surprising rule: ordering combining marks takes time in the square of how many stand in a row (32,000 of
them: 2 s). So before the 31st of a row goes U+034F, as the Stream-Safe Text Format has it (UAX #15, section
13); nobody's writing has as many.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

MAX_MARKS = 30
JOINER = "\u034f"
"""Combining grapheme joiner: it is seen by nobody, and no mark is ordered past it."""
_MAY_BE_MARKS = re.compile(rf"[^\0-\u02ff]{{{MAX_MARKS + 1},}}")
"""Marks begin at U+0300; long runs of that are Chinese, most of them, and are looked at one by one."""


def normal(text: str) -> str:
    """NFC, in time that grows with the text."""
    return unicodedata.normalize("NFC", _MAY_BE_MARKS.sub(lambda run: "".join(_parted(run[0])), text))


def _parted(run: str) -> Iterator[str]:
    marks = 0
    for char in run:
        marks = marks + 1 if unicodedata.combining(char) else 0
        if marks > MAX_MARKS:
            yield JOINER
            marks = 1
        yield char
