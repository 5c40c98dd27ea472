"""Say what is wrong with a record: file, field, value, and what to do. One line a fault, up to fifty.

Of a value no more is looked at than a message can show: it may be a list of half a million.

The surprising rule: a field's name may be as hostile as its value, so both are told masked, escaped and cut:
in this order, since half an address no longer shows that it holds a password.
"""

from __future__ import annotations

import reprlib
from collections.abc import Mapping

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from infra.redaction import masked

FIXES = {
    "missing": "add it",
    "extra_forbidden": "remove it; free facts go under extra",
    "literal_error": "write {expected}",
    "string_pattern_mismatch": "make it match {pattern}",
    "string_too_short": "write at least {min_length} character(s)",
    "string_too_long": "shorten it to {max_length} characters",
    "too_short": "list at least {min_length}",
    "too_long": "list at most {max_length}",
    "string_type": "write it as a string, in quotes",
    "int_type": "write it as a whole number, without quotes",
    "float_type": "write it as a number, without quotes",
    "bool_type": "write true or false, without quotes",
    "tuple_type": "write it as a list",
    "dict_type": "write it as an object",
    "model_type": "write it as an object",
    "greater_than_equal": "make it at least {ge}",
    "less_than_equal": "make it at most {le}",
}
SHOWN = 60
"""Characters of a value, or of a field's name, that a message repeats."""
MAX_LINES = 50
"""Of one record: a list of a few KiB may have as many thousand faults."""
_GLANCE = reprlib.Repr()
_GLANCE.maxlevel, _GLANCE.maxlist, _GLANCE.maxdict = 4, 20, 20
# Of a string much more is looked at than is shown, so that an address is masked by all that stands in it.
_GLANCE.maxstring = _GLANCE.maxother = 8192


def describe(error: ValidationError, where: str, most: int = MAX_LINES) -> str:
    """``WHERE: FIELD: problem, got VALUE; fix``, a line for each fault; ``where`` is a file and a place."""
    details = _details(error)
    lines = [f"{where}: {_line(detail)}" for detail in details[:most]]
    if (more := len(details) - len(lines)) > 0:
        lines.append(f"{where}: and {more} more; mend these and try again")
    return "\n".join(lines)


def fields(error: ValidationError) -> list[str]:
    """The dotted fields at fault, in the record's order."""
    return [_field(detail) for detail in _details(error)]


def _details(error: ValidationError) -> list[ErrorDetails]:
    """But for a list that is too short only because its entries are at fault."""
    found = error.errors(include_url=False)
    return [detail for detail in found if detail["type"] != "too_short" or not detail["input"]]


def _field(detail: ErrorDetails) -> str:
    named = detail.get("ctx", {}).get("field", "")
    return ".".join(_part(part) for part in detail["loc"]) or named or "the record"


def _part(part: str | int) -> str:
    """An index, or a key as it was sent: escaped, since it may hold line feeds and terminal codes."""
    return cut(str(part) if isinstance(part, int) else ascii(part)[1:-1])


def _line(detail: ErrorDetails) -> str:
    context: Mapping[str, object] = detail.get("ctx", {})
    fix = FIXES.get(detail["type"], "see `pardalis contract schema`").format(**context)
    got = "" if detail["type"] == "missing" or not detail["loc"] else f", got {cut(_glance(detail['input']))}"
    return f"{_field(detail)}: {detail['msg'].rstrip('.')}{got}; {context.get('fix') or fix}"


def _glance(value: object) -> str:
    return _GLANCE.repr(value).encode("ascii", "backslashreplace").decode()


def cut(escaped: str) -> str:
    """As much of a hostile text as a message repeats."""
    text = masked(escaped)
    return text if len(text) <= SHOWN else text[:SHOWN] + "..."
