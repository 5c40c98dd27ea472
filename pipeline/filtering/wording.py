"""How a caption and its keywords are worded: words said again, lists in place of sentences, stuffed keywords.

The surprising rule: a caption too short to judge has no value. Two words that are the same are half of
"New York, New York"; in eight words they are a fault.
"""

from __future__ import annotations

import collections
import itertools
import re
import unicodedata
from collections.abc import Sequence

_CATEGORIES = ((code, unicodedata.category(chr(code))[0]) for code in range(0x300, 0x20000))
_RUNS = (list(run) for kind, run in itertools.groupby(_CATEGORIES, lambda one: one[1]) if kind == "M")
MARKS = "".join(f"{chr(run[0][0])}-{chr(run[-1][0])}" for run in _RUNS)
"""Combining signs, as ranges for a pattern: vowels of Hindi, tones of Thai, points of Arabic, accents."""
_RUN = rf"(?:[^\W_]++[{MARKS}]*+)++"
WORD = re.compile(rf"{_RUN}(?:['\u2019]{_RUN})*+")
"""A word: letters and digits of any script with their combining signs, an apostrophe inside."""
BETWEEN = re.compile("[,;|/•·]")
"""What stands between the parts of a list, without the space around it: looked for with it, a caption of
spaces takes time in the square of their number."""
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
    parts = [part for part in BETWEEN.split(text) if part.strip()]
    return len(parts) / len(found) if len(parts) > 1 else 0.0


def stem(keyword: str) -> str:
    """What near repeats share: folded, sorted words, without the plural's ending; a keyword without a word,
    such as an emoji, is its own.

    >>> stem("Dogs, running") == stem("running dog"), stem("\N{DOG FACE}")
    (True, '\N{DOG FACE}')
    """
    return " ".join(sorted(PLURAL.sub("", word) for word in words(keyword))) or keyword.strip()


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
