"""`pardalis filters preview`: pictures on both sides of each threshold, so that a person can set it.

The surprising rule: nothing is built. Values are the catalog's, so another threshold is previewed with
``--set`` in seconds; what a licence does not let anybody see is a grey box.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from infra.corpus import Corpus, Version
from infra.options import CorpusOptions, answer
from pipeline import config, pages, pairs, schema, weights
from pipeline.filtering.rules import Rule
from pipeline.likeness.linking import PASSES
from pipeline.reviewing import borderline, meanings
from pipeline.reviewing.gates import FACTS, Gate, gates
from pipeline.reviewing.histograms import drawn
from pipeline.reviewing.thumbnails import thumbnails
from pipeline.settings import Asked

MOST = 40
"""Pictures on each side of a threshold: with 25 rules, a page of 15 MB."""


def preview(
    *,
    rule: tuple[str, ...] = (),
    count: int = 8,
    out: Path | None = None,
    options: CorpusOptions | None = None,
) -> None:
    """Show what lies on both sides of each threshold, on one HTML page, without building anything.

    Duplicates are shown in pairs, as the last build found them.

    Example: pardalis filters preview --rule min_side --set 'pipeline.filters.min_side = 512' --out p.html

    Parameters
    ----------
    rule
        Rules to show, by their codes or their settings, such as near_duplicate or min_side; default all.
    count
        How many pictures on each side of a threshold, the nearest first.
    out
        The page; default filters.html, and none with --json.
    """
    options = options or CorpusOptions()
    if not 1 <= count <= MOST:
        raise ValueError(f"--count {count} is out of range; ask for 1 to {MOST} pictures on each side")
    if out is None and not options.json:
        out = Path("filters.html")
    page = pages.place(out) if out else None
    question = Asked.of(options)
    corpus, version = question.corpus, question.corpus.newest()
    settings = config.of(question.told)
    weights.check_filters(settings)
    found = gates(corpus, version, settings.pipeline)
    codes = asked([*(one.code for gate in found for one in gate.rules), *pairs.there(version)], rule)
    facts = {
        "corpus": corpus.store.uri,
        "version": version.number,
        "as_of": version.as_of,
        "objection": weights.objection(settings),
        "steps": [measured(gate, codes, count) for gate in found],
        "duplicates": pairs.shown(corpus, version, codes, count),
    }
    if page:
        pages.write(page, "preview.html", **facts, pictures=pictured(corpus, version, facts))
    answer(plain(facts), told(facts, page), json=options.json)


def asked(there: Sequence[str], names: Sequence[str]) -> frozenset[str]:
    """The codes of the rules that are named, by code or by setting; all without a name."""
    for name in names:
        if not any(meanings.named(code, name) for code in there):
            raise ValueError(
                f"no rule {name!r} is on; {advice(name)}those that are: {meanings.listed(there)}"
            )
    return frozenset(code for code in there if not names or any(meanings.named(code, name) for name in names))


def advice(name: str) -> str:
    """How a rule that is not on comes onto the page; empty for a name that no rule has."""
    setting = meanings.setting_called(name)
    if name in PASSES or setting.startswith(meanings.DUPLICATES):
        return "duplicates are found by `pardalis build --to dedup`; "
    if setting.startswith(meanings.SCREEN):
        return f"set {setting} and its scorer in pipeline.scores, and run `pardalis build --to screen`; "
    return f"set {setting}, which switches it on; " if setting else ""


def measured(gate: Gate, codes: frozenset[str], count: int) -> dict[str, Any]:
    """All that is told of a step: its rows, and each rule that is asked for."""
    first = borderline.num_first(gate.rules)
    rules = [
        {**of_rule(gate, rule, count), "rejected_first": num}
        for rule, num in zip(gate.rules, first, strict=True)
        if rule.code in codes
    ]
    return {"step": gate.step, "rows": gate.rows.num_rows, "rejected": sum(first), "rules": rules}


def of_rule(gate: Gate, rule: Rule, count: int) -> dict[str, Any]:
    sides = borderline.nearest(rule, gate.rows[schema.UID.name], count)
    meaning, level = meanings.of(rule.code), borderline.level(rule, count)
    return {
        "code": rule.code,
        "setting": meaning.setting,
        "meaning": meaning.told,
        "words": meaning.words,
        "sign": rule.sign,
        "bound": rule.bound,
        "outcome": rule.outcome,
        "measured": len(borderline.measured(rule)),
        "rejected_alone": borderline.num_rejected(rule),
        "quantiles": borderline.quantiles(rule),
        "what_if": borderline.what_if(rule),
        "histogram": drawn(rule),
        "nearest_rejected": shown(gate, rule, sides.rejected),
        "nearest_kept": shown(gate, rule, sides.kept) if level is None else [],
        "level": level,
    }


def shown(gate: Gate, rule: Rule, rows: Sequence[int]) -> list[dict[str, Any]]:
    """What the page tells of each row; ``also`` are the other rules that it breaks."""
    columns = [column.name for column in FACTS]
    at = pa.array(rows, pa.int64())
    facts = gate.rows.select(columns).take(at).to_pylist()
    values = borderline.values_of(rule).take(at).to_pylist()
    words = ["" if rule.words is None else rule.words[row].as_py() for row in rows]
    also = borderline.also_broken(gate.rules, rule, rows)
    found = zip(facts, values, words, also, strict=True)
    return [{**row, "value": value, "words": told, "also": codes} for row, value, told, codes in found]


def on_the_page(facts: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Every row that has a place for a picture."""
    for rule in (rule for step in facts["steps"] for rule in step["rules"]):
        yield from (*rule["nearest_rejected"], *rule["nearest_kept"])
    for pair in (pair for found in facts["duplicates"] for pair in found["pairs"]):
        yield from (pair["out"], pair["stays"])


def pictured(corpus: Corpus, version: Version, facts: Mapping[str, Any]) -> dict[tuple[str, str], str]:
    """The pictures that may be shown, by slot and key."""
    rows = on_the_page(facts)
    wanted = {(one[schema.SLOT.name], one[schema.KEY.name]) for one in rows if one[schema.MAY_BE_SHOWN.name]}
    return thumbnails(corpus, version, wanted)


def plain(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers, without what only the page needs."""
    steps = [{**step, "rules": list(map(plain_rule, step["rules"]))} for step in facts["steps"]]
    duplicates = [
        {**found, "pairs": [without(pair, "out", "stays") for pair in found["pairs"]]}
        for found in facts["duplicates"]
    ]
    return {**facts, "steps": steps, "duplicates": duplicates}


def plain_rule(rule: Mapping[str, Any]) -> dict[str, Any]:
    kept = ("uid", "value", "also")
    sides = {
        name: [{key: one[key] for key in kept} for one in rule[name]]
        for name in ("nearest_rejected", "nearest_kept")
    }
    choices = [{"bound": c.bound, "rejected": c.rejected, "share": c.share} for c in rule["what_if"]]
    return {**without(rule, "histogram", "words"), "what_if": choices, **sides}


def without(facts: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in facts.items() if name not in names}


def told(facts: Mapping[str, Any], page: Path | None) -> str:
    lines = [f"{facts['corpus']}, version {facts['version']}; nothing was built"]
    for step in facts["steps"]:
        lines.append(f"  {step['step']}: {step['rows']} rows, {step['rejected']} would be taken out")
        for rule in step["rules"]:
            bound = f"{rule['sign']} {rule['bound']:g}"
            alone, first = rule["rejected_alone"], rule["rejected_first"]
            name = meanings.listed([rule["code"]])
            lines.append(f"    {name:<40} {bound:>10}  {alone:>7} alone, {first:>7} as first rule")
    if facts["duplicates"]:
        lines.append("  dedup, as it was built:")
        lines += [
            f"    {meanings.listed([one['code']]):<40} {'':>10}  {one['rows']:>7} taken out"
            for one in facts["duplicates"]
        ]
    if facts["objection"]:
        lines.append(f"a build with these settings would be refused here: {facts['objection']}")
    return "\n".join([*lines, f"page: {page}"] if page else lines)
