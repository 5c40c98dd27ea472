"""One plain sign for each that is read alike, so that a form can be looked for in any script.

The surprising rule: places change. What nobody sees, such as a zero-width space inside an address, is left
out; whoever needs the place in the text asks for it.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

SAME_BUT_FOR_FORM = ("<wide>", "<small>", "<font>")
"""Decompositions whose result is read as the same sign; a circled digit or an exponent is not."""
UNSEEN = frozenset(
    [
        *(0x34F, 0x115F, 0x1160, 0x3164, 0xFFA0),
        *(*range(0x17B4, 0x17B6), *range(0x180B, 0x1810), *range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)),
    ]
)
"""Default-ignorable signs that are not of category Cf: fillers, joiners and variation selectors."""


class _Plain(dict[int, str]):
    """By code point, filled as signs are met: a table for ``str.translate``."""

    def __missing__(self, code: int) -> str:
        found = self[code] = plain(chr(code))
        return found


def plain(sign: str) -> str:
    """Digits of any script, full-width forms, dashes and spaces as in ASCII; what is not seen as nothing.

    >>> [plain(sign) for sign in "\u0663\uff20\u2011\u00a0\u00e9\u200b"]
    ['3', '@', '-', ' ', 'é', '']
    """
    category = unicodedata.category(sign)
    if category == "Nd":
        return str(unicodedata.decimal(sign))
    if category == "Pd" or sign == "\u2212":  # the minus
        return "-"
    if category == "Zs":
        return " "
    if category == "Cf" or ord(sign) in UNSEEN:
        return ""
    form, *codes = unicodedata.decomposition(sign).split()[:2] or [""]
    same = chr(int(codes[0], 16)) if form in SAME_BUT_FOR_FORM and codes else sign
    return same if same.isascii() else sign


_PLAIN = _Plain()


@dataclass(frozen=True, slots=True)
class Folded:
    """A text in plain signs, and where each stood."""

    text: str
    places: range | tuple[int, ...]

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Of the text as it was, for one that is not empty; what is unseen between its signs lies inside."""
        return self.places[start], self.places[end - 1] + 1


def fold(text: str) -> Folded:
    """At once for ASCII, which is most text.

    >>> fold("a\u200b\uff12").text, fold("a\u200b\uff12").span(0, 2)
    ('a2', (0, 3))
    """
    if text.isascii():
        return Folded(text, range(len(text)))
    found = text.translate(_PLAIN)
    if len(found) == len(text):
        return Folded(found, range(len(text)))
    return Folded(found, tuple(place for place, sign in enumerate(text) if _PLAIN[ord(sign)]))
