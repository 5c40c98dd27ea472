"""What the card does not know, in words. Some of it depends on what was measured."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from pipeline.card.figures import LEAST
from pipeline.card.gating import Figures


def limits(figures: Figures, lists: Sequence[dict[str, Any]], length: int) -> list[str]:
    return [*always(lists), *unmeasured(figures, length)]


def always(lists: Sequence[dict[str, Any]]) -> Iterator[str]:
    languages = ", ".join(sorted({str(one["language"]) for one in lists}))
    yield (
        "Who is named is no measure of who is pictured: captions and keywords are counted, not images. A "
        "majority often goes unnamed. No attribute of a person is guessed from a picture."
    )
    yield (
        f"The term lists are in these languages: {languages}. Words in others are not found, and count as "
        "naming nobody."
    )
    yield (
        "A term has no context: a word for a nation counts its food and its dogs, a mention of a weapon may "
        "stand in a museum, and two words of one caption may speak of two people."
    )
    yield (
        "An association is a count of captions, no cause. Captions of one photographer or series repeat, so "
        "intervals that take each for a draw of its own are too narrow."
    )
    yield (
        f"Counts from 1 to {LEAST - 1} of people, contributors and terms are withheld, those of what was "
        "taken out for releases, adult content, minors or personal data too, and where one alone of a whole "
        "is, the next smallest with it. However few they are, contributors in all are told, and counts of "
        "assets alone: licences, providers, other reasons, duplicates, captions of benchmarks. Whoever "
        "subtracts one table from another, what came to a step from what came to the next, or this card from "
        "that of a nearly equal version, may find what is withheld."
    )
    yield (
        "People, minors, releases, countries and the use of AI are told as the deliveries state them; nobody "
        "looked at the pictures to see whether it is so."
    )
    yield (
        "Of assets that rights refused, words are counted only where the refusal is about what is pictured "
        "(release, adult, minors, editorial)."
    )


def unmeasured(figures: Figures, length: int) -> Iterator[str]:
    benchmarks = figures["contamination.captions"]["values"]
    if benchmarks:
        names = ", ".join(row["benchmark"] for row in benchmarks)
        yield (
            f"Contamination was looked for in captions of {names} alone, by {length} words in a row; the "
            "pictures of benchmarks were not compared, and paraphrases are not found."
        )
    else:
        yield "Contamination by benchmarks was not looked for: no list of captions was brought."
    yield (
        "No list of slurs is shipped, and no hashes of illegal content: hate is counted by the names of "
        "groups and symbols, and what is illegal not at all, unless the user brings lists."
    )
    yield "Names, faces and homes are not looked for: personal data is what has a form of digits or an @."
    for name, what in (
        ("retrieval.candidates", "what retrieval may show: the version has no neighbors"),
        ("retrieval.shown", "what the packs show: the version has none"),
        ("safety.duplicates", "duplicates: the version has not looked for any"),
    ):
        if name not in figures:
            yield f"Not measured: {what}."
    texts = figures["representation.primary_text"]["values"]
    if any(row["language"] == "not stated" for row in texts):
        yield "The language and the origin of captions are told where a record states them; none is guessed."
