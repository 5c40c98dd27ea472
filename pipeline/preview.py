"""`pardalis filters preview`: pictures on both sides of each threshold, so that a person can set it.

The surprising rule: nothing is built. Values are the catalog's, so another threshold is previewed with
``--set`` in seconds; what a licence does not let anybody see is a grey box.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from infra.corpus import Corpus, Version
from infra.options import CorpusOptions, answer
from pipeline import borderline, jobs, meanings, pages, schema, weights
from pipeline.gates import SLOT, Gate, gates
from pipeline.histograms import drawn
from pipeline.rules import Rule
from pipeline.thumbnails import thumbnails

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

    Example: pardalis filters preview --rule min_side --set 'pipeline.filters.min_side = 512' --out p.html

    Parameters
    ----------
    rule
        Codes of the rules to show; default all.
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
    corpus = options.open()
    version = corpus.newest()
    config = jobs.load(corpus, options)
    weights.check_filters(config)
    found = gates(corpus, version, config.pipeline)
    steps = [measured(gate, asked(found, rule), count) for gate in found]
    facts = {"corpus": corpus.store.uri, "version": version.number, "as_of": version.as_of, "steps": steps}
    if page:
        pages.write(page, "preview.html", **facts, pictures=pictured(corpus, version, steps))
    answer({**facts, "steps": [plain(step) for step in steps]}, told(facts, page), json=options.json)


def asked(found: Sequence[Gate], codes: Sequence[str]) -> frozenset[str]:
    there = {rule.code: None for gate in found for rule in gate.rules}
    if unknown := [code for code in codes if code not in there]:
        raise ValueError(
            f"no rule {unknown[0]!r} is on; those that are: {', '.join(there)}. A rule without a threshold "
            "is off: set it, such as --set 'pipeline.filters.min_sharpness = 50'"
        )
    return frozenset(codes or there)


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


FACTS = (schema.UID, schema.KEY, schema.DESCRIPTION, schema.MAY_BE_SHOWN, SLOT)


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


def sides_of(step: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [one for rule in step["rules"] for one in (*rule["nearest_rejected"], *rule["nearest_kept"])]


def pictured(
    corpus: Corpus, version: Version, steps: Sequence[Mapping[str, Any]]
) -> dict[tuple[str, str], str]:
    """The pictures that may be shown, by slot and key."""
    rows = [one for step in steps for one in sides_of(step)]
    wanted = {(one[SLOT.name], one[schema.KEY.name]) for one in rows if one[schema.MAY_BE_SHOWN.name]}
    return thumbnails(corpus, version, wanted)


def plain(step: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers of a step, without what only the page needs."""
    kept = ("uid", "value", "also")
    rules = []
    for rule in step["rules"]:
        sides = {
            name: [{key: one[key] for key in kept} for one in rule[name]]
            for name in ("nearest_rejected", "nearest_kept")
        }
        choices = [{"bound": c.bound, "rejected": c.rejected, "share": c.share} for c in rule["what_if"]]
        numbers = {name: value for name, value in rule.items() if name not in ("histogram", "words")}
        rules.append({**numbers, "what_if": choices, **sides})
    return {**step, "rules": rules}


def told(facts: Mapping[str, Any], page: Path | None) -> str:
    lines = [f"{facts['corpus']}, version {facts['version']}; nothing was built"]
    for step in facts["steps"]:
        lines.append(f"  {step['step']}: {step['rows']} rows, {step['rejected']} would be taken out")
        for rule in step["rules"]:
            bound = f"{rule['sign']} {rule['bound']:g}"
            alone, first = rule["rejected_alone"], rule["rejected_first"]
            lines.append(f"    {rule['code']:<20} {bound:>10}  {alone:>7} alone, {first:>7} as first rule")
    return "\n".join([*lines, f"page: {page}"] if page else lines)
