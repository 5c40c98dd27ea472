"""The types of the contract's fields: each takes one spelling, and says what to do about any other.

The surprising rule: control characters and bidirectional overrides are stripped from prose, and refused in
ids, so that no id has two spellings. Texts arrive in NFC (``infra.guarded.json``).
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, WithJsonSchema
from pydantic_core import PydanticCustomError

from infra.countries import COUNTRIES

SHA256 = re.compile("[0-9a-f]{64}")
# Years of four digits from 1000 on: there are no pictures from before, and time can be taken off every one.
_TIMESTAMP = r"^[1-9][0-9]{3}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?Z$"
# What nobody sees in a name, or what turns its letters round: Unicode's controls, and its Default_Ignorable
# but for the selectors of variants, which names of emoji have. Engines of JSON Schema agree on escapes of
# four digits and on no more, so that what lies beyond is refused here alone.
_UNSEEN = (
    r"\x00-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e"
    r"\u2060-\u206f\u3164\ufeff\uffa0\ufff0-\ufffb"
)
_UNSEEN_BEYOND = re.compile("[\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e007f]")
_PATH = rf"^(?!/|[A-Za-z]:)(?!(.*/)?\.\.(/|$))(?!.*/(/|$))[^\\{_UNSEEN}]{{1,512}}$"
# C0 and C1 controls but tab, line feed and carriage return; bidirectional embeddings, overrides and isolates.
_HIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def fault(problem: str, fix: str, field: str = "") -> PydanticCustomError:
    """What is wrong and what to do. ``field`` is for rules between fields, which pydantic cannot place."""
    return PydanticCustomError("contract", "{problem}", {"problem": problem, "fix": fix, "field": field})


def clean(text: str) -> str:
    """Prose without control characters and bidirectional overrides."""
    return _HIDDEN.sub("", text)


def _clean_raw(raw: object) -> object:
    return clean(raw) if isinstance(raw, str) else raw


def _no_hidden(text: str) -> str:
    if _HIDDEN.search(text):
        raise fault("an id holds a control character", "remove it")
    return text


def _of_iso(code: str) -> str:
    if code not in COUNTRIES:
        raise fault(f"{code} is no country of ISO 3166-1", "write its two letters, such as DE or GB")
    return code


def _moment(raw: object) -> object:
    """``2026-01-31T00:00:00Z`` to a UTC time; a datetime passes, for records made in code."""
    if isinstance(raw, datetime) and raw.tzinfo == UTC:
        return raw
    if not isinstance(raw, str) or not re.fullmatch(_TIMESTAMP.rstrip("$"), raw):
        raise fault("not a UTC time", "write it as 2026-01-31T00:00:00Z")
    try:
        return datetime.fromisoformat(raw)
    except ValueError:
        raise fault("not on the calendar", "write a day and a time that exist") from None


def _spelled(moment: datetime) -> str:
    return moment.replace(tzinfo=None).isoformat() + "Z"


def _not_null(raw: object) -> object:
    if raw is None:
        raise fault("null is no value here", "leave the field out")
    return raw


def _unique(items: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(items)) < len(items):
        raise fault("an entry is given twice", "keep one of them")
    return items


def _relative(path: str) -> str:
    """The path as it is: what lies under it is found by these characters, whatever their normal form."""
    if not re.fullmatch(_PATH.rstrip("$"), path) or _UNSEEN_BEYOND.search(path):
        fix = "use a relative path of at most 512 characters, without '..', empty parts, backslashes"
        raise fault("not a path inside the delivery", f"{fix} and characters that nobody sees")
    return path


T = TypeVar("T")
Maybe = Annotated[T | None, BeforeValidator(_not_null)]
"""A field that may be left out. Writing null is a fault."""
Many = Annotated[tuple[T, ...], Field(strict=False)]
"""A JSON array, kept as a tuple."""
PROSE = BeforeValidator(_clean_raw)
OPAQUE = AfterValidator(_no_hidden)
UNIQUE = AfterValidator(_unique)

Timestamp = Annotated[
    datetime,
    BeforeValidator(_moment),
    PlainSerializer(_spelled, return_type=str),
    WithJsonSchema({"type": "string", "pattern": _TIMESTAMP}),
]
Provider = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{1,31}$")]
AssetId = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,128}$")]
LicenseId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}$")]
RecordId = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:-]{1,128}$")]
Sha256 = Annotated[str, Field(pattern=f"^{SHA256.pattern}$")]
Country = Annotated[str, Field(pattern=r"^[A-Z]{2}$")]
Place = Annotated[Country, AfterValidator(_of_iso)]
"""That a licence is for, or a purpose: of ISO 3166-1, where a photograph may be of Kosovo (XK)."""
RelativePath = Annotated[str, AfterValidator(_relative), WithJsonSchema({"type": "string", "pattern": _PATH})]
Id = Annotated[str, Field(min_length=1, max_length=128), OPAQUE]
"""Of a person, a release, a model: any characters but hidden ones."""
Tri = Literal["yes", "no", "unknown"]
Grant = Literal["allow", "deny"]
Release = Literal["unlimited", "limited", "none", "not_applicable", "unknown"]
Mime = Literal["image/jpeg", "image/png", "image/webp"]
