"""Gates: thresholds on what was measured, and the waivers of those who answer for one that says no.

The surprising rule: a gate on what was not measured says no. Whoever asks that at most a tenth of a corpus be
in some list does not mean "unless nobody looked". And the clock is the version's: terms and waivers end as of
its instant, so that a card that is made again says the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from pipeline.card.settings import Waiver
from pipeline.card.shifts import UNMARKED

Figures = Mapping[str, Mapping[str, Any]]
"""Of the card, by name."""
BOUNDS = (".max", ".min")


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    gate: str
    threshold: float
    value: float | None
    """Null where it was not measured."""
    verdict: Literal["passed", "refused", "waived"]
    as_of: str
    """The version's instant, by which terms and waivers are judged."""
    reason: str = ""
    """Of the waiver."""
    by: str = ""
    until: str = ""


def parts_named(figure: str, column: str, value: str) -> Callable[[Figures], float | None]:
    """Share of the rows of a table with a value; 0 where no row has it."""

    def measure(figures: Figures) -> float | None:
        if figure not in figures:
            return None
        rows = [row for row in figures[figure]["values"] if row[column] == value]
        share: float | None = rows[0]["share"] if rows else 0.0
        return share

    return measure


def of(figure: str, name: str) -> Callable[[Figures], float | None]:
    """A number of a figure."""

    def measure(figures: Figures) -> float | None:
        found: float | None = figures[figure]["values"].get(name) if figure in figures else None
        return found

    return measure


def soon(days: int) -> Callable[[Figures], float | None]:
    def measure(figures: Figures) -> float | None:
        total = sum(figures["rights.expiry"]["values"].values())
        ending: int = figures["rights.soon"]["values"][f"within_{days}_days"]
        return ending / total if total else None

    return measure


def unreleased(figures: Figures) -> float | None:
    """Of the assets with people, or of which nobody knows: the share without an unlimited release."""
    rows = [row for row in figures["people.releases"]["values"] if row["people"] != "no"]
    if any(row["assets"] is None for row in rows):
        return None
    total = sum(row["assets"] for row in rows)
    lacking = sum(row["assets"] for row in rows if row["release"] != "unlimited")
    return lacking / total if total else 0.0


def over_removed(figures: Figures) -> float | None:
    rows = [row for cut in figures["shift.cuts"]["values"] for row in cut["groups"] if row["flag"]]
    return max((row["ratio"] for row in rows if row["ratio"] is not None), default=1.0)


def retrieved(figures: Figures) -> float | None:
    rows = figures.get("retrieval.shown", figures.get("retrieval.candidates"))
    if rows is None:
        return None
    found = (row["log2_ratio"] for row in rows["values"]["groups"] if row["group"] != UNMARKED)
    return max((abs(one) for one in found if one is not None), default=0.0)


def contaminated(figures: Figures) -> float | None:
    rows = figures["contamination.captions"]["values"]
    return max((row["share"] for row in rows), default=None)


MEASURES: Mapping[str, Callable[[Figures], float | None]] = {
    "associations.log2_ratio": of("associations.summary", "max_abs_log2_ratio"),
    "associations.npmi_gap": of("associations.summary", "max_abs_npmi_gap"),
    "associations.skewed": of("associations.summary", "skewed"),
    "contamination.share": contaminated,
    "contributors.gini": of("contributors.spread", "gini"),
    "contributors.largest_share": of("contributors.spread", "largest_share"),
    "contributors.top_10_share": of("contributors.spread", "top_10_share"),
    "people.adult_share": parts_named("people.adult", "adult", "yes"),
    "people.ai_generated_share": parts_named("people.ai_generated", "ai_generated", "yes"),
    "people.editorial_share": parts_named("people.editorial", "editorial", "yes"),
    "people.minors_share": parts_named("people.minors", "minors", "yes"),
    "people.unreleased_share": unreleased,
    "retrieval.gini": of("retrieval.shown", "gini"),
    "retrieval.group_log2_ratio": retrieved,
    "retrieval.top_1_percent_share": of("retrieval.shown", "top_1_percent_share"),
    "rights.ending_30_days": soon(30),
    "rights.ending_90_days": soon(90),
    "rights.ending_365_days": soon(365),
    "safety.personal": of("safety.personal", "any"),
    "safety.term_share": of("safety.any_term", "share"),
    "shift.ratio": over_removed,
}
"""What a gate may be set on."""


def told(words: Iterable[str]) -> dict[str, float]:
    """Gates of a command line, each ``NAME.max=NUMBER`` or ``NAME.min=NUMBER``."""
    found = {}
    for text in words:
        name, equals, number = text.partition("=")
        try:
            found[name.strip()] = float(number)
        except ValueError:
            equals = ""
        if not equals:
            raise ValueError(f"--gate {text} is no gate; write NAME.max=NUMBER or NAME.min=NUMBER")
    return found


def check(gates: Mapping[str, float], waivers: Sequence[Waiver]) -> None:
    """Raises ValueError for a name that nothing is measured under."""
    for name in gates:
        if not name.endswith(BOUNDS) or name[:-4] not in MEASURES:
            listed = ", ".join(MEASURES)
            raise ValueError(f"there is no gate {name!r}; it is one of these with .max or .min: {listed}")
    for waiver in waivers:
        if waiver.gate not in gates:
            raise ValueError(
                f"the waiver of {waiver.by} is of {waiver.gate!r}, and there is no such gate; set it, or "
                "take the waiver out"
            )


def judged(
    figures: Figures, gates: Mapping[str, float], waivers: Sequence[Waiver], as_of: datetime
) -> list[Verdict]:
    """Every gate with what it says, in the order of their names."""
    found = []
    for name, threshold in sorted(gates.items()):
        value = MEASURES[name[:-4]](figures)
        good = value is not None and (value <= threshold if name.endswith(".max") else value >= threshold)
        holding = [one for one in waivers if one.gate == name and as_of.date() < one.until]
        verdict: Literal["passed", "refused", "waived"] = (
            "passed" if good else "waived" if holding else "refused"
        )
        waiver = (
            {"reason": holding[0].reason, "by": holding[0].by, "until": holding[0].until.isoformat()}
            if verdict == "waived"
            else {}
        )
        judged_at = as_of.isoformat()
        found.append(
            Verdict(gate=name, threshold=threshold, value=value, verdict=verdict, as_of=judged_at, **waiver)
        )
    return found


def refusal(verdicts: Sequence[Verdict]) -> str:
    """What those that say no say; empty where none does."""
    lines = []
    for one in verdicts:
        if one.verdict == "refused":
            value = "was not measured" if one.value is None else f"is {one.value:.6g}"
            bound = "at most" if one.gate.endswith(".max") else "at least"
            lines.append(f"{one.gate[:-4]} {value}, asked {bound} {one.threshold:g}")
    if not lines:
        return ""
    fix = "change the corpus or the gate, or have somebody answer for it in a waiver"
    return f"{len(lines)} gate{'s' * (len(lines) > 1)} said no: {'; '.join(lines)}; {fix}"
