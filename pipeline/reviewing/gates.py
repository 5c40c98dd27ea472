"""The steps that judge by thresholds, each with the rows that came to it and its rules over them.

The surprising rule: thresholds are those asked for now, the rows those of the last build. So a laxer filter
lets nothing new come to ``screen`` before it is built, and values of models are there for rows that were
scored then.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from infra.corpus import Corpus, Version
from pipeline import filters, outcomes, schema, screening, tables
from pipeline.filtering.rules import Rule
from pipeline.reviewing import catalogs
from pipeline.settings import PipelineTable

"""Names the shard of a row, where rows of many are one table."""
FACTS = (schema.UID, schema.KEY, schema.DESCRIPTION, schema.MAY_BE_SHOWN, schema.SLOT)
"""What a page tells of a row, and finds its picture by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    step: str
    rows: pa.Table
    rules: tuple[Rule, ...]


def gates(corpus: Corpus, version: Version, settings: PipelineTable) -> tuple[Gate, ...]:
    """``filter``, and ``screen`` where it is built. What rights refused came to neither."""
    rows = catalog(corpus, version, "images")
    rows = rows.filter(outcomes.is_kept(rows))
    found = [Gate(step="filter", rows=rows, rules=filters.rules_of(rows, settings.filters))]
    if "screen" in version.artifacts:
        rows = catalog(corpus, version, "screen")
        rows = rows.filter(pc.or_(outcomes.is_kept(rows), pc.equal(rows[schema.SETTLED_BY.name], "screen")))
        found.append(Gate(step="screen", rows=rows, rules=screening.rules_of(rows, settings.screen)))
    return tuple(found)


def catalog(corpus: Corpus, version: Version, step: str | None = None) -> pa.Table:
    """All rows of a step, or of the fullest catalog, each with its slot."""
    found = catalogs.fullest(corpus, version) if step is None else catalogs.of_step(corpus, version, step)
    return pa.concat_tables([tables.with_slot(rows, slot) for slot, rows in found])
