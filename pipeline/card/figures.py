"""A figure of the card: what was counted, and from which file of which artifact, in words.

The surprising rule: a count from 1 to 9 of people, contributors or terms is never told, nor one that the
others of a whole would give away. It is ``null``, and "withheld" on the page. Nothing is not few: 0 is told.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

LEAST = 10
"""The smallest count that is told of people."""
ABOUT_PEOPLE = ("release", "adult", "minors", "embedded_release", "pii_")
"""How codes begin that tell of the people in a picture or its words: the rows that they took out are people
too. Other codes, such as ``expired`` and ``blurred``, tell of assets, and few are told.
"""
Values = Mapping[str, Any] | Sequence[Mapping[str, Any]]
K = TypeVar("K")


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    name: str
    """Section and what it is, such as ``rights.licenses``."""
    title: str
    step: str
    """Whose artifact was read; empty for what the version itself says."""
    file: str
    """In every shard of it, or beside the version."""
    counted: str
    """In words that let anybody count again."""
    values: Values

    def json(self, artifacts: Mapping[str, str]) -> dict[str, Any]:
        source = {"step": self.step, "artifact": artifacts.get(self.step, ""), "file": self.file}
        values = dict(self.values) if isinstance(self.values, Mapping) else list(self.values)
        return {"title": self.title, "from": {**source, "counted": self.counted}, "values": values}


def told(count: int) -> int | None:
    """The count, unless it is few.

    >>> told(0), told(9), told(10)
    (0, None, 10)
    """
    return None if 0 < count < LEAST else count


def few(count: int, total: int) -> bool:
    """Whether a part is withheld: it, or the rest of a total that is told, is few.

    >>> few(9, 100), few(95, 100), few(0, 100), few(50, 100)
    (True, True, False, False)
    """
    return told(count) is None or told(total - count) is None


def of_whole(counts: Mapping[K, int], people: Collection[K] | None = None) -> dict[K, int | None]:
    """The parts of a whole whose sum is known: where one alone is few, the next smallest is withheld too.

    ``people``: the parts that count people, where others do not.

    >>> of_whole({"yes": 3, "no": 500, "unknown": 40})
    {'yes': None, 'no': 500, 'unknown': None}
    >>> of_whole({"yes": 3, "no": 4, "unknown": 0})
    {'yes': None, 'no': None, 'unknown': 0}
    >>> of_whole({"minors": 3, "expired": 2, "blank": 40}, people=["minors"])
    {'minors': None, 'expired': None, 'blank': 40}
    >>> of_whole({"minors": 12, "expired": 2}, people=["minors"])
    {'minors': 12, 'expired': 2}
    """
    counted = counts if people is None else people
    hidden = with_next({name for name in counted if told(counts[name]) is None}, counts)
    return {name: None if name in hidden else count for name, count in counts.items()}


def with_next(hidden: set[K], counts: Mapping[K, int]) -> set[K]:
    """What is withheld: of one part alone, which would follow from the others, the next smallest too."""
    others = [name for name, count in counts.items() if count and name not in hidden]
    if len(hidden) != 1 or not others:
        return hidden
    return hidden | {min(others, key=lambda name: counts[name])}


def of_reasons(counts: Mapping[str, int]) -> dict[str, int | None]:
    """Rows that were taken out, by code; those that tell of people are withheld where they are few.

    >>> of_reasons({"pii_email": 3, "pii_phone": 12, "blank": 4, "blurred": 5})
    {'pii_email': None, 'pii_phone': 12, 'blank': None, 'blurred': 5}
    """
    return of_whole(counts, [code for code in counts if code.startswith(ABOUT_PEOPLE)])


def share(count: int | None, total: int) -> float | None:
    """Of the total; unknown of what is not told, and of nothing."""
    return None if count is None or not total else count / total


def table(counts: Mapping[str, int | None], total: int, name: str) -> list[dict[str, Any]]:
    """A row for each value, the most frequent first; those that are few stand last."""
    ordered = sorted(counts.items(), key=lambda one: (-(one[1] if one[1] is not None else 0.5), one[0]))
    return [{name: value, "assets": count, "share": share(count, total)} for value, count in ordered]


def most(rows: Iterable[dict[str, Any]], limit: int, name: str) -> list[dict[str, Any]]:
    """The first rows, and one that says how many more there are."""
    listed = list(rows)
    rest = len(listed) - limit
    if rest <= 0:
        return listed
    return [*listed[:limit], {**dict.fromkeys(listed[0]), name: f"({rest} more)"}]
