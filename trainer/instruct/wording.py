"""Small rules of English that instructions, questions and captions share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

DETERMINERS = ("a", "an", "the", "some", "two", "three", "no")


def pick(rng: np.random.Generator, wordings: Sequence[str]) -> str:
    """One of them, each as likely."""
    return wordings[int(rng.integers(len(wordings)))]


def a(name: str) -> str:
    """With the article that its first letter asks for; as it is where it has one, or looks like a plural.

    >>> a("apple"), a("red apple"), a("the sun"), a("scissors"), a("bus")
    ('an apple', 'a red apple', 'the sun', 'scissors', 'a bus')
    """
    words = name.casefold().split()
    plural = words[-1].endswith("s") and not words[-1].endswith(("ss", "us", "is"))
    if plural or words[0] in DETERMINERS:
        return name
    return f"{'an' if words[0][0] in 'aeiou' else 'a'} {name}"


def joined(parts: Sequence[str]) -> str:
    """A list in words.

    >>> joined(["a cat", "a dog", "a bird"])
    'a cat, a dog and a bird'
    """
    *first, last = parts
    return f"{', '.join(first)} and {last}" if first else last


def sentence(text: str) -> str:
    """With a capital and a full stop.

    >>> sentence("a cat on the left")
    'A cat on the left.'
    """
    return f"{text[0].upper()}{text[1:]}."
