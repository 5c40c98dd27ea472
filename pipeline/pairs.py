"""Pairs of duplicates for the preview page: a row that is out and the one that stays, the least alike first.

The surprising rule: they are those of the last build, whatever is set now. Which rows are one picture is
found by comparing all of them, and that is the build's work.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from infra.corpus import Corpus, Version
from pipeline import outcomes, refs, schema, tables
from pipeline.dedup import LINKS
from pipeline.likeness.linking import PASSES
from pipeline.reviewing import meanings
from pipeline.reviewing.gates import FACTS, catalog

COMPARED = "screen"
"""The step whose rows were compared."""


def there(version: Version) -> tuple[str, ...]:
    """The passes that can be asked for: none before dedup is built."""
    return PASSES if "dedup" in version.artifacts else ()


def shown(corpus: Corpus, version: Version, codes: Collection[str], count: int) -> list[dict[str, Any]]:
    """All that is told of each pass that is asked for."""
    asked = [code for code in there(version) if code in codes]
    if not asked:
        return []
    links = links_of(corpus, version)
    found = {code: links.filter(pc.equal(links[schema.FOUND_BY.name], code)) for code in asked}
    nearest = {code: least_alike(part, count) for code, part in found.items()}
    names = {pair[side] for pairs in nearest.values() for pair in pairs for side in ("uid", "keeper")}
    facts = facts_of(corpus, version, names)
    return [
        {
            "code": code,
            "meaning": meanings.of(code).told,
            "setting": meanings.of(code).setting,
            "rows": part.num_rows,
            "bits": dict(sorted(Counter(part[schema.HAMMING.name].to_pylist()).items())),
            "pairs": [
                {**pair, "out": facts[pair["uid"]], "stays": facts[pair["keeper"]]} for pair in nearest[code]
            ],
        }
        for code, part in found.items()
    ]


def links_of(corpus: Corpus, version: Version) -> pa.Table:
    shards = corpus.artifact(version, "dedup").shards.values()
    parts = [tables.read_parquet(refs.of(corpus.store, shard, LINKS)) for shard in shards]
    return pa.concat_tables([schema.LINKS.empty_table(), *parts])


def least_alike(links: pa.Table, count: int) -> list[dict[str, Any]]:
    """By cosine where features were compared, else by bits of the hashes; of equals, by uid."""
    order = [("cosine", "ascending"), ("hamming", "descending"), ("uid", "ascending")]
    columns = ["uid", "keeper", "hamming", "cosine"]
    return list(links.sort_by(order).select(columns).slice(0, count).to_pylist())


def facts_of(corpus: Corpus, version: Version, uids: Collection[str]) -> dict[str, dict[str, Any]]:
    rows = catalog(corpus, version, COMPARED)
    wanted = pc.is_in(rows[schema.UID.name], pa.array(sorted(uids), pa.string()))
    rows = rows.filter(pc.and_(outcomes.is_kept(rows), wanted))
    return {row["uid"]: row for row in rows.select([column.name for column in FACTS]).to_pylist()}
