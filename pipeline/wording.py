"""How a caption and its keywords are worded: words said again, lists in place of sentences, stuffed keywords.

The surprising rule: a caption too short to judge has no value. Two words that are the same are half of
"New York, New York"; in eight words they are a fault.
"""

from __future__ import annotations

import collections
import re
import unicodedata
from collections.abc import Sequence

WORD = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)*")
"""A word: letters and digits of any script, an apostrophe inside."""
PART = re.compile(r"\s*[,;|/•·]\s*")
PLURAL = re.compile(r"(?<=ch)es$|(?<=sh)es$|(?<=[sxz])es$|(?<=\w{3})(?<!s)s$")
NGRAM = 3
MIN_WORDS = 8
"""Captions with fewer words are not judged."""


def words(text: str) -> list[str]:
    """Folded words.

    >>> words("The dog's Red_Ball")
    ['the', "dog's", 'red', 'ball']
    """
    return WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def top_word_share(text: str) -> float | None:
    """Share of the commonest word; None for fewer words than are judged.

    >>> top_word_share("buy buy buy buy cheap shoes shoes now")
    0.5
    """
    found = words(text)
    if len(found) < MIN_WORDS:
        return None
    ((_, most),) = collections.Counter(found).most_common(1)
    return most / len(found)


def repeated_share(text: str) -> float | None:
    """Share of the runs of three words that were said before, as MassiveText counts them (arXiv 2112.11446).

    >>> repeated_share("red shoes here red shoes here red shoes here now")
    0.5
    """
    found = words(text)
    if len(found) < MIN_WORDS:
        return None
    runs = [tuple(found[at : at + NGRAM]) for at in range(len(found) - NGRAM + 1)]
    return 1 - len(set(runs)) / len(runs)


def listed_share(text: str) -> float | None:
    """Parts between commas over words: 1 where every word is a part, as in a list of keywords.

    >>> listed_share("dog, cat, pet, animal, puppy, kitten, cute, fur")
    1.0
    """
    found = words(text)
    if len(found) < MIN_WORDS:
        return None
    parts = [part for part in PART.split(text) if part]
    return len(parts) / len(found) if len(parts) > 1 else 0.0


def stem(keyword: str) -> str:
    """What near repeats share: folded, sorted words, without the plural's ending.

    >>> stem("Dogs, running") == stem("running dog")
    True
    """
    return " ".join(sorted(PLURAL.sub("", word) for word in words(keyword)))


def keyword_repeats(keywords: Sequence[str]) -> float | None:
    """Share of the keywords that say what one before them said; None without keywords.

    >>> keyword_repeats(["dog", "Dogs", "cat", "dog"])
    0.5
    """
    if not keywords:
        return None
    return 1 - len({stem(keyword) for keyword in keywords}) / len(keywords)


def longest_keyword(keywords: Sequence[str]) -> int | None:
    """Words of the longest keyword: over a handful, it is a sentence.

    >>> longest_keyword(["dog", "golden retriever puppy"])
    3
    """
    return max((len(words(keyword)) for keyword in keywords), default=None)
