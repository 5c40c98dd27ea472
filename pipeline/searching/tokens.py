"""Who asks, and for what: tokens, each with the uses and the places that it is for.

A line is a token and, after it, words: ``uses=retrieval_display,commercial territory=DE,FR``. The surprising
rule: no message repeats a word of it. What stands in the wrong place may be half of a token.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import get_args

from infra.countries import COUNTRIES
from infra.serving.callers import Anyone, Caller, Callers, Tokens, digest
from infra.serving.options import TokenLines
from pipeline.contract import Use
from pipeline.grants import Purpose
from retrieval.serving.admission import Grant, Territory

SHOWN = "retrieval_display"
USES: frozenset[str] = frozenset(get_args(Use))
FIX = "write TOKEN uses=retrieval_display,commercial territory=DE,FR, with one space between words"


@dataclass(frozen=True, slots=True, kw_only=True)
class Guests:
    callers: Callers
    """Whom to let in."""
    grants: Callable[[Caller], Grant]
    """What each may ask for."""
    own: frozenset[Grant]
    """All of these."""


def read(given: TokenLines | None, purpose: Purpose) -> Guests:
    """What a token does not say is as the corpus has it."""
    default = Grant(uses=frozenset({SHOWN}), territory=territory_of(purpose))
    if given is None:
        return Guests(callers=Anyone(), grants=lambda _caller: default, own=frozenset({default}))
    lines = [line.split() for line in given.lines.splitlines() if line.strip()]
    callers = Tokens.of("\n".join(words[0] for words in lines), source=given.source)
    grants: dict[Caller, Grant] = {}
    for number, (token, *words) in enumerate(lines, start=1):
        where = f"{given.source}, line {number}"
        if digest(token) in grants:
            raise ValueError(f"{where}: that token stands above too; keep one of the lines")
        grants[digest(token)] = grant(words, default, where)
    return Guests(callers=callers, grants=grants.__getitem__, own=frozenset(grants.values()))


def grant(words: list[str], default: Grant, where: str) -> Grant:
    told: Mapping[str, str] = dict(word.partition("=")[::2] for word in words)
    if len(told) < len(words) or not told.keys() <= {"uses", "territory"}:
        raise ValueError(
            f"{where}: a word after the token is neither uses=… nor territory=…, or twice; {FIX}"
        )
    uses = frozenset(told["uses"].split(",")) if "uses" in told else default.uses
    if not uses <= USES:
        raise ValueError(f"{where}: uses= names none of {', '.join(sorted(USES))}; {FIX}")
    return Grant(uses=uses | {SHOWN}, territory=territory(told, default, where))


def territory(told: Mapping[str, str], default: Grant, where: str) -> Territory:
    if "territory" not in told:
        return default.territory
    if told["territory"] == "worldwide":
        return "worldwide"
    codes = told["territory"].split(",")
    if not COUNTRIES.issuperset(codes):
        raise ValueError(f"{where}: territory= is neither worldwide nor ISO 3166-1 codes; {FIX}")
    return frozenset(codes)


def territory_of(purpose: Purpose) -> Territory:
    places = purpose.territory
    return "worldwide" if places == "worldwide" else frozenset(places)
