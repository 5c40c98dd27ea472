"""Words for people, by which the curation report asks whether a filter removes some more than others.

The question is that of Dodge et al. (EMNLP 2021, arXiv 2104.08758) for a blocklist and of Hong et al. (2024,
arXiv 2405.08209) for CLIP filters; the axes are among those of HolisticBias (Smith et al., EMNLP 2022, arXiv
2205.09209). The words are our own short selection.

What they cannot do: they are English; they find what captions and keywords say, not who is pictured; a
majority often goes unnamed; a word for a nation counts its food and its dogs; and "girl" is said of children
and of grown women. A difference is a reason to look at pictures, no verdict.

The surprising rule: words that are mostly colours or plain adjectives count only directly before a word for
people. A black dress is nobody's skin.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping

BETWEEN = "\0"
"""Stands between two texts; no term has it."""
WORD = re.compile(rf"[^\W_]+|{BETWEEN}")
"""Whatever is no letter or digit parts words, so "African-American" and "woman's" are found too."""

_PEOPLE = (
    "person people human adult adults woman women man men lady ladies gentleman gentlemen girl girls boy "
    "boys child children kid kids baby babies toddler teenager teenagers teen teens student students "
    "couple couples family families mother mothers father fathers grandmother grandfather worker workers "
    "businesswoman businessman female male females males guy guys"
)
PEOPLE = frozenset(_PEOPLE.split())
TERMS: Mapping[str, Mapping[str, str]] = {
    "gender": {
        "women": (
            "woman women female females lady ladies girl girls mother mothers businesswoman wife daughter "
            "grandmother sister bride"
        ),
        "men": (
            "man men male males gentleman gentlemen boy boys father fathers businessman husband son "
            "grandfather brother groom guy guys"
        ),
        "transgender and non-binary": (
            "transgender nonbinary genderqueer genderfluid non_binary trans_woman trans_man trans_person "
            "trans_people"
        ),
    },
    "age": {
        "babies and children": (
            "baby babies infant infants toddler toddlers child children kid kids girl girls boy boys"
        ),
        "teenagers": "teen teens teenage teenager teenagers adolescent adolescents",
        "older people": (
            "elderly senior seniors retiree retirees pensioner pensioners grandmother grandfather "
            "grandparent grandparents old_* older_*"
        ),
    },
    "ethnicity and nationality": {
        "African and Black": "african africans nigerian kenyan ethiopian ghanaian african_american black_*",
        "East and Southeast Asian": (
            "chinese japanese korean vietnamese thai filipino filipina indonesian asian_* east_asian "
            "southeast_asian"
        ),
        "European and white": (
            "european europeans caucasian caucasians british german french italian spanish polish_* white_*"
        ),
        "Indigenous": "indigenous aboriginal inuit maori first_nations native_american native_*",
        "Latin American": (
            "latino latina latinx latinos latinas hispanic hispanics mexican brazilian colombian "
            "argentinian peruvian latin_american"
        ),
        "Middle Eastern and North African": (
            "arab arabs arabic arabian persian iranian iraqi syrian egyptian moroccan turkish "
            "middle_eastern north_african"
        ),
        "South Asian": "indian indians pakistani bangladeshi nepali south_asian sri_lankan",
    },
    "disability": {
        "named disability": (
            "disabled disability disabilities wheelchair wheelchairs amputee amputees deaf autistic "
            "autism paralympic paraplegic blind_* down_syndrome sign_language prosthetic_leg "
            "prosthetic_arm"
        ),
    },
    "religion": {
        "Buddhist": "buddhist buddhists buddhism",
        "Christian": (
            "christian christians christianity catholic catholics protestant nun nuns priest priests"
        ),
        "Hindu": "hindu hindus hinduism",
        "Jewish": "jewish jew jews judaism rabbi rabbis",
        "Muslim": "muslim muslims islam islamic hijab niqab imam imams",
        "Sikh": "sikh sikhs sikhism",
    },
    "orientation": {
        "lesbian, gay, bisexual, queer": (
            "lesbian lesbians gay gays bisexual homosexual queer lgbt lgbtq lgbtqia same_sex"
        ),
        "heterosexual": "heterosexual heterosexuals straight_couple straight_couples",
    },
}
"""Axis to group to words. ``_`` joins two words that follow each other; ``_*`` is any word of PEOPLE."""


Place = tuple[str, str]
"""Axis and group."""


def _places() -> dict[str, dict[str, frozenset[Place]]]:
    found: dict[str, dict[str, frozenset[Place]]] = {}
    for axis, groups in TERMS.items():
        for term, group in ((term, group) for group, words in groups.items() for term in words.split()):
            first, _, second = term.partition("_")
            follows = found.setdefault(first, {})
            for word in PEOPLE if second == "*" else (second,):
                follows[word] = follows.get(word, frozenset()) | {(axis, group)}
    return found


PLACES = _places()
"""First word to second word, empty for a term of one, to where the term belongs."""
_NOWHERE: frozenset[Place] = frozenset()


def named(texts: Iterable[str]) -> set[Place]:
    """Of every term in the texts, as whole words without regard to case; no term spans two texts.

    >>> sorted(named(["A Black woman in a white dress"]))
    [('ethnicity and nationality', 'African and Black'), ('gender', 'women')]
    """
    words = WORD.findall(BETWEEN.join(texts).casefold())
    found: set[Place] = set()
    for word, following in itertools.zip_longest(words, words[1:], fillvalue=BETWEEN):
        if follows := PLACES.get(word):
            found |= follows.get("", _NOWHERE) | follows.get(following, _NOWHERE)
    return found
