"""``pardalis card``: the card of a version as a page, as JSON, and as the documents that others ask for."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from infra.corpus import Corpus, Version
from infra.ending import GateRefused
from infra.options import ReadOptions, answer, as_json
from infra.storage import LocalStore
from infra.telemetry import say
from pipeline.card import (
    croissant,
    eusummary,
    gating,
    measuring,
    page,
    provenance,
    settings,
    termlists,
    wording,
)

PAGE, CARD, CROISSANT = "card.html", "card.json", "croissant.json"
SUMMARY, PROVENANCE = "eu-training-content-summary.md", "provenance.json"
OLD = timedelta(days=30)
"""From which on rights are worth judging anew: the shortest span that a gate on ends of terms has."""


def card(
    *,
    out: Path,
    before: int | None = None,
    gate: Annotated[tuple[str, ...], Parameter(negative="")] = (),
    settings_file: Annotated[Path | None, Parameter(name="--settings")] = None,
    options: ReadOptions | None = None,
) -> None:
    """Tell what is in the newest version: rights, people, who is named and with what, whom filters hit, what
    retrieval shows, whose it is, and what is not known. All is written first; then exit code 3 where a gate
    says no.

    Example: pardalis card --out card --gate people.minors_share.max=0.01 --corpus demo/corpus

    Parameters
    ----------
    out
        Folder for card.html, card.json, croissant.json, provenance.json and eu-training-content-summary.md.
    before
        Number of an earlier version; what is named is set beside it.
    gate
        NAME.max=NUMBER or NAME.min=NUMBER, beside those of the settings. Ends of terms (rights.ending_*) and
        of waivers are judged as of the version's instant, not today's: pardalis ingest judges rights anew.
    settings_file
        TOML file: gates, waivers, terms, benchmarks, a reference of countries, words about the corpus.
    """
    options = options or ReadOptions()
    told = settings.load(settings_file)
    told = told.model_copy(update={"gates": {**told.gates, **gating.told(gate)}})
    gating.check(told.gates, told.waivers)
    lists = termlists.loaded(termlists.files(told.terms))
    folder = LocalStore(str(place(out)))
    corpus = options.open()
    version = corpus.newest()
    asked = measuring.Asked(
        corpus=corpus,
        version=version,
        settings=told,
        lists=lists,
        before=None if before is None else earlier(corpus, version, before),
    )
    found = measuring.card(asked)
    for name, text in written(found, asked):
        folder.write(name, text.encode())
    answer(found, "\n".join(said(found, out)), json=options.json)
    if warning := old(version.as_of, datetime.now(UTC)):
        say(warning)
    verdicts = [gating.Verdict(**one) for one in found["gates"]]
    if refusal := gating.refusal(verdicts):
        raise GateRefused(refusal)


def place(out: Path) -> Path:
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out {out} is a file; name a folder")
    out.mkdir(parents=True, exist_ok=True)
    return out


def earlier(corpus: Corpus, version: Version, number: int) -> Version:
    known = [one for one in corpus.numbers() if one < version.number]
    if number not in known:
        listed = ", ".join(map(str, known)) or "none"
        raise ValueError(f"--before {number} is no version before {version.number}; there are: {listed}")
    return corpus.version(number)


def written(found: dict[str, Any], asked: measuring.Asked) -> Iterator[tuple[str, str]]:
    """The files and what is in them."""
    about = asked.settings.about
    yield CARD, as_json(found) + "\n"
    yield PAGE, page.rendered(found)
    yield CROISSANT, as_json(croissant.document(found, asked.corpus, asked.version, about)) + "\n"
    yield PROVENANCE, as_json(provenance.document(found, about)) + "\n"
    yield SUMMARY, eusummary.document(found, about)


def old(as_of: str, now: datetime) -> str:
    """That a version's rights were judged long ago, and what to do; empty where they were not.

    >>> old("2026-06-01T00:00:00+00:00", datetime(2026, 7, 1, tzinfo=UTC))
    ''
    """
    age = now - datetime.fromisoformat(as_of)
    if age <= OLD:
        return ""
    return (
        f"rights were judged as of {as_of}, {age.days} days ago, and what ended since counts as running, for "
        "gates too: pardalis ingest, which needs no delivery, judges rights anew; then make the card again"
    )


def said(found: dict[str, Any], out: Path) -> Iterator[str]:
    kept, delivered = wording.kept(found), wording.delivered(found)
    yield f"{found['title']}, version {found['version']}: {kept:,} assets of {delivered:,} delivered"
    soon = wording.values(found, "rights.soon")
    yield f"  terms that end within a year of {soon['as_of']}: {soon['within_365_days']:,} assets"
    yield f"  {wording.associated(found, 3)}"
    if found["gates"]:
        yield f"  gates, with ends of terms and waivers as of {found['as_of']}:"
    for one in found["gates"]:
        value = "not measured" if one["value"] is None else f"{one['value']:.6g}"
        waiver = f", {one['by']}: {one['reason']}" if one["by"] else ""
        yield f"  {one['gate']} {one['threshold']:g}: {value}, {one['verdict']}{waiver}"
    yield f"page: {out / PAGE}"
