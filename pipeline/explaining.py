"""Why an asset is in or out: the outcome, the rule behind every reason and what to do about it, and each
licence that it names.

Nothing is remembered for this. The row is the catalog's, and the licences are weighed again, as they were
when the rights were decided: same records, same purpose, same instant.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from infra.corpus import Corpus, Version
from infra.options import ReadOptions, answer
from pipeline import deciding, embedded, folding, reasons, refs, schema, tables
from pipeline.contract import Asset, License
from pipeline.embedded import signals
from pipeline.grants import Case, lacks
from pipeline.records import RECORDS
from pipeline.reviewing import catalogs, meanings
from pipeline.revoked import Revoked
from pipeline.step import generation

LEFT_OUT = frozenset(
    {
        "record",
        "outcome",
        "settled_by",
        "reasons",
        "rules",
        "settings",
        "fixes",
        "license_verdicts",
        "license_terms",
        "licenses",
        "uid",
    }
)
"""Of the facts told at the end: these are told before."""


def explain(uid: str, *, options: ReadOptions | None = None) -> None:
    """Say why an asset is in or out: the outcome, the step and rule that gave it, and every licence it names.

    With --json it prints a list: one entry for every revision that was delivered.

    Example: pardalis explain fluent-emoji:1f34e --corpus demo/corpus

    Parameters
    ----------
    uid
        provider:asset_id
    """
    options = options or ReadOptions()
    corpus = options.open()
    version = corpus.newest()
    rows = [explained(corpus, version, row) for row in catalog_rows(corpus, version, uid)]
    if not rows:
        raise ValueError(f"no delivery brought {uid!r}; write it as PROVIDER:ASSET_ID")
    answer(rows, "\n\n".join("\n".join(told(row)) for row in rows), json=options.json)


def catalog_rows(corpus: Corpus, version: Version, uid: str) -> list[dict[str, Any]]:
    """The asset's rows in the fullest catalog there is, without the bytes of signatures."""
    return [row for slot, rows in catalogs.fullest(corpus, version) for row in of_asset(rows, slot, uid)]


def of_asset(rows: pa.Table, slot: str, uid: str) -> list[dict[str, Any]]:
    return [{**row, "slot": slot} for row in rows.filter(pc.equal(rows[schema.UID.name], uid)).to_pylist()]


def explained(corpus: Corpus, version: Version, row: Mapping[str, Any]) -> dict[str, Any]:
    """The row, with what is behind each reason, the delivery, and what each licence lacks."""
    delivery = version.deliveries[int(generation(row["slot"]))]
    measured = {reason: meanings.of(reasons.code_of(reason)) for reason in row["reasons"]}
    records = folding.licenses(corpus.store, version, row["uid"].partition(":")[0])
    found = verdicts(corpus, version, row, records)
    return {
        **row,
        "delivery": f"{delivery.delivery_id} (number {delivery.sequence} of {delivery.provider})",
        "rules": {reason: reasons.rule_of(reason) or one.told or None for reason, one in measured.items()},
        "settings": {reason: one.setting for reason, one in measured.items() if one.setting},
        "fixes": {reason: one.fix for reason, one in measured.items() if one.fix},
        "license_verdicts": found,
        "license_terms": {name: term(records[name]) for name in found if name in records},
    }


def term(record: License) -> str:
    """From when until when a licence is valid."""
    until = f"until {record.valid_until:%Y-%m-%d}" if record.valid_until else "on"
    return f"valid from {record.valid_from:%Y-%m-%d} {until}"


def verdicts(
    corpus: Corpus, version: Version, row: Mapping[str, Any], licenses: Mapping[str, License]
) -> dict[str, tuple[str, ...]]:
    """All that each licence lacks by itself; none for a sample that was no asset."""
    records = [
        record
        for slot, shard in corpus.artifact(version, "records").shards.items()
        for record in of_asset(tables.read_parquet(refs.of(corpus.store, shard, RECORDS)), slot, row["uid"])
    ]
    record = next((one for one in records if one["slot"] == row["slot"] and one["record"]), None)
    if record is None:
        return {}
    asset = Asset.model_validate_json(record["record"])
    as_of = datetime.fromisoformat(version.as_of)
    case = Case(
        asset=asset,
        licenses=licenses,
        purpose=deciding.purpose_of(corpus, version),
        as_of=as_of,
        revoked=Revoked.of(folding.revocations(corpus.store, version), as_of),
        signals=signals(embedded.from_json(record["extracted"])),
    )
    return lacks(case)


def told(row: Mapping[str, Any]) -> Iterator[str]:
    """The answer for people."""
    where = f" by {row['settled_by']}" if row["settled_by"] else ""
    held = "in the corpus" if row["outcome"] == "kept" else "out"
    yield f"{row['uid']}, revision {row['revision']}: {held}, {row['outcome']}{where}"
    for reason, rule in row["rules"].items():
        yield f"  because of {reason}"
        if rule is not None:
            yield f"    rule: {rule}"
        if reason in row["settings"]:
            yield f"    setting: {row['settings'][reason]}"
        if reason in row["fixes"]:
            yield f"    what to do: {row['fixes'][reason]}"
    for name, missing in row["license_verdicts"].items():
        used = " (used)" if name in row["licenses"] else ""
        term = f", {row['license_terms'][name]}" if name in row["license_terms"] else ""
        yield f"  licence {name}{used}{term}: {', '.join(missing) or 'admits every use that is needed'}"
    facts = {name: value for name, value in row.items() if name not in LEFT_OUT}
    yield from (f"  {name}: {value}" for name, value in facts.items() if value not in (None, "", []))
