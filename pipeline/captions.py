"""Forms of one caption: what a text encoder for pictures should have seen said about the same picture.

A catalog holds one description and some keywords. People ask with other words, in other orders, and with
colours; a small model that only ever saw the description answers nothing else. Forms use the licensed words
and, where the licence grants derived captions, a word for the dominant colour of the pixels (origin
``derived``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import Field

from infra.settings import Section

LICENSED = "licensed"
DERIVED = "derived"
DESCRIPTION = "description"
KEYWORD = "keyword"
COLOR = "color"
LONG = "long"
KINDS = (DESCRIPTION, KEYWORD, COLOR, LONG)
FITTED_ROWS = 20_000_000
"""About so many captions a text tokenizer is fitted on, and so many pairs the projection, the first by hash
of their uid: two hours of a core, and more teach them nothing."""


class CaptionConfig(Section):
    forms: int = Field(12, ge=1, le=64)
    """At most this many forms of each caption, the plain description included."""
    max_keywords: int = Field(4, ge=0)
    """Keywords in the longest form."""
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    kind: str
    origin: str
    text: str


def digest(*parts: object) -> bytes:
    """A fixed place among all things by name."""
    return hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()


def place(*parts: object) -> int:
    """The same as a number below 2^64."""
    return int.from_bytes(digest(*parts)[:8])


def generator(*parts: object) -> np.random.Generator:
    """Randomness for one thing by name: the same for everybody who asks with the same parts."""
    return np.random.default_rng(list(digest(*parts)))


def forms(
    description: str, keywords: Sequence[str], color: str | None, *, config: CaptionConfig, name: str
) -> list[Form]:
    """The plain description first, then up to ``config.forms - 1`` others, all different, drawn by ``name``.

    ``color`` is null where none dominates or none may be derived.
    """
    rng = generator("captions", config.seed, name)
    words = [word for word in dict.fromkeys(keywords) if word.casefold() != description.casefold()]
    found = {description: Form(kind=DESCRIPTION, origin=LICENSED, text=description)}
    for form in [
        *short(description, words, color),
        *(long(description, words, config, rng) for _ in range(8)),
    ]:
        found.setdefault(form.text, form)
    rest = list(found.values())[1:]
    order = rng.permutation(len(rest))[: config.forms - 1]
    return [found[description], *(rest[i] for i in sorted(order))]


def short(description: str, words: Sequence[str], color: str | None) -> list[Form]:
    """``apple``; and with a colour ``red apple``, unless the words already say a colour first."""
    plain = [Form(kind=KEYWORD, origin=LICENSED, text=word) for word in words]
    if color is None:
        return plain
    named = [word for word in (description, *words) if color not in word.casefold().split()]
    return [*plain, *(Form(kind=COLOR, origin=DERIVED, text=f"{color} {word}") for word in named)]


def long(description: str, words: Sequence[str], config: CaptionConfig, rng: np.random.Generator) -> Form:
    """The description among a few keywords, in any order."""
    count = int(rng.integers(1, config.max_keywords + 1)) if words and config.max_keywords else 0
    chosen = [words[i] for i in rng.permutation(len(words))[:count]]
    parts = [description, *chosen]
    text = ", ".join(parts[i] for i in rng.permutation(len(parts)))
    return Form(kind=LONG, origin=LICENSED, text=text)
