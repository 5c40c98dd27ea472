"""Term lists: versioned files of words with their source and language, which a user replaces by others.

A file is TOML: ``name``, ``version``, ``language``, ``source``, and under ``[terms.CATEGORY]`` a line for
each group, ``"women" = "woman women"``. ``_`` joins words that follow one another; ``_*`` is any word of
``people``.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field

from infra.settings import Section
from pipeline import reading

OWN = Path(__file__).parent / "terms"
KINDS = ("identity", "occupations", "adjectives", "activities", "safety")
"""What a card counts; each has a list of ours."""
ATTRIBUTES = ("occupations", "adjectives", "activities")
"""Whose association with the groups of ``identity`` is measured."""
ONE_WORD = re.compile(r"[^\W_]+")
Phrase = tuple[str, ...]


class _File(Section):
    name: Annotated[str, Field(min_length=1)]
    version: Annotated[int, Field(ge=1)]
    language: Annotated[str, Field(min_length=2)]
    source: Annotated[str, Field(min_length=1)]
    people: str = ""
    terms: Annotated[dict[str, dict[str, str]], Field(min_length=1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """What a match is counted under."""

    kind: str
    category: str
    """An axis of identity, or a theme."""
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TermList:
    kind: str
    name: str
    version: int
    language: str
    source: str
    phrases: Mapping[Label, tuple[Phrase, ...]]

    def facts(self) -> dict[str, object]:
        """What the card says of the list; the words themselves are in the file."""
        told = {"kind": self.kind, "name": self.name, "version": self.version, "language": self.language}
        return {**told, "source": self.source, "terms": sum(map(len, self.phrases.values()))}


def read(kind: str, path: Path) -> TermList:
    """Raises BadConfig for a file that is none, ValueError for a term that is no words."""
    try:
        values = reading.parsed(path.read_text(), str(path))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise reading.BadConfig(f"cannot read the terms of {path}: {error}; give a TOML file") from None
    file = reading.validated(_File, values, str(path))
    people = tuple(file.people.lower().split())
    phrases = {
        Label(kind=kind, category=category, name=name): tuple(
            phrase for term in words.lower().split() for phrase in expanded(term, people, path)
        )
        for category, groups in file.terms.items()
        for name, words in groups.items()
    }
    return TermList(
        kind=kind,
        name=file.name,
        version=file.version,
        language=file.language,
        source=" ".join(file.source.split()),
        phrases=phrases,
    )


def expanded(term: str, people: Sequence[str], where: Path) -> Iterator[Phrase]:
    """A term as the words that follow one another.

    >>> list(expanded("old_*", ["man", "woman"], Path("terms.toml")))
    [('old', 'man'), ('old', 'woman')]
    """
    *first, last = term.split("_")
    ends = people if last == "*" else (last,)
    if last == "*" and not people:
        raise ValueError(f"{where}: {term!r} stands for any word of people, and there is no `people`; add it")
    for end in ends:
        phrase = (*first, end)
        if not all(ONE_WORD.fullmatch(word) for word in phrase):
            raise ValueError(
                f"{where}: {term!r} is never found, for whatever is no letter or digit parts words; join "
                "words that follow one another with _"
            )
        yield phrase


def loaded(files: Mapping[str, Path]) -> tuple[TermList, ...]:
    """The user's file of each kind, or ours."""
    return tuple(read(kind, files.get(kind, OWN / f"{kind}.toml")) for kind in KINDS)


def files(named: Mapping[str, str]) -> dict[str, Path]:
    """Files by kind; ValueError for a kind that no list has."""
    for kind in named:
        if kind not in KINDS:
            raise ValueError(f"there are no terms of {kind!r}; the lists are {', '.join(KINDS)}")
    return {kind: Path(file) for kind, file in named.items()}
