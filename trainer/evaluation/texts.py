"""Scores of words: CIDEr and BLEU by pycocoevalcap, VQA accuracy, edit distance.

The surprising rule: sentences are split without the Java tokenizer that COCO's server runs, by what it does
to plain English: lower case, no punctuation. Figures here compare with each other, and with published ones
roughly.

N texts.
"""

from __future__ import annotations

import importlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

EXTRA = "evaluation"
ARTICLES = frozenset({"a", "an", "the"})
NUMBERS = {
    "none": "0", "zero": "0", "one": "1", "two": "2", "three": "3", "four": "4", "five": "5",
    "six": "6", "seven": "7", "eight": "8", "nine": "9", "ten": "10",
}  # fmt: skip
_SHORT = (
    "ain't aren't can't could've couldn't didn't doesn't don't hadn't hasn't haven't he'd he's how'd how'll "
    "how's i'd i'm i've isn't it'd it'll let's ma'am might've must've mustn't needn't o'clock she'd she's "
    "should've shouldn't somebody's someone's that's there's they'd they're they've wasn't we've weren't "
    "what'll what's when's where'd where's who'd who'll who's why's won't would've wouldn't y'all you'd "
    "you'll you're you've"
)
CONTRACTIONS = {word.replace("'", ""): word for word in _SHORT.split()}
PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
BLANK = "…"
"""What stands for a name in the form of a question."""


class NoLibrary(ValueError):
    """The extra with the captioning scores is not installed."""


def cider(captions: Sequence[str], references: Sequence[Sequence[str]]) -> list[float]:
    """CIDEr-D of each caption (Vedantam et al., arXiv 1411.5726), in [0, 10]: words that many references
    share count little. A reference of fewer than four words cannot give 10.
    """
    scorer = _library("cider", "Cider")()
    _, each_N = scorer.compute_score(*_tables(captions, references))
    return [float(one) for one in each_N]


def bleu(captions: Sequence[str], references: Sequence[Sequence[str]]) -> list[float]:
    """BLEU-1 to BLEU-4 of all captions together (Papineni et al., ACL 2002), in [0, 1]."""
    scores, _ = _library("bleu", "Bleu")(4).compute_score(*_tables(captions, references), verbose=0)
    return [float(one) for one in scores]


def check_library() -> None:
    """Raises :class:`NoLibrary`, before the work that would end in it."""
    _library("cider", "Cider")


def _library(module: str, name: str) -> Any:
    try:
        return getattr(importlib.import_module(f"pycocoevalcap.{module}.{module}"), name)
    except ModuleNotFoundError as error:
        raise NoLibrary(
            f"CIDEr and BLEU need pycocoevalcap ({error}); run `pip install 'pardalis[{EXTRA}]'`, or leave "
            "caption out of --tasks"
        ) from None


def _tables(
    captions: Sequence[str], references: Sequence[Sequence[str]]
) -> tuple[dict[int, list[str]], dict[int, list[str]]]:
    """References and captions by number, as the library takes them."""
    true = {number: [words(one) for one in texts] for number, texts in enumerate(references)}
    return true, {number: [words(one)] for number, one in enumerate(captions)}


def words(text: str) -> str:
    """Lower case, without punctuation, one space between words.

    >>> words("A red-brown fox, asleep.")
    'a red-brown fox asleep'
    """
    return " ".join(re.findall(r"[\w'-]*\w[\w'-]*", text.lower()))


def vqa_accuracy(answer: str, given: Sequence[str]) -> float:
    """Of ten answers given by people: min(those that agree / 3, 1), the mean over leaving one of them out
    (Antol et al., arXiv 1505.00468; Goyal et al., arXiv 1612.00837). Of one answer: whether it is that.
    """
    said, others = plain(answer), [plain(one) for one in given]
    if len(others) == 1:
        return float(said == others[0])
    agree = sum(one == said for one in others)
    each = [min((agree - (one == said)) / 3, 1.0) for one in others]
    return sum(each) / len(each)


def plain(answer: str) -> str:
    """As VQA's evaluation compares answers: no punctuation, no articles, numbers as digits, apostrophes back.

    >>> plain("The two dogs."), plain("dont"), plain("1,000")
    ('2 dogs', "don't", '1000')
    """
    text = said = " ".join(answer.lower().split())
    has_thousands = re.search(r"\d,\d", said) is not None
    for mark in PUNCTUATION:
        is_loose = f"{mark} " in said or f" {mark}" in said or has_thousands
        text = text.replace(mark, "" if is_loose else " ")
    text = re.sub(r"\.(?!\d)", "", text)
    found = [NUMBERS.get(word, word) for word in text.split()]
    return " ".join(CONTRACTIONS.get(word, word) for word in found if word not in ARTICLES)


def form(question: str, names: Sequence[str]) -> str:
    """The question with every name blanked; ``names`` from the longest on.

    >>> form("Is the red apple left of the cat?", ["red apple", "cat"])
    'is the … left of the …?'
    """
    text = question.lower()
    for name in names:
        if name in text:
            text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", BLANK, text)
    return re.sub(rf"\ban? (?={BLANK})", "", text)


def commonest(answers: Mapping[str, Counter[str]], asked: str) -> str:
    """The answer that most training questions of that form have; of any form, where there is none."""
    known = answers.get(asked)
    counts = known or sum(answers.values(), Counter())
    return min(counts, key=lambda one: (-counts[one], one)) if counts else ""


def distances(text: str, others: Sequence[str]) -> NDArray[np.int64]:
    """[N]: insertions, deletions and exchanges that make each of the others the text (Levenshtein, 1966).

    >>> distances("STOP", ["STOP", "SHOP", "TOP", ""]).tolist()
    [0, 1, 1, 4]
    """
    longest = max(map(len, others), default=0)
    letters_NL = np.array([[ord(one) for one in other.ljust(longest, "\0")] for other in others], np.int64)
    letters_NL = letters_NL.reshape(len(others), longest)
    row_NL = np.tile(np.arange(longest + 1), (len(others), 1))
    for number, letter in enumerate(text, 1):
        before_NL, row_NL = row_NL, np.empty_like(row_NL)
        row_NL[:, 0] = number
        for place in range(1, longest + 1):
            exchanged = before_NL[:, place - 1] + (letters_NL[:, place - 1] != ord(letter))
            shorter = np.minimum(before_NL[:, place], row_NL[:, place - 1]) + 1
            row_NL[:, place] = np.minimum(exchanged, shorter)
    ends = [len(other) for other in others]
    found: NDArray[np.int64] = row_NL[np.arange(len(others)), ends]
    return found


def character_accuracy(read: str, true: str) -> float:
    """1 - character error rate, in [0, 1]; a text of twice the length scores 0."""
    return max(0.0, 1.0 - int(distances(true, [read])[0]) / len(true))
