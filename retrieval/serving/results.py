"""Members as they are told to a caller: as JSON, or as Arrow."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from starlette.responses import Response

from retrieval.segments import Floats
from retrieval.serving.admission import Admitted, Rows
from retrieval.serving.catalogue import RESULT, Catalogue

ARROW = "application/vnd.apache.arrow.stream"
LICENSES = pa.field("licenses", pa.list_(pa.string()))
ATTRIBUTION = pa.field("attribution", pa.string())
SCORE = pa.field("score", pa.float32())
DATE = "date"
FIRST = ("uid", SCORE.name, "description", "keywords", "categories", "contributor")
"""Fields are told in this order; the rest as RESULT has them."""


def of_rows(catalogue: Catalogue, rows: Rows, admitted: Admitted) -> pa.Table:
    """What may be told of members that may be shown, with the licences and the credit of this purpose."""
    kinds = admitted.kinds_N[rows].tolist()
    licenses = pa.array([admitted.licenses[kind] for kind in kinds], LICENSES.type)
    owed = pa.array(admitted.credits(rows), ATTRIBUTION.type)
    found = catalogue.facts.select(RESULT.names).take(pa.array(rows))
    return found.append_column(LICENSES, licenses).append_column(ATTRIBUTION, owed)


def ranked(catalogue: Catalogue, rows: Rows, scores: Floats, admitted: Admitted) -> pa.Table:
    found = of_rows(catalogue, rows, admitted)
    found = found.append_column(SCORE, pa.array(np.asarray(scores, np.float32)))
    beside = [LICENSES.name, ATTRIBUTION.name]
    rest = [name for name in RESULT.names if name not in FIRST]
    return found.select([*FIRST, *beside, *rest])


def as_objects(found: pa.Table) -> list[dict[str, Any]]:
    """Days as texts, scores with four digits."""
    at = found.schema.get_field_index(DATE)
    rows: list[dict[str, Any]] = found.set_column(at, DATE, found[DATE].cast(pa.string())).to_pylist()
    for row in rows:
        if SCORE.name in row:
            row[SCORE.name] = round(row[SCORE.name], 4)
    return rows


def as_arrow(found: pa.Table, facts: dict[str, Any]) -> Response:
    """A stream, with what JSON would tell beside the rows in the metadata of its schema."""
    sink = pa.BufferOutputStream()
    table = found.replace_schema_metadata({name: str(value) for name, value in facts.items()})
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return Response(sink.getvalue().to_pybytes(), media_type=ARROW)
