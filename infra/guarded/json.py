"""Read JSON that we did not write, within budgets, and take only what has one meaning.

The standard reader lets the last of two equal keys win (a second ``license_ids`` would override the first),
takes ``NaN``, turns ``1e999`` into infinity and passes lone surrogates on. Here each of them is refused.
Every string comes back in Unicode normal form C, so that equal texts are equal strings; keys are compared
after that.
"""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

from infra.guarded import nfc
from infra.guarded.refused import Refused

_SURROGATE = re.compile("[\ud800-\udfff]")
MAX_DIGITS = 19
"""Of an integer: what fits 64 bits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Budgets of one document. The defaults are the contract's for an asset record."""

    max_bytes: int = 64 * 1024
    max_depth: int = 16
    max_values: int = 400_000
    """Counted before parsing, by commas, brackets and braces: each may become an object of 232 bytes."""
    max_string: int = 64 * 1024
    """Characters; one that is no letter of ours makes every other in the string take four bytes."""


ASSET = Limits()
MANIFEST = Limits(max_bytes=12 * 1024 * 1024)
"""For ``delivery.json``. A listed file takes 150 bytes and 5 values: 80,000 of them fit, which with their
records take 100 MiB. Twice as many, in a process that has 850 MiB before, would take it over 1 GiB."""


def loads(raw: bytes, *, file: str, member: str = "", limits: Limits = ASSET) -> Any:
    """One JSON document as dicts, lists, NFC strings, ints, finite floats, booleans and None.

    Raises :class:`Refused` with rule ``size``, ``values``, ``utf8``, ``surrogate``, ``string``, ``syntax``,
    ``depth``, ``duplicate_key`` or ``number``.
    """
    reader = _Reader(file, member, limits)
    try:
        return reader.read(raw)
    except RecursionError:
        # The parser's own guard against deep nesting; it trips long before memory is short.
        reader.refuse("depth", f"it nests more than {limits.max_depth} levels; flatten it")


def lines(raw: bytes, *, file: str, limits: Limits = ASSET) -> Iterator[tuple[str, Any]]:
    """JSON Lines as (place, document); blank lines are skipped, and the limits hold for each line."""
    # One line in memory at a time: a file of line feeds alone would be a list of as many strings.
    for number, line in enumerate(io.BytesIO(raw), start=1):
        if line.strip():
            place = f"line {number}"
            yield place, _Reader(file, place, limits, fix="; write one record on one line").read(line)


@dataclass(frozen=True, slots=True)
class _Reader:
    file: str
    member: str
    limits: Limits
    fix: str = ""
    """Of what is no JSON."""

    def refuse(self, rule: str, detail: str) -> NoReturn:
        raise Refused(self.file, self.member, rule, detail)

    def read(self, raw: bytes) -> Any:
        if len(raw) > self.limits.max_bytes:
            # Whoever read it may have stopped behind the limit.
            self.refuse("size", f"{len(raw)} bytes or more, at most {self.limits.max_bytes} are read")
        if (num := sum(map(raw.count, (b",", b"[", b"{")))) > self.limits.max_values:
            told = f"{num} commas, brackets and braces, at most {self.limits.max_values} are read"
            self.refuse("values", f"{told}; split the file")
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError as error:
            self.refuse("utf8", f"byte {error.start} is not UTF-8; write the file as UTF-8")
        return self._normal(self._parse(text), self.limits.max_depth)

    def _parse(self, text: str) -> Any:
        try:
            return json.loads(
                text,
                object_pairs_hook=self._object,
                parse_constant=self._constant,
                parse_float=self._float,
                parse_int=self._int,
            )
        except json.JSONDecodeError as error:
            self.refuse("syntax", f"line {error.lineno} column {error.colno}: {error.msg}{self.fix}")

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for raw_key, value in pairs:
            key = self._text(raw_key)
            if key in found:
                self.refuse("duplicate_key", f"{key[:80]!r} is given twice; keep one")
            found[key] = value
        return found

    def _constant(self, name: str) -> NoReturn:
        self.refuse("number", f"{name} is not JSON; leave the field out")

    def _float(self, digits: str) -> float:
        value = float(digits)
        if not math.isfinite(value):
            self.refuse("number", f"{digits[:40]} is too large for a double")
        return value

    def _int(self, digits: str) -> int:
        if len(digits.lstrip("-")) > MAX_DIGITS:
            self.refuse("number", f"an integer of more than {MAX_DIGITS} digits; write it as a string")
        return int(digits)

    def _text(self, text: str) -> str:
        if len(text) > self.limits.max_string:
            self.refuse("string", f"a string has {len(text)} characters, at most {self.limits.max_string}")
        if text.isascii():  # whole, and in form C: of 16 MiB as base64 the two steps below took 0.7 s
            return text
        if _SURROGATE.search(text):
            self.refuse("surrogate", "a string holds half of a surrogate pair; write the whole character")
        return nfc.normal(text)

    def _normal(self, value: Any, levels: int) -> Any:
        """The document, itself, with every string in NFC; ``levels`` are the nestings still allowed."""
        if isinstance(value, str):
            return self._text(value)
        if not isinstance(value, list | dict):
            return value
        if levels == 0:
            self.refuse("depth", f"it nests more than {self.limits.max_depth} levels; flatten it")
        # In place, since nobody else has it yet: a copy of a page took as much again.
        for place, inner in enumerate(value) if isinstance(value, list) else value.items():
            value[place] = self._normal(inner, levels - 1)
        return value
