"""Questions to a corpus: what it holds, why an asset is in or out, what it accepts."""

from __future__ import annotations

from typing import Any

import pyarrow.compute as pc

from infra.corpus import Corpus, Version
from infra.options import CorpusOptions, answer
from pipeline import build, contract, jobs, plan, refs, schema, tables
from pipeline.config import Config
from pipeline.step import ROWS

CATALOGS = ("split", "filter", "images", "decide")
"""Steps whose rows are the catalog, the fullest first."""


def status(*, options: CorpusOptions | None = None) -> None:
    """Show the newest version: deliveries, models, and what became of every row at every step.

    Example: pardalis status --corpus demo/corpus --json
    """
    options = options or CorpusOptions()
    corpus = options.open()
    version = corpus.newest()
    steps = [step for step in plan.steps(Config()) if step.name in version.artifacts]
    found = jobs.balances(corpus, version, steps)
    deliveries = [f"{d.provider}/{d.sequence} {d.delivery_id}" for d in version.deliveries]
    facts = {
        "corpus": corpus.store.uri,
        "version": version.number,
        "as_of": version.as_of,
        "deliveries": deliveries,
        "models": dict(version.models),
        "steps": found,
    }
    lines = [f"{corpus.store.uri}, version {version.number}, rights as of {version.as_of}"]
    lines += [f"  delivery {line}" for line in deliveries]
    lines += [f"  model {name} {key}" for name, key in version.models.items()]
    lines += [build.told(name, counts) for name, counts in found.items()]
    answer(facts, "\n".join(lines), json=options.json)


def explain(uid: str, *, options: CorpusOptions | None = None) -> int:
    """Say why an asset is in or out: the outcome, the step and rule that gave it, the licences that admit it.

    Example: pardalis explain fluent-emoji:1f34e --corpus demo/corpus

    Parameters
    ----------
    uid
        provider:asset_id
    """
    options = options or CorpusOptions()
    corpus = options.open()
    rows = catalog_rows(corpus, corpus.newest(), uid)
    for row in rows:
        answer(row, "\n".join(f"{name}: {value}" for name, value in row.items()), json=options.json)
    if not rows:
        raise ValueError(f"no delivery brought {uid!r}; write it as PROVIDER:ASSET_ID")
    return 0


def catalog_rows(corpus: Corpus, version: Version, uid: str) -> list[dict[str, Any]]:
    """The asset's rows in the fullest catalog there is, without the bytes of signatures."""
    step = next(name for name in CATALOGS if name in version.artifacts)
    found = []
    for slot, shard in sorted(corpus.artifact(version, step).shards.items()):
        table = tables.read_parquet(refs.of(corpus.store, shard, ROWS))
        table = table.drop_columns([c for c in signatures() if c in table.column_names])
        rows = table.filter(pc.equal(table[schema.UID.name], uid)).to_pylist()
        found += [{**row, "slot": slot} for row in rows]
    return found


def signatures() -> list[str]:
    return [schema.STRUCTURE.name, schema.TINT.name]


def contract_schema() -> None:
    """Print the input contract as JSON Schema (2020-12).

    Example: pardalis contract schema > contract.schema.json
    """
    answer(contract.json_schema(), "", json=True)


def contract_template() -> None:
    """Print a filled, valid example of a delivery, an asset, a licence and a revocation.

    Example: pardalis contract template
    """
    answer(contract.template(), "", json=True)
