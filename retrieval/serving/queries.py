"""What a search asks: the body of a request, read and bounded, or refused by the field that is wrong.

The surprising rule: nothing is passed over. A field that nobody knows, a list without a value and the weight
of what is not asked are each refused, since whoever wrote it meant something by it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infra.countries import COUNTRIES
from infra.serving import bodies
from infra.serving.refusal import Refusal
from retrieval.serving.catalogue import COLUMNS, LICENSE, Where

MAX_TEXT = 2000
"""Characters."""
MAX_IMAGE = 16 << 20
"""Bytes of a file, without base64."""
MAX_BODY = MAX_IMAGE * 4 // 3 + (1 << 20)
MAX_WEIGHT = 10
MAX_K, DEFAULT_K = 200, 60
MAX_LISTED = 100
"""Values of one filter."""
MAX_VALUE = 256
"""Characters of one."""
MAX_VALUES = 2000
"""Of a body, beside those of a vector."""
FACETS = (LICENSE, *COLUMNS)
RIGHTS = ("uses", "territory")
DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


@dataclass(frozen=True, slots=True)
class Words:
    text: str


@dataclass(frozen=True, slots=True)
class Picture:
    file: bytes


@dataclass(frozen=True, slots=True, eq=False)
class Given:
    vector_D: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Named:
    """What is like an asset."""

    uid: str


Part = Words | Picture | Given | Named


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    parts: tuple[Part, ...]
    weights: tuple[float, ...]
    """Of each part."""
    k: int
    where: Where
    uses: frozenset[str]
    """Beside the token's."""
    territory: frozenset[str] | None
    """In place of the token's; None leaves it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What depends on the corpus."""

    width: int
    """D of its vectors."""
    uses: frozenset[str]
    """All that there are."""


def parsed(body: bytes, bounds: Bounds) -> Query:
    """Raises :class:`Refusal`."""
    given = object_of(bodies.document(body, most_values=MAX_VALUES + bounds.width), BODY, "the body")
    where = object_of(given.get("where", {}), (*FACETS, "since", "until", *RIGHTS), "where")
    asked = [name for name in PARTS if name in given]
    weights = object_of(given.get("weights", {}), asked, "weights")
    if not asked:
        told = ", ".join(given) or "nothing"
        raise Refusal(422, "nothing is asked", value=told, fix=f"give one or more of {', '.join(PARTS)}")
    weighed = tuple(weight(weights.get(name, 1), f"weights.{name}") for name in asked)
    if not any(weighed):
        raise Refusal(
            422, "every weight is 0", value=", ".join(asked), fix="leave out what counts for nothing"
        )
    uses, territory = asked_for(where, bounds)
    return Query(
        parts=tuple(PARTS[name](given[name], bounds) for name in asked),
        weights=weighed,
        k=number_of(given.get("k", DEFAULT_K)),
        where=filters(where),
        uses=uses,
        territory=territory,
    )


def rights(given: Iterable[tuple[str, str]], bounds: Bounds) -> tuple[frozenset[str], frozenset[str] | None]:
    """Uses and places of an address, ``?uses=commercial&territory=DE&territory=FR``; see :class:`Query`."""
    where: dict[str, list[str]] = {}
    for name, value in given:
        where.setdefault(name, []).append(value)
    object_of(where, RIGHTS, "the address")
    return asked_for(where, bounds)


def asked_for(where: Mapping[str, Any], bounds: Bounds) -> tuple[frozenset[str], frozenset[str] | None]:
    uses = known(listed(where, "uses"), bounds.uses)
    return uses, places(listed(where, "territory")) if "territory" in where else None


def object_of(given: Any, names: Any, where: str) -> Mapping[str, Any]:
    """An object with none but the named fields."""
    if not isinstance(given, dict):
        raise Refusal(422, f"{where} is no object", value=type(given).__name__, fix="see /openapi.json")
    if unknown := [name for name in given if name not in names]:
        fix = f"{where} may have {', '.join(names)}"
        raise Refusal(422, f"{where} has a field that nobody knows", value=unknown[0], fix=fix)
    return given


def words(given: Any, _bounds: Bounds) -> Words:
    if not isinstance(given, str) or not given.strip():
        raise Refusal(422, "text is no text", value=given, fix="give words, or leave it out")
    if len(given) > MAX_TEXT:
        told = f"{len(given)} characters"
        raise Refusal(413, "the text is too long", value=told, fix=f"give at most {MAX_TEXT}")
    return Words(given)


def picture(given: Any, _bounds: Bounds) -> Picture:
    file = bodies.from_base64(given, "image")
    if len(file) > MAX_IMAGE:
        fix = f"send at most {MAX_IMAGE}; make it smaller: 1,000 pixels a side are plenty"
        raise Refusal(413, "the image is too large", value=f"{len(file)} bytes", fix=fix)
    return Picture(file)


def vector(given: Any, bounds: Bounds) -> Given:
    right = isinstance(given, list) and all(type(one) in (int, float) for one in given)
    if not right or len(given) != bounds.width:
        told = f"{len(given)} of it" if isinstance(given, list) else type(given).__name__
        raise Refusal(422, "no vector of this index", value=told, fix=f"give {bounds.width} numbers")
    with np.errstate(over="ignore"):
        vector_D = np.asarray(given, np.float64).astype(np.float32)
    length = np.linalg.norm(vector_D.astype(np.float64))
    if not 0 < length < np.inf:
        fix = "give numbers that float32 holds, not all of them 0"
        raise Refusal(422, "the vector has no direction", value=f"length {length:g}", fix=fix)
    return Given(vector_D)


def named(given: Any, _bounds: Bounds) -> Named:
    if not isinstance(given, str) or not 0 < len(given) <= MAX_VALUE:
        raise Refusal(422, "uid is none", value=given, fix="write it as PROVIDER:ASSET_ID")
    return Named(given)


PARTS: Mapping[str, Callable[[Any, Bounds], Part]] = {
    "text": words,
    "image": picture,
    "vector": vector,
    "uid": named,
}
BODY = (*PARTS, "weights", "k", "where")


def weight(given: Any, name: str) -> float:
    if type(given) not in (int, float) or not -MAX_WEIGHT <= given <= MAX_WEIGHT:
        fix = f"give a number from -{MAX_WEIGHT} to {MAX_WEIGHT}"
        raise Refusal(422, f"{name} is no weight", value=given, fix=fix)
    return float(given)


def number_of(given: Any) -> int:
    if type(given) is not int or not 1 <= given <= MAX_K:
        raise Refusal(422, "k is no number of answers", value=given, fix=f"give 1 to {MAX_K}")
    return given


def filters(where: Mapping[str, Any]) -> Where:
    return Where(
        facets=tuple((name, listed(where, name)) for name in FACETS if name in where),
        since=day(where["since"], "since") if "since" in where else None,
        until=day(where["until"], "until") if "until" in where else None,
    )


def listed(where: Mapping[str, Any], name: str) -> frozenset[str]:
    if name not in where:
        return frozenset()
    given = where[name]
    if not isinstance(given, list) or not 1 <= len(given) <= MAX_LISTED:
        told = f"{len(given)} values" if isinstance(given, list) else type(given).__name__
        fix = f"list 1 to {MAX_LISTED} values, or leave it out"
        raise Refusal(422, f"where.{name} is no list of values", value=told, fix=fix)
    for value in given:
        if not isinstance(value, str) or not 0 < len(value) <= MAX_VALUE:
            fix = f"give texts of 1 to {MAX_VALUE} characters"
            raise Refusal(422, f"where.{name} has a value that is none", value=value, fix=fix)
    return frozenset(given)


def day(given: Any, name: str) -> date:
    try:
        if DAY.fullmatch(given):
            return date.fromisoformat(given)
    except (TypeError, ValueError):
        pass
    raise Refusal(422, f"where.{name} is no day", value=given, fix="write it as 2026-01-31")


def known(uses: frozenset[str], all_uses: frozenset[str]) -> frozenset[str]:
    if foreign := sorted(uses - all_uses):
        fix = f"uses are {', '.join(sorted(all_uses))}"
        raise Refusal(422, "where.uses has a use that nobody knows", value=foreign[0], fix=fix)
    return uses


def places(given: frozenset[str]) -> frozenset[str]:
    if wrong := sorted(given - COUNTRIES):
        raise Refusal(
            422, "where.territory has no country", value=wrong[0], fix="write ISO 3166-1 codes: DE, FR"
        )
    return given
