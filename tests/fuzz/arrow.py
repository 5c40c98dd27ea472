"""The reader of Parquet, as ``tests.fuzz.forms`` runs it in a process that may die."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from infra.guarded import columns
from infra.guarded.isolated import Answer
from infra.guarded.parquet import Limits
from infra.guarded.refused import Refused


def read(data: bytes, settings: Mapping[str, Any]) -> Answer:
    """How many rows the table has, each of which JSON can spell, or the rule that refuses it."""
    num = 0
    try:
        for row in columns.rows(data, file="", limits=Limits(**settings)):
            json.dumps(row)
            num += 1
    except Refused as refused:
        return {"refused": refused.rule}, []
    return {"rows": num}, []
