"""Mask the credentials in text that leaves the process: lines, logs, answers, traces, faults.

By their form (:func:`masked`): what stands before the ``@`` of an address, all of its query, what follows the
name of a secret and a ``=``, bearer tokens, private keys in PEM, AWS key ids. By their value too
(:func:`masked_here`): what the variables of this process hold whose names are those of secrets.

Of somebody else's words the corpus keeps what is :func:`disclosed`, and of an address :func:`bare_uri`.

The surprising rule: of an address the whole query goes, not only what is known to sign. Every service that
signs addresses has its own words for it, and a list of them is out of date when it is written. An address
need not be spelled plainly either: PHP's JSON escapes slashes, and a link in a link is percent-encoded.
"""

from __future__ import annotations

import functools
import itertools
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import quote

MASK = "***"
SHORTEST = 8
"""Characters of a variable's value that is masked. A shorter one ("true") is a word of honest texts."""

_KEY = r"(?:api|access|account|private|secret|signing)[_-]?key"
_WORDS = rf"secret|token|passw(?:or)?d|passphrase|credentials?|{_KEY}"
_NAMES = rf"{_WORDS}|authorization|cookie|pwd"
"""``PWD`` is every shell's working folder: a name of secrets in texts, and not among variables."""
_NAME = re.compile(rf"(?:{_NAMES})$", re.IGNORECASE)
_VARIABLE = re.compile(rf"{_WORDS}|_(?:key|auth|pwd)$", re.IGNORECASE)
_HARMLESS = re.compile(r"tokeniz|_(?:path|file|dir|mode|ur[il])$", re.IGNORECASE)
"""``TOKENIZERS_PARALLELISM``, ``RAY_AUTH_TOKEN_PATH``: named after secrets, and no secrets themselves."""

_IN = r"[^\s\"'<>`"
"""Begins the characters that an address may have in a text."""
_SLASH = r"(?:\\*+/)"
"""Escaped as often as texts of JSON were put into texts of JSON."""
_HEX = "%(?:25)*"
"""Begins a percent-encoded character, encoded as often as addresses were put into addresses."""
_EQUALS = rf"(?i:=|{_HEX}3D|\\+u003d)"


def _up_to(first: str, rest: str, *, but: str = "") -> str:
    """Characters of an address, none of ``but``, as far as ``first`` is not followed by ``rest``."""
    some = rf"{_IN}{first}{but}]*+"
    return rf"{some}(?:{first}(?!{rest}){some})*"


_ADDRESS = re.compile(rf"(:{_SLASH}{{1,2}})(?!:{_SLASH})((?={_IN}]){_up_to(':', _SLASH)})")
"""One slash is what ``pathlib`` leaves of two. The next address begins anew, though no space parts them.

Until 3.11.5 Python matched a group that gives nothing back (``++``) wrongly: only single characters are so
here, and what a group repeats is tried at the few characters that may end it."""
_ONE_ADDRESS = re.compile(rf"(:{_SLASH}{{1,2}})(.*)", re.DOTALL)
_START = rf"(?::|{_HEX}3A)(?:{_SLASH}|{_HEX}2F)"
_USER = _up_to("%", "(?:25)*(?:2F|3A|3F|23|40)", but="@/?#")
_ENCODED = re.compile(
    rf"({_START}(?:{_SLASH}|{_HEX}2F)?)"
    rf"(?:{_USER}{_HEX}3A(?!\d*+(?:\W|$))(?:(?!{_START}){_IN}])*|(?:{_USER}{_HEX}3A)?{_USER}){_HEX}40",
    re.IGNORECASE,
)
"""An address up to its ``%40``, where that stands before its path or after a password."""
_CUT = re.compile(r"[^\[:]+:(?!\d*(?:\W|$))")
"""Begins a name and a password, even where a message was cut before the ``@``: a port is a number."""
_SLASHES = rf"{_SLASH}{{2}}"
_TWO = f":{_SLASHES}"
_ENCODED_MARK = rf"(?i:{_HEX}3F)(?=\*\*\*|[\w.~+&-]*+(?:{_HEX}(?i:26|5B|5D)[\w.~+&-]*+)*{_EQUALS})"
"""``%3F`` where a name and ``=`` follow; elsewhere it is a question that a file's name asks."""
_QUERIES = (
    re.compile(rf"()({_ENCODED_MARK}){_IN}]+"),
    # Not after ``://[^``: that is a pattern of addresses, as the contract's schema has one.
    re.compile(
        rf"({_TWO}(?!\[\^){_up_to(':', _SLASHES, but='?#')})"
        rf"(\?|#(?={_up_to(':', _SLASHES, but='=')}=)){_IN}]+"
    ),
)
"""What stays, and the mark of a query."""
_MARKS = re.compile(rf"(?:/|%2F)\*\*\*(?:@|%40)|:{_SLASH}{{1,2}}\*\*\*|(?:\?|%3F)\*\*\*", re.IGNORECASE)
"""What :func:`marked` leaves of an address that held a credential."""
_USERINFO = re.compile(r"(/|%2F)\*\*\*(?:@|%40)", re.IGNORECASE)
_PRIVATE_KEY = re.compile(
    "-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|$(?!\n))", re.DOTALL
)
_NAMED = re.compile(
    # NAME=value, NAME = "value", "NAME": "value", and these in a text whose quotes are escaped.
    rf"((?:{_NAMES}|signature|hmac|\bsig)(?:[_-]?id)?(?:\\*[\"']\s*[:=]|\s*{_EQUALS})\s*)"
    r"(?:(\\*\")(?:[^\"\\]|\\.)*|(\\*')(?:[^'\\]|\\.)*|[^\s\"'&,;)\]}]+)",
    re.IGNORECASE | re.DOTALL,
)
_HEADER = re.compile(
    r"(\bauthorization\W+(?:basic|bearer|digest|token|aws4-[\w-]+)\s+)[^\"'\n]+", re.IGNORECASE
)
_COOKIE = re.compile(
    r"(\bcookie\s*:\s*[\w.!#$%&*^|~+-]+=)(?:[^\"'\n]|(?<=[=\\])[\"'][^\"'\n]*[\"']?)+", re.IGNORECASE
)
_BEARER = re.compile(r"(\bbearer\s+)(?=\S*\d)[\w.~+/=-]{8,}", re.IGNORECASE)
_AWS_ID = re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{12,}")
_ANY = re.compile(
    r"(?=[-=%:\\\"'ABab])"  # asked before the eight below, it halves the time
    rf"(?:[=%]|\\u003[dD]|:{_SLASH}|[\"']\s*:|-----BEGIN|A[KS]IA|[Bb]earer|BEARER|[Aa](?i:uthorization))"
)
"""What each of the above needs. Most texts have none of it; asked first, a record takes a tenth of the time.
"""


def masked(text: str) -> str:
    """The text without credentials, as known by their form. Pure, and masks nothing twice.

    >>> masked("see https://user:secret@host.example/a.jpg?X-Amz-Signature=fe5f")
    'see https://***@host.example/a.jpg?***'
    >>> masked('aws_secret_access_key = "wJalr", num_tokens = 7')
    'aws_secret_access_key = "***", num_tokens = 7'
    """
    return _without_queries(text, rf"\1\2{MASK}")


def masked_here(text: str) -> str:
    """:func:`masked`, and without the values of this process's own secret variables."""
    return _masked(text, _own())


def masked_tree(value: Any) -> Any:
    """A JSON value, each string :func:`masked_here`; one under the name of a secret is masked whole."""
    return _tree(value, functools.partial(_masked, own=_own()))


def disclosed(value: Any) -> Any:
    """A JSON value as it may be kept: without credentials, and without the queries of its addresses.

    >>> disclosed(["https://a:b@c/", "see https://host.example/?key=fe5f", "token=fe5f"])
    ['https://c/', 'see https://host.example/', 'token=***']
    """
    return _tree(value, _disclosed)


def marked(value: Any) -> Any:
    """The same for who is still to judge it: :func:`holds_credential` sees where a credential was.

    >>> marked(["https://a:b@c/", "https://host.example/?page=2", "https://host.example/?signature=fe5f"])
    ['https://***@c/', 'https://host.example/', 'https://host.example/?***']
    """
    return _tree(value, _marked)


def bare_uri(uri: str) -> str:
    """An address, and nothing else, as it may be kept and told: all that could open it is gone.

    >>> bare_uri("https://user:secret@host.example/token=fe5f/a.jpg?key=fe5f#page=2")
    'https://host.example/token=***'
    """
    text = _without_credentials(_ONE_ADDRESS.sub(_address, uri, count=1))
    return _USERINFO.sub(r"\1", re.split(rf"[?#]|{_ENCODED_MARK}", text, maxsplit=1)[0])


def holds_credential(text: str) -> bool:
    """Whether the text holds a credential, or a mask where one was. A query alone (``?page=2``) is none."""
    if not _ANY.search(text):
        return False
    known = any(form.search(text) for form in (_MARKS, _NAMED, _HEADER, _COOKIE))
    return known or _without_credentials(text) != text


def credential_places(document: Any, place: str = "") -> list[str]:
    """The dotted places in a JSON document where names or values hold credentials.

    >>> credential_places({"uri": "https://a:b@c/", "extra": {"password": "x", "tokens": "2"}})
    ['uri', 'extra.password']
    """
    if isinstance(document, str):
        return [place] if holds_credential(document) else []
    found = []
    for name, inner in _items(document):
        within = f"{place}.{name}" if place else name
        if _tells(name):
            found.append(masked(within))
        elif inner:
            found += credential_places(inner, within)
    return found


def _items(document: Any) -> Iterable[tuple[str, Any]]:
    if isinstance(document, dict):
        return document.items()
    return zip(map(str, itertools.count()), document, strict=False) if isinstance(document, list) else ()


@functools.lru_cache(maxsize=1024)
def _tells(name: str) -> bool:
    """Whether the name is that of a secret, or holds one itself."""
    return _NAME.search(name) is not None or holds_credential(name)


def _disclosed(text: str) -> str:
    return _USERINFO.sub(r"\1", _without_queries(text, r"\1"))


def _marked(text: str) -> str:
    def query(found: re.Match[str]) -> str:
        stays, mark = found.groups()
        return f"{stays}{mark.replace('#', '?')}{MASK}" if MASK in found[0][len(stays) :] else stays

    return _without_queries(text, query)


def _without_queries(text: str, left: str | Callable[[re.Match[str]], str]) -> str:
    text = _without_credentials(text)
    for query in _QUERIES:
        text = query.sub(left, text)
    return text


def _without_credentials(text: str) -> str:
    if not _ANY.search(text):
        return text
    text = _ADDRESS.sub(_address, _PRIVATE_KEY.sub(MASK, text))
    if "%" in text:
        text = _ENCODED.sub(rf"\1{MASK}%40", text)
    text = _NAMED.sub(_named, text)
    for header in (_HEADER, _COOKIE, _BEARER):
        text = header.sub(rf"\1{MASK}", text)
    return _AWS_ID.sub(MASK, text)


def _address(found: re.Match[str]) -> str:
    slashes, rest = found.groups()
    if "@" not in rest and ":" not in rest:
        return found[0]
    authority = re.split("[/?#]", rest, maxsplit=1)[0].rstrip("\\")
    if _CUT.match(authority):
        # A password may have a slash in it, as those of AWS do.
        return f"{slashes}{MASK}{rest[rest.rfind('@') if '@' in rest else len(authority) :]}"
    before, mark, _ = authority.rpartition("@")
    return f"{slashes}{MASK}{rest[len(before) :]}" if mark else found[0]


def _named(found: re.Match[str]) -> str:
    name, *quotes = found.groups()
    return f"{name}{quotes[0] or quotes[1] or ''}{MASK}"


def _own() -> re.Pattern[str] | None:
    secrets = (
        value.strip()
        for name, value in os.environ.items()
        if _VARIABLE.search(name) and not _HARMLESS.search(name)
    )
    return _any_of(frozenset(value for value in secrets if len(value) >= SHORTEST))


@functools.lru_cache(maxsize=4)
def _any_of(secrets: frozenset[str]) -> re.Pattern[str] | None:
    """Any of the secrets as it is, quoted as Python and JSON do, or percent-encoded; the longest first."""
    spellings = {
        spelling
        for secret in secrets
        for spelling in (secret, repr(secret)[1:-1], ascii(secret)[1:-1], json.dumps(secret)[1:-1])
    } | {quote(secret, safe=safe) for secret in secrets for safe in ("", "/")}
    longest_first = sorted(spellings, key=lambda spelling: (-len(spelling), spelling))
    return re.compile("|".join(map(re.escape, longest_first))) if secrets else None


def _masked(text: str, own: re.Pattern[str] | None) -> str:
    return masked(own.sub(MASK, text) if own else text)


def _tree(value: Any, mask: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return mask(value)
    if isinstance(value, Mapping):
        return {
            _tree(name, mask): MASK
            if isinstance(inner, str) and _NAME.search(str(name))
            else _tree(inner, mask)
            for name, inner in value.items()
        }
    return [_tree(inner, mask) for inner in value] if isinstance(value, list | tuple) else value
