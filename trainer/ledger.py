"""``pardalis ledger``: what each contributor and each licence has in a corpus, and how often it was used.

Everything is counted in the bytes: catalog rows, spans in the blocks of packs, the order of every run. The
surprising rule: what belongs to several accounts counts in full for each of them, so a table may add up to
more than the totals, which count everything once. An asset that two licences admit counts for both in the
table of licences, and once in that of contributors; the table of both has a line for each pair.

A run whose packs are gone is listed as unknown, and adds nothing. One that was tuned from another's weights
counts what it passed itself. Runs do not tell when they passed what, so all counts are of all time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from infra.corpus import Corpus, Version
from infra.options import ReadOptions, answer
from infra.storage import Store
from pipeline import folding, sheets
from pipeline.searching.usage import Served
from trainer.accounts import FIELDS, TOKENS, Account, Book, Read, kept
from trainer.owners import OF_NONE


def ledger(*, out: str, usage: tuple[str, ...] = (), options: ReadOptions | None = None) -> None:
    """Write what each contributor and licence has in the corpus, and how often it was trained on and served.

    Tables of contributors, of licences, of both together and of runs, as CSV and Parquet.

    Example: pardalis ledger --out ledger-2026-11 --corpus s3://bucket/corpus

    Parameters
    ----------
    out
        Folder or s3:// address that the tables are written to.
    usage
        Folder or s3:// address in which `pardalis index serve --usage` counted; give it again for more.
    """
    options = options or ReadOptions()
    corpus, place = options.open(), Store.at(out)
    version = corpus.newest()
    served = Served()
    for one in usage:
        served.add(Store.at(one))
    book, read = kept(corpus, version, served.times)
    terms = compensations(corpus, version)
    found = {
        "contributors": table(("contributor",), {(name,): one for name, one in book.contributors.items()}),
        "licenses": table(("license",), {(name,): one for name, one in book.licenses.items()}, terms),
        "contributors-licenses": table(("contributor", "license"), book.pairs, terms),
        "runs": table_of_runs(read),
    }
    files = [file for name, one in found.items() for file in sheets.write(place, name, one)]
    facts = {
        "corpus": corpus.store.uri,
        "version": version.number,
        "as_of": version.as_of,
        "contributors": len(book.contributors.keys() - OF_NONE),
        "licenses": len(book.licenses.keys() - OF_NONE),
        "totals": {name: book.totals[name] for name in FIELDS},
        "runs": found["runs"].to_pylist(),
        "served": {"files": served.num_files, "since": served.since, "until": served.until},
        "files": files,
    }
    answer(facts, "\n".join(told(facts, book)), json=options.json)


def compensations(corpus: Corpus, version: Version) -> dict[str, dict[str, Any]]:
    """What each licence says of who is paid how, by PROVIDER:LICENSE."""
    found = {}
    for provider in sorted({folded.provider for folded in version.deliveries}):
        for name, record in folding.licenses(corpus.store, version, provider).items():
            terms = record.compensation
            found[f"{provider}:{name}"] = {
                "expression": record.expression,
                "licensor": record.licensor.name,
                "compensation": None if terms is None else terms.scheme,
                "report_every_days": None if terms is None else terms.report_every_days,
            }
    return found


TERMS = {
    "expression": pa.string(),
    "licensor": pa.string(),
    "compensation": pa.string(),
    "report_every_days": pa.int64(),
}


def table(
    names: Sequence[str],
    accounts: Mapping[Any, Account],
    terms: Mapping[str, Mapping[str, Any]] | None = None,
) -> pa.Table:
    """A line an account, by name; the last name is a licence's where there are ``terms``."""
    kinds = {**dict.fromkeys(names, pa.string()), **(TERMS if terms is not None else {})}
    schema = pa.schema([*kinds.items(), *((name, pa.int64()) for name in FIELDS)])
    rows = (
        {
            **dict(zip(names, key, strict=True)),
            **(terms or {}).get(key[-1], {}),
            **{name: account[name] for name in FIELDS},
        }
        for key, account in sorted(accounts.items())
    )
    return pa.Table.from_pylist(list(rows), schema=schema)


RUNS = {
    "identity": pa.string(),
    "folder": pa.string(),
    "source": pa.string(),
    "version": pa.int64(),
    "step": pa.string(),
    "epoch": pa.int64(),
    "row": pa.int64(),
    "is_known": pa.bool_(),
    "times_seen": pa.int64(),
    "times_retrieved": pa.int64(),
}


def table_of_runs(read: Iterable[Read]) -> pa.Table:
    rows = [
        {
            **one.reading.facts,
            "step": one.reading.made[0],
            "is_known": one.counts is not None,
            **(one.counts or {}),
        }
        for one in read
    ]
    return pa.Table.from_pylist(rows, schema=pa.schema([*RUNS.items()]))


MOST = 5
"""Accounts that the summary names."""


def told(facts: Mapping[str, Any], book: Book) -> Iterator[str]:
    """The summary for people."""
    totals, runs = book.totals, facts["runs"]
    yield f"{facts['corpus']}, version {facts['version']}, rights as of {facts['as_of']}"
    yield (
        f"  {totals['assets']} assets of {facts['contributors']} contributors under "
        f"{facts['licenses']} licences"
    )
    as_target, as_neighbor = (sum(totals[name] for name in TOKENS[at : at + 2]) for at in (0, 2))
    yield (
        f"  tokens for training: {as_target} of targets, {as_neighbor} of neighbors; held out: "
        f"{totals['held_out_tokens']}"
    )
    yield (
        f"  {len(runs)} sources of runs, as of their last checkpoints: seen {totals['times_seen']} times as "
        f"target, {totals['times_retrieved']} as neighbor"
    )
    for run in (run for run in runs if not run["is_known"]):
        where = f"run {run['identity']}" + (f", source {run['source']}" if run["source"] else "")
        yield f"  {where}: unknown, and in no count: its packs are gone"
    served = facts["served"]
    span = f"from {served['since']} to {served['until']}" if served["files"] else "see --usage"
    yield f"  answers of the search: {totals['times_served']}; {served['files']} files, {span}"
    most = sorted(book.contributors.items(), key=lambda one: (-one[1]["times_seen"], one[0]))[:MOST]
    yield from (f"  {name}: {', '.join(f'{one[field]} {field}' for field in SUMMED)}" for name, one in most)
    yield "  of all time: runs do not tell when they passed what, so no dates can be asked for"
    yield from (f"  {file}" for file in facts["files"])


SUMMED = ("assets", "times_seen", "times_retrieved", "times_served")
