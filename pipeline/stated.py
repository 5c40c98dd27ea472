"""What a delivery states of every asset, and how it completes the records that leave it out.

The surprising rule: a statement fills, and never overrides. Where a record says something, the record holds;
a blank cell of an agency's table says nothing. Only restrictions add up.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from pipeline.asset import Asset
from pipeline.faults import describe
from pipeline.fields import fault
from pipeline.template import ASSET

OWN = frozenset({"schema", "provider", "asset_id", "delivery_id", "file"})
FIELDS = frozenset(field.alias or name for name, field in Asset.model_fields.items()) - OWN
"""What assets may have in common."""
ADDED = frozenset({"usage_restrictions"})
"""Lists to which a statement adds: one restriction does not lift another."""


def filled(document: Mapping[str, Any], common: Mapping[str, Any]) -> dict[str, Any]:
    """The document, with what it leaves out; objects are filled field by field.

    >>> filled({"a": 1, "releases": {"model": "none"}}, {"a": 2, "releases": {"property": "none"}, "b": 3})
    {'a': 1, 'releases': {'model': 'none', 'property': 'none'}, 'b': 3}
    """
    both = (
        name for name in document if isinstance(document[name], dict) and isinstance(common.get(name), dict)
    )
    inner = {name: filled(document[name], common[name]) for name in both}
    rest = {name: value for name, value in common.items() if name not in document}
    added = {
        name: [*document[name], *(entry for entry in common[name] if entry not in document[name])]
        for name in ADDED
        if isinstance(document.get(name), list) and name in common
    }
    return {**document, **inner, **added, **rest}


def standing(sequence: int, common: Mapping[str, Any]) -> dict[str, Any]:
    """Revision and status of an asset whose layout has neither: the delivery's number, so that a later one is
    newer, and active; unless the delivery states them.
    """
    return {"asset_revision": sequence, "status": "active"} | {
        name: common[name] for name in ("asset_revision", "status") if name in common
    }


def check(statement: Mapping[str, Any]) -> None:
    """Raises a fault of ``every_asset`` for a field that assets do not share, or a value that none has."""
    for name in statement:
        if name not in FIELDS:
            told = "is each asset's own" if name in OWN else "is no field of an asset"
            near = difflib.get_close_matches(name, FIELDS, n=1)
            fix = f"write {near[0]}" if near and name not in OWN else "leave it out"
            known = f"fields that assets may share are {', '.join(sorted(FIELDS))}"
            raise fault(f"{name[:80]!a} {told}", f"{fix}; {known}", "every_asset")
    try:
        # With has_people "no" the contract refuses some releases; with "yes" each can be checked.
        Asset.model_validate(filled(statement, {**ASSET, "has_people": "yes"}))
    except ValidationError as error:
        raise fault(describe(error, "every_asset"), "mend it", "every_asset") from None
