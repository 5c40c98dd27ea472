"""Settings from a TOML file and from ``--set`` lines after it; a fault is told by where it was written.

What is set is kept with the corpus for all to read. The surprising rule: so a credential is refused wherever
it stands, and a setting that is unknown is told without its value, which may be one all the same.
"""

from __future__ import annotations

import json
import shlex
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from infra.redaction import credential_places, masked
from infra.settings import FOLDER, Section, config_file, packaged

CONFIGS = FOLDER
GIVE = f"give --config a TOML file, or one of the package's: {', '.join(packaged())}"
TABLES = ("pipeline", "tokenizer", "retrieval", "trainer")


class BadConfig(ValueError):
    """A setting is unknown, of the wrong type or out of range."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One ``--set``: a line of TOML."""

    text: str
    values: Mapping[str, Any]

    @staticmethod
    def of(text: str) -> Line:
        name = next(iter(text.partition("=")[0].split()), "")
        return Line(text=text, values=parsed(text, f"--set {name}"))

    @property
    def settings(self) -> list[tuple[str, ...]]:
        return list(settings(self.values))

    def concerns(self, place: tuple[str, ...], why: str) -> bool:
        """Whether a rule over several settings, whose fault names some of them, may be broken by this one."""
        return any(one[: len(place)] == place and one[-1] in why for one in self.settings)

    def __str__(self) -> str:
        return f"--set {masked(shlex.quote(self.text))}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What was asked for: all values, and the lines that told some of them."""

    values: Mapping[str, Any]
    where: str
    """Where the others come from."""
    lines: tuple[Line, ...] = ()


def told(values: Mapping[str, Any], where: str, overrides: Sequence[str] = ()) -> Told:
    """Each override is one more line of TOML, such as ``pipeline.filters.min_side = 512``."""
    lines = tuple(Line.of(text) for text in overrides)
    for source, tables in ((where, values), *(("--set", line.values) for line in lines)):
        if unknown := sorted(set(tables) - set(TABLES)):
            raise BadConfig(f"{source}: unknown table {unknown[0]!r}; the tables are {', '.join(TABLES)}")
    for line in lines:
        values = merged(values, line.values)
    return Told(values=values, where=where, lines=lines)


def read(path: Path, overrides: Sequence[str] = ()) -> Told:
    """``path``: as ``--config`` takes it, which may be the name of a packaged configuration."""
    path = config_file(path)
    try:
        values = parsed(path.read_text(), str(path))
    except OSError as error:
        raise BadConfig(f"cannot read {path}: {error.strerror}; {GIVE}") from None
    except UnicodeDecodeError:
        raise BadConfig(f"{path} is not UTF-8 text; {GIVE}") from None
    return told(values, str(path), overrides)


def parsed(text: str, where: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadConfig(f"{where} is not TOML: {error}; write NAME = VALUE, words in quotes") from None


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """``over`` wins; tables merge, everything else is replaced."""
    tables = (key for key in over if isinstance(base.get(key), dict) and isinstance(over[key], dict))
    return {**base, **over, **{key: merged(base[key], over[key]) for key in tables}}


def settings(values: Any, at: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The places of all values that are no table.

    >>> list(settings({"a": {"b": 1, "c": {}}, "d": [2]}))
    [('a', 'b'), ('a', 'c'), ('d',)]
    """
    if not isinstance(values, Mapping) or not values:
        yield at
        return
    for name, inner in values.items():
        yield from settings(inner, (*at, name))


S = TypeVar("S", bound=Section)


def validated(kind: type[S], values: Mapping[str, Any], where: str) -> S:
    """A section of values that no command line told."""
    return _validated(kind, values, Told(values=values, where=where))


def of_tables(kind: type[S], asked: Told) -> S:
    """A section of all the tables that it has fields for; the others belong to other packages."""
    values = {name: asked.values[name] for name in kind.model_fields if name in asked.values}
    return _validated(kind, values, asked)


def of_table(kind: type[S], asked: Told, name: str) -> S:
    return _validated(kind, asked.values[name], asked, (name,))


def _validated(kind: type[S], values: Any, asked: Told, at: tuple[str, ...] = ()) -> S:
    """Every fault is told with its setting."""
    if held := credential_places(values, ".".join(at)):
        fix = "leave it out: they come from AWS_SECRET_ACCESS_KEY and its like, from roles or from files"
        by = "--set" if teller(tuple(held[0].split(".")), asked.lines) else asked.where
        raise BadConfig(f"{by}: {held[0]} holds a credential, and settings are kept with the corpus; {fix}")
    try:
        # JSON mode keeps strict typing and still lets an array become a tuple. TOML's dates become strings,
        # which no setting takes for a number.
        return kind.model_validate_json(json.dumps(values, default=str))
    except ValidationError as error:
        faults = [fault(one, asked, at) for one in error.errors(include_url=False)]
        head = "settings that cannot be:\n  " if len(faults) > 1 else ""
        raise BadConfig(head + "\n  ".join(faults)) from None


def fault(error: ErrorDetails, asked: Told, at: tuple[str, ...]) -> str:
    """One fault in a line: where it was written, what was written, and what is wrong with it."""
    place = (*at, *map(str, error["loc"]))
    why = str(error["ctx"]["error"]) if error["type"] == "value_error" else error["msg"]
    unknown, of_table = error["type"] == "extra_forbidden", isinstance(error["input"], dict)
    name = ".".join(place)
    value = "" if unknown or of_table else f" = {masked(repr(error['input']))}"
    if line := teller(place, asked.lines):
        alone = len(line.settings) == 1 and not unknown
        return f"{line}: {why}" if alone else f"--set {name}{value}: {why}"
    beside = [str(line) for line in asked.lines if line.concerns(place, why)]
    where = f"{asked.where} with {', '.join(beside)}" if beside else asked.where
    return f"{where}: {name}{value}: {why}" if name else f"{where}: {why}"


def teller(place: tuple[str, ...], lines: Sequence[Line]) -> Line | None:
    """The last line that told the setting, or the table around it."""
    told_it = (line for line in reversed(lines) if any(place[: len(one)] == one for one in line.settings))
    return next(told_it, None)
