"""What a text says once its escapes are taken out: of JSON, HTML and addresses, and base64 inside of them.

The surprising rule: nothing is parsed to find words. Escapes are undone wherever they stand, so a caption
inside of JSON inside of an attribute of a page that was cut in the middle is found as well. JSON is parsed
only to tell which field says what.
"""

from __future__ import annotations

import base64
import binascii
import html
import json
import re
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

LONGEST = 1 << 28
"""Bytes of a text that is unescaped as a whole."""
ESCAPED = re.compile(rb'\\(u[0-9a-fA-F]{4}|x[0-9a-fA-F]{2}|["\\/nrt])')
PERCENT = re.compile(rb"%[0-9a-fA-F]{2}")
ENTITY = re.compile(rb"&(#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z]{2,31});")
TAG = re.compile(rb"<[^<>]{0,4096}>")
SPACES = re.compile(rb"[\s\xa0]+")
BASE64 = re.compile(rb"[A-Za-z0-9+/_-]{24,}={0,2}")
HEX = re.compile(rb"[0-9a-fA-F]+")
LIST = re.compile(rb"(?<![\d.eE+-])-?\d[\d.eE+-]*(?:[\s,;]{1,16}-?\d[\d.eE+-]*){7,}")
NUMBER = re.compile(rb"-?\d[\d.eE+-]*")
CONTROLS = set(range(32)) - {7, 8, 9, 10, 11, 12, 13, 27}
SAMPLE = 1 << 16


def is_text(data: memoryview) -> bool:
    """Whether the beginning holds no control characters but those of texts."""
    return CONTROLS.isdisjoint(bytes(data[:SAMPLE]))


def wide_text(data: memoryview) -> bytes | None:
    """UTF-16 or UTF-32 as UTF-8; None if it is neither."""
    head = bytes(data[:4])
    for mark, name in ((b"\xff\xfe\0\0", "utf-32"), (b"\0\0\xfe\xff", "utf-32"), (b"\xff\xfe", "utf-16")):
        if head.startswith(mark):
            return bytes(data[:LONGEST]).decode(name, "replace").encode()
    if head.startswith(b"\xfe\xff"):
        return bytes(data[:LONGEST]).decode("utf-16", "replace").encode()
    return None


def unescaped(data: bytes) -> Iterator[tuple[str, bytes]]:
    """(how, what it says): one kind of escape after the other is undone, for each that the text holds."""
    plain = data
    for how, mark, undo in (
        ("unescaped", b"\\", lambda text: ESCAPED.sub(_character, text)),
        ("percent-decoded", b"%", _unquoted),
        ("without entities", b"&", _without_entities),
        ("without tags", b"<", lambda text: TAG.sub(b"", text)),
    ):
        if mark in plain:
            after = undo(plain)
            if after != plain:
                plain = after
                yield how, plain
    if b"\n" in plain or b"  " in plain:
        yield "on one line", SPACES.sub(b" ", plain)


def _character(match: re.Match[bytes]) -> bytes:
    told = match[1]
    if told[:1] in b"ux":
        return chr(int(told[1:], 16)).encode("utf-8", "surrogatepass")
    return {b"n": b"\n", b"r": b"\r", b"t": b"\t"}.get(told, told)


def _unquoted(text: bytes) -> bytes:
    found = urllib.parse.unquote_to_bytes(text) if PERCENT.search(text) else text
    return found.replace(b"+", b" ") if found is not text else text


def _without_entities(text: bytes) -> bytes:
    return ENTITY.sub(lambda match: html.unescape(match[0].decode()).encode("utf-8", "replace"), text)


def surfaces(data: bytes) -> Iterator[tuple[str, bytes]]:
    """(how, what it says) without escapes, and what may be base64 in it."""
    yield from unescaped(data)
    yield from ((f"base64 at {offset}", inner) for offset, inner in encoded(data))


def is_packed(value: bytes) -> bool:
    """Whether a value may hold base64 or a list of numbers."""
    if HEX.fullmatch(value):
        return False
    return any(not HEX.fullmatch(match[0]) for match in BASE64.finditer(value)) or bool(LIST.search(value))


def encoded(data: Any) -> Iterator[tuple[int, bytes]]:
    """(offset, bytes) of what may be base64."""
    for match in BASE64.finditer(data):
        text = match[0]
        if HEX.fullmatch(text):
            continue
        text = text.rstrip(b"=").replace(b"-", b"+").replace(b"_", b"/")
        try:
            yield (
                match.start(),
                base64.b64decode(text[: len(text) // 4 * 4 + len(text) % 4] + b"=" * (-len(text) % 4)),
            )
        except binascii.Error:
            yield match.start(), base64.b64decode(text[: len(text) // 4 * 4])


@dataclass(frozen=True, slots=True)
class Listed:
    offset: int
    values_N: NDArray[Any]


def listed(data: Any) -> Iterator[Listed]:
    """Eight numbers or more, one after the other."""
    for match in LIST.finditer(data):
        told = NUMBER.findall(match[0])
        try:
            values: NDArray[Any] = np.array([int(one) for one in told], np.int64)
        except (ValueError, OverflowError):
            try:
                values = np.array([float(one) for one in told], np.float64)
            except ValueError:
                continue
        yield Listed(match.start(), values)


def documents(data: bytes) -> Iterator[tuple[str, Any]]:
    """(place, value) of JSON, or of the lines of JSONL that are."""
    start = data[:64].lstrip()[:1]
    if start not in (b"{", b"["):
        return
    try:
        yield "", json.loads(data)
    except (ValueError, RecursionError):
        for number, line in enumerate(data.split(b"\n"), start=1):
            if line.lstrip()[:1] in (b"{", b"["):
                try:
                    yield f"line {number}", json.loads(line)
                except (ValueError, RecursionError):
                    continue


def strings(value: Any) -> Iterator[tuple[str, str]]:
    """(path of keys, string) of all strings of a document."""
    waiting: list[tuple[str, Any]] = [("", value)]
    while waiting:
        path, one = waiting.pop()
        if isinstance(one, str):
            yield path, one
        elif isinstance(one, dict):
            waiting += [(f"{path}.{key}" if path else str(key), inner) for key, inner in one.items()]
        elif isinstance(one, list):
            waiting += [(path, inner) for inner in one]


def records(value: Any) -> Iterator[dict[str, Any]]:
    """Every object in a document."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            yield one
            waiting += one.values()
        elif isinstance(one, list):
            waiting += one
