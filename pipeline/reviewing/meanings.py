"""What each rule on a picture or its words measures, which setting moves it, and what to do about a row that
it took out.

The surprising rule: a rule has a code and its setting a name, and these differ where a name says which way
the bound goes: ``blurred`` is moved by ``min_sharpness``. Whoever asks may use either.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

FILTERS, SCREEN, DUPLICATES = "pipeline.filters", "pipeline.screen", "pipeline.duplicates"


@dataclass(frozen=True, slots=True, kw_only=True)
class Meaning:
    told: str
    setting: str
    """In full; empty where none moves the rule."""
    fix: str
    words: bool = False
    """Whether the caption is judged, not the picture."""


def picture(told: str, setting: str, fix: str = "") -> Meaning:
    return Meaning(told=told, setting=setting, fix=fix or f"{move(setting)} to let it in")


def words(told: str, setting: str, fix: str = "") -> Meaning:
    fix = fix or f"have the words corrected and sent with a higher asset_revision, or {move(setting)}"
    return Meaning(told=told, setting=setting, fix=fix, words=True)


def move(setting: str) -> str:
    """To the laxer side.

    >>> move("pipeline.filters.min_side"), move("pipeline.filters.max_aspect")
    ('lower pipeline.filters.min_side', 'raise pipeline.filters.max_aspect')
    """
    return f"{'lower' if '.min_' in setting else 'raise'} {setting}"


MEANINGS: Mapping[str, Meaning] = {
    "min_side": picture("the shorter side as delivered, in pixels", f"{FILTERS}.min_side"),
    "max_aspect": picture("the longer side over the shorter one", f"{FILTERS}.max_aspect"),
    "blank": picture(
        "standard deviation of the channel that varies most, at 64 px, of 255: low where it is flat",
        f"{FILTERS}.min_pixel_std",
    ),
    "blurred": picture(
        "variance of the Laplacian, green channel at 256 px: low where it is blurred",
        f"{FILTERS}.min_sharpness",
    ),
    "ai_generated": picture(
        "1 where the record says of AI what may not stand there",
        f"{FILTERS}.ai_generated",
        f"have the record corrected if it is wrong, or add what it says to {FILTERS}.ai_generated",
    ),
    "min_caption_chars": words("characters of the caption", f"{FILTERS}.min_caption_chars"),
    "max_caption_chars": words("characters of the caption", f"{FILTERS}.max_caption_chars"),
    "min_caption_words": words(
        "words of the caption: runs without white space", f"{FILTERS}.min_caption_words"
    ),
    "max_caption_words": words(
        "words of the caption: runs without white space", f"{FILTERS}.max_caption_words"
    ),
    "top_word_share": words(
        "share of the commonest word among the caption's words", f"{FILTERS}.max_top_word_share"
    ),
    "repeated_share": words(
        "share of runs of three words that the caption said before", f"{FILTERS}.max_repeated_share"
    ),
    "listed_share": words(
        "parts between commas over words: 1 where the caption is a list of keywords",
        f"{FILTERS}.max_listed_share",
    ),
    "max_keywords": words("keywords", f"{FILTERS}.max_keywords"),
    "keyword_repeats": words(
        "share of keywords that repeat another but for case, order and plural",
        f"{FILTERS}.max_keyword_repeats",
    ),
    "keyword_words": words("words of the longest keyword", f"{FILTERS}.max_keyword_words"),
    "language": words(
        "probability that the caption is in an admitted language",
        f"{FILTERS}.min_language_share",
        f"add its language to {FILTERS}.languages, or lower {FILTERS}.min_language_share",
    ),
    "nsfw": picture("probability of pornography, by open_nsfw", f"{SCREEN}.max_nsfw"),
    "watermark": picture(
        "readings in the picture that name an agency or a sample",
        f"{SCREEN}.max_stock_marks",
        f"have the picture sent without the mark, or raise {SCREEN}.max_stock_marks",
    ),
    "repeated_text": picture(
        "how often the commonest reading stands in the picture", f"{SCREEN}.max_text_repeats"
    ),
    "text_share": picture("share of the picture that text covers, by OCR", f"{SCREEN}.max_text_share"),
    "faces": picture("faces that are seen", f"{SCREEN}.max_faces"),
    "unrecorded_face": picture(
        "share of the picture of the largest face, where the record says that nobody is",
        f"{SCREEN}.max_unrecorded_face",
        "if a person is pictured, have the record corrected and sent with a higher asset_revision; else "
        f"raise {SCREEN}.max_unrecorded_face",
    ),
    "alignment": picture("cosine of picture and caption, by the encoder", f"{SCREEN}.min_alignment"),
    "aesthetic": picture("by a linear head on the encoder's features", f"{SCREEN}.min_aesthetic"),
    "exact_duplicate": picture(
        "the same bytes as another row",
        "",
        f"nothing: the row that stays has the same picture; {DUPLICATES}.keeper says which one stays",
    ),
    "near_duplicate": picture(
        "one picture by hash, edges and colours; bits of 64 in which the hashes differ",
        f"{DUPLICATES}.max_hamming",
        f"look at both; where they are two pictures, lower {DUPLICATES}.max_hamming or "
        f"{DUPLICATES}.max_difference",
    ),
    "semantic_duplicate": picture(
        "one subject by the encoder: cosine of the features",
        f"{DUPLICATES}.semantic_threshold",
        f"look at both; where they are two pictures, raise {DUPLICATES}.semantic_threshold",
    ),
    "undecodable": picture(
        "the file cannot be read as a picture", "", "have it sent again, whole, with a higher asset_revision"
    ),
    "decoder_died": picture(
        "decoding it took too much memory or time, or crashed",
        "",
        "a person looks at the file, with care; or have it sent in another form with a higher asset_revision",
    ),
}
PREFIXES: Mapping[str, Meaning] = {
    "pii_": words(
        "personal data of this kind in caption and keywords: how often",
        f"{FILTERS}.pii",
        f'put a placeholder for it by {FILTERS}.pii = "redact", or have the words corrected and sent with a '
        "higher asset_revision",
    ),
    "moderation_": picture(
        "the agency's own score of this moderation label",
        f"{FILTERS}.moderation",
        f"raise the bound of this label in {FILTERS}.moderation to let it in",
    ),
}
NONE = Meaning(told="", setting="", fix="")


def of(code: str) -> Meaning:
    """Empty for a code that stands for none of these rules."""
    prefixed = (meaning for prefix, meaning in PREFIXES.items() if code.startswith(prefix))
    return MEANINGS.get(code) or next(prefixed, NONE)


def setting_called(name: str) -> str:
    """The setting of a rule by any of its names, whether it is on or not; empty for no rule.

    >>> setting_called("blurred") == setting_called("min_sharpness") == "pipeline.filters.min_sharpness"
    True
    """
    settings = [meaning.setting for meaning in (*MEANINGS.values(), *PREFIXES.values())]
    return of(name).setting or next((one for one in settings if f".{one}".endswith(f".{name}")), "")


def named(code: str, name: str) -> bool:
    """Whether a name is the rule's code, or its setting's, in full or in part.

    >>> [
    ...     named("blurred", name)
    ...     for name in ("blurred", "min_sharpness", "filters.min_sharpness", "sharpness")
    ... ]
    [True, True, True, False]
    """
    return name == code or f".{of(code).setting}".endswith(f".{name}")


def listed(codes: Iterable[str]) -> str:
    """Codes, each with its setting where that has another name.

    >>> listed(["min_side", "blurred"])
    'min_side, blurred (min_sharpness)'
    """
    short = {code: of(code).setting.rpartition(".")[2] for code in codes}
    return ", ".join(code if name in ("", code) else f"{code} ({name})" for code, name in short.items())
