"""The packs of a version: which shards, how full they are, and who is in them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from infra.artifact import Artifact
from infra.artifact import Shard as Made
from infra.corpus import Corpus, Version
from infra.storage import Store
from pipeline import refs, schema, tables
from pipeline.blocks import Shard
from pipeline.examples import CONTRIBUTORS, Amounts, kind_of
from pipeline.pack import Fill

STEP = "pack"
"""The step that makes them; others leave packs in the same form."""


def slots(corpus: Corpus, version: Version, kind: str, *, step: str = STEP) -> list[Made]:
    """What was made of a kind, in the order that numbers the sequences."""
    return slots_of(corpus.artifact(version, step), kind)


def slots_of(artifact: Artifact, kind: str) -> list[Made]:
    return [shard for slot, shard in sorted(artifact.shards.items()) if kind_of(slot) == kind]


def listed(
    corpus: Corpus,
    version: Version,
    kind: str,
    *,
    step: str = STEP,
    revoked: Collection[str] = frozenset(),
) -> list[Shard]:
    """The packed shards of a kind, where they lie; ``revoked`` uids are blanked as they are read."""
    return placed(corpus.store, slots(corpus, version, kind, step=step), revoked=revoked)


def placed(store: Store, found: Iterable[Made], *, revoked: Collection[str] = frozenset()) -> list[Shard]:
    """The packed shards of what was made, in its order."""
    return [
        Shard(store=store, name=shard.name(file), info=info, revoked=revoked)
        for shard in found
        for file, info in sorted(shard.facts["packs"].items())
    ]


def fill(found: Iterable[Made]) -> Fill:
    return sum((Fill(**shard.facts["fill"]) for shard in found), Fill())


def by_license(found: Iterable[Made]) -> Amounts:
    """Pairs and tokens of each licence, most tokens first."""
    return summed(shard.facts["licenses"] for shard in found)


def by_contributor(store: Store, found: Iterable[Made]) -> Amounts:
    """Pairs and tokens of each contributor, most tokens first."""
    return summed(held(store, shard) for shard in found)


def held(store: Store, shard: Made) -> Amounts:
    """Pairs and tokens of each contributor of a shard of packs."""
    table = tables.read_parquet(refs.of(store, shard, CONTRIBUTORS))
    return {row.pop(schema.CONTRIBUTOR.name): row for row in table.to_pylist()}


def summed(parts: Iterable[Amounts]) -> Amounts:
    totals: dict[str, Counter[str]] = {}
    for part in parts:
        for name, amount in part.items():
            totals.setdefault(name, Counter()).update(amount)
    return {
        name: dict(total)
        for name, total in sorted(totals.items(), key=lambda one: (-one[1]["tokens"], one[0]))
    }


def filled(one: Fill) -> str:
    """How full rows are, beside the most that any packing could reach.

    >>> filled(Fill(documents=3, rows=2, fewest_rows=2, tokens=17, charge=18, space=20))
    '3 documents in 2 rows, filled to 90.00 % with room for masks (tokens 85.00 %); none exceeds 90.00 %'
    """
    shares = one.shares()
    return (
        f"{one.documents} documents in {one.rows} rows, filled to {shares['charged']:.2%} with room for "
        f"masks (tokens {shares['tokens']:.2%}); none exceeds {shares['ceiling']:.2%}"
    ).replace("%", " %")


def facts(one: Fill) -> Mapping[str, Any]:
    return {"rows": one.rows, "documents": one.documents, "tokens": one.tokens, **one.shares()}
