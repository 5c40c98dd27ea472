"""What each rule of ``filter`` and ``screen`` measures, in one line for people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pipeline import schema


@dataclass(frozen=True, slots=True, kw_only=True)
class Meaning:
    told: str
    words: bool = False
    """Whether the caption is judged, not the picture."""


def words(told: str) -> Meaning:
    return Meaning(told=told, words=True)


def picture(told: str) -> Meaning:
    return Meaning(told=told)


MEANINGS: Mapping[str, Meaning] = {
    "min_side": picture("the shorter side as delivered, in pixels"),
    "max_aspect": picture("the longer side over the shorter one"),
    "blank": picture(
        "standard deviation of the channel that varies most, at 64 px, of 255: low where it is flat"
    ),
    "blurred": picture("variance of the Laplacian, green channel at 256 px: low where it is blurred"),
    "ai_generated": picture("1 where the record says of AI what may not stand there"),
    "min_caption_chars": words("characters of the caption"),
    "max_caption_chars": words("characters of the caption"),
    "min_caption_words": words("words of the caption: runs without white space"),
    "max_caption_words": words("words of the caption: runs without white space"),
    "top_word_share": words("share of the commonest word among the caption's words"),
    "repeated_share": words("share of runs of three words that the caption said before"),
    "listed_share": words("parts between commas over words: 1 where the caption is a list of keywords"),
    "max_keywords": words("keywords"),
    "keyword_repeats": words("share of keywords that repeat another but for case, order and plural"),
    "keyword_words": words("words of the longest keyword"),
    "watermark": picture("readings in the picture that name an agency or a sample"),
    "repeated_text": picture("how often the commonest reading stands in the picture"),
    "unrecorded_face": picture(
        "share of the picture of the largest face, where the record says that nobody is"
    ),
    "language": words("probability that the caption is in an admitted language"),
}
"""By code, where neither a prefix nor a column says it."""
PREFIXES: Mapping[str, Meaning] = {
    "pii_": words("personal data of this kind in caption and keywords: how often"),
    "moderation_": picture("the agency's own score of this moderation label"),
}


def of(code: str) -> Meaning:
    """A column's name means what the column does; a code that nobody described is told as it is."""
    if code in MEANINGS:
        return MEANINGS[code]
    prefixed = (meaning for prefix, meaning in PREFIXES.items() if code.startswith(prefix))
    told = {column.name: column.metadata[b"meaning"].decode() for column in schema.MEASURED}
    return next(prefixed, picture(told.get(code, code.replace("_", " "))))
