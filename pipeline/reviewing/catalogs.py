"""The catalog of a version: every row as the fullest step has it, without the bytes of its signature.

The surprising rule: what dedup decided is told before ``split`` writes it into the rows, so that a corpus
that is built half way says of no row that is out that it is in.
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from infra.corpus import Corpus, Version
from pipeline import outcomes, refs, schema, tables
from pipeline.step import ROWS, generation

STEPS = ("split", "screen", "filter", "images", "decide")
"""Whose rows are the catalog, the fullest first."""
SIGNATURES = (schema.STRUCTURE.name, schema.TINT.name)
"""Columns of 1.5 kB a row that nobody looks at here."""


def fullest(corpus: Corpus, version: Version) -> Iterator[tuple[str, pa.Table]]:
    """(slot, rows), with the verdicts of a dedup that no split has written into them yet."""
    step = next((name for name in STEPS if name in version.artifacts), STEPS[-1])
    judged = corpus.artifact(version, "dedup").shards if "dedup" in version.artifacts else {}
    for slot, rows in of_step(corpus, version, step):
        if step == "screen" and generation(slot) in judged:
            groups = refs.of(corpus.store, judged[generation(slot)], f"{slot}.parquet")
            verdicts = tables.read_parquet(groups)[schema.VERDICT.name].to_pylist()
            yield slot, outcomes.settle(rows, verdicts, "dedup")
        else:
            yield slot, rows


def of_step(corpus: Corpus, version: Version, step: str) -> Iterator[tuple[str, pa.Table]]:
    """(slot, rows) of one step."""
    for slot, shard in sorted(corpus.artifact(version, step).shards.items()):
        rows = tables.read_parquet(refs.of(corpus.store, shard, ROWS))
        yield slot, rows.drop_columns([name for name in SIGNATURES if name in rows.column_names])
