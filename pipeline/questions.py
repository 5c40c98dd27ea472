"""Questions to a corpus: what it holds, why an asset is in or out, what it accepts."""

from __future__ import annotations

from typing import Annotated, Any

import pyarrow.compute as pc
from cyclopts import Parameter

from infra.corpus import Corpus, Version
from infra.options import CorpusOptions, answer
from pipeline import build, contract, jobs, plan, refs, schema, tables
from pipeline.config import Config
from pipeline.step import ROWS

CATALOGS = ("split", "filter", "images", "decide")
"""Steps whose rows are the catalog, the fullest first."""
Json = Annotated[bool, Parameter(negative="")]


def status(*, options: CorpusOptions | None = None) -> None:
    """Show the newest version: deliveries, models, and what became of every row at every step.

    Example: pardalis status --corpus demo/corpus --json
    """
    options = options or CorpusOptions()
    corpus = options.open()
    version = corpus.newest()
    steps = plan.steps(Config())
    found = jobs.balances(corpus, version, [step for step in steps if step.name in version.artifacts])
    models = {step.name: version.models[step.name] for step in steps if step.name in version.models}
    deliveries = [f"{d.provider}/{d.sequence} {d.delivery_id}" for d in version.deliveries]
    facts = {
        "corpus": corpus.store.uri,
        "version": version.number,
        "as_of": version.as_of,
        "deliveries": deliveries,
        "models": models,
        "steps": found,
    }
    lines = [f"{corpus.store.uri}, version {version.number}, rights as of {version.as_of}"]
    lines += [f"  delivery {line}" for line in deliveries]
    lines += [f"  model {name} {key}" for name, key in models.items()]
    lines += [build.told(name, counts) for name, counts in found.items()]
    answer(facts, "\n".join(lines), json=options.json)


def explain(uid: str, *, options: CorpusOptions | None = None) -> None:
    """Say why an asset is in or out: the outcome, the step and rule that gave it, the licences that admit it.

    With --json it prints a list: one entry for every revision that was delivered.

    Example: pardalis explain fluent-emoji:1f34e --corpus demo/corpus

    Parameters
    ----------
    uid
        provider:asset_id
    """
    options = options or CorpusOptions()
    corpus = options.open()
    rows = catalog_rows(corpus, corpus.newest(), uid)
    if not rows:
        raise ValueError(f"no delivery brought {uid!r}; write it as PROVIDER:ASSET_ID")
    texts = ("\n".join(f"{name}: {value}" for name, value in row.items()) for row in rows)
    answer(rows, "\n\n".join(texts), json=options.json)


def catalog_rows(corpus: Corpus, version: Version, uid: str) -> list[dict[str, Any]]:
    """The asset's rows in the fullest catalog there is, without the bytes of signatures."""
    step = next((name for name in CATALOGS if name in version.artifacts), CATALOGS[-1])
    found = []
    for slot, shard in sorted(corpus.artifact(version, step).shards.items()):
        table = tables.read_parquet(refs.of(corpus.store, shard, ROWS))
        table = table.drop_columns([c for c in signatures() if c in table.column_names])
        rows = table.filter(pc.equal(table[schema.UID.name], uid)).to_pylist()
        found += [{**row, "slot": slot} for row in rows]
    return found


def signatures() -> list[str]:
    return [schema.STRUCTURE.name, schema.TINT.name]


def contract_schema(*, json: Json = True) -> None:
    """Print the input contract as JSON Schema (2020-12).

    Example: pardalis contract schema > contract.schema.json

    Parameters
    ----------
    json
        Taken for the sake of scripts; the answer is JSON with it and without.
    """
    answer(contract.json_schema(), "", json=json)


def contract_template(*, json: Json = True) -> None:
    """Print a filled, valid example of a delivery, an asset, a licence and a revocation.

    Example: pardalis contract template

    Parameters
    ----------
    json
        Taken for the sake of scripts; the answer is JSON with it and without.
    """
    answer(contract.template(), "", json=json)
