"""Gates say no, waivers are written down, and what was not measured is not good enough."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pipeline.card import command, gating, settings
from pipeline.card.settings import Waiver
from pipeline.reading import BadConfig

AS_OF = datetime(2026, 6, 1, tzinfo=UTC)
SPREAD = {"values": {"gini": 0.5, "largest_share": None}}
FIGURES: dict[str, Any] = {"contributors.spread": SPREAD}
WAIVER = Waiver(gate="contributors.gini.max", reason="a pilot", by="the board", until=date(2026, 7, 1))


@pytest.mark.parametrize(
    ("gate", "threshold", "verdict"),
    [
        ("contributors.gini.max", 0.5, "passed"),
        ("contributors.gini.max", 0.4999, "refused"),
        ("contributors.gini.min", 0.5, "passed"),
        ("contributors.gini.min", 0.5001, "refused"),
        ("contributors.largest_share.max", 1.0, "refused"),
        ("retrieval.gini.max", 1.0, "refused"),
        ("retrieval.gini.min", 0.0, "refused"),
    ],
)
def test_a_gate_says_no_beyond_its_threshold_and_where_nothing_was_measured(
    gate: str, threshold: float, verdict: str
) -> None:
    (found,) = gating.judged(FIGURES, {gate: threshold}, (), AS_OF)
    assert found.verdict == verdict
    assert bool(gating.refusal([found])) == (verdict == "refused")


@pytest.mark.parametrize(("until", "verdict"), [(2, "waived"), (1, "refused")])
def test_a_waiver_holds_for_versions_before_its_day(until: int, verdict: str) -> None:
    waiver = WAIVER.model_copy(update={"until": date(2026, 6, until)})
    (found,) = gating.judged(FIGURES, {"contributors.gini.max": 0.1}, [waiver], AS_OF)
    assert found.verdict == verdict
    assert found.by == ("the board" if verdict == "waived" else "")
    assert found.value == 0.5


def test_a_verdict_says_as_of_when_terms_and_waivers_were_judged() -> None:
    (found,) = gating.judged(FIGURES, {"contributors.gini.max": 0.1}, (), AS_OF)
    assert found.as_of == "2026-06-01T00:00:00+00:00"


@pytest.mark.parametrize("days", [31, 400])
def test_that_rights_were_judged_long_ago_is_told_in_a_line_with_what_to_do(days: int) -> None:
    told = command.old(AS_OF.isoformat(), AS_OF + timedelta(days=days))
    assert f"{days} days ago" in told
    assert "pardalis ingest" in told
    assert "\n" not in told
    assert command.old(AS_OF.isoformat(), AS_OF + timedelta(days=30)) == ""


def test_a_gate_that_passes_needs_no_waiver() -> None:
    (found,) = gating.judged(FIGURES, {"contributors.gini.max": 0.6}, [WAIVER], AS_OF)
    assert (found.verdict, found.by) == ("passed", "")


def test_a_refusal_tells_every_gate_with_its_value() -> None:
    gates = {"contributors.gini.max": 0.25, "retrieval.gini.max": 0.5, "contributors.gini.min": 0.1}
    told = gating.refusal(gating.judged(FIGURES, gates, (), AS_OF))
    assert told.startswith("2 gates said no: contributors.gini is 0.5, asked at most 0.25; retrieval.gini ")
    assert "waiver" in told


@pytest.mark.parametrize("text", ["contributors.gini.max", "contributors.gini.max=", "=", "x=much"])
def test_what_is_no_gate_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"write NAME\.max=NUMBER"):
        gating.told([text])


def test_gates_of_a_command_line() -> None:
    assert gating.told(["a.max=0.5", "b.min = 2"]) == {"a.max": 0.5, "b.min": 2}


@pytest.mark.parametrize("name", ["contributors.gini", "contributors.gini.most", "nothing.max", ".max"])
def test_a_gate_on_nothing_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"there is no gate .*contributors\.gini"):
        gating.check({name: 1.0}, ())


def test_a_waiver_of_no_gate_is_refused() -> None:
    with pytest.raises(ValueError, match=r"waiver of the board is of 'contributors\.gini\.max'"):
        gating.check({"contributors.gini.min": 1.0}, [WAIVER])


def test_settings_are_read_and_their_paths_are_from_where_they_lie(tmp_path: Path) -> None:
    path = tmp_path / "card.toml"
    path.write_text(
        'ngram = 5\n[gates]\n"contributors.gini.max" = 1\n[benchmarks]\ncoco = "lists/coco.txt"\n'
        '[[waivers]]\ngate = "contributors.gini.max"\nreason = "a pilot"\nby = "the board"\n'
        "until = 2026-07-01\n"
    )
    found = settings.load(path)
    assert found.gates == {"contributors.gini.max": 1}
    assert found.waivers == (WAIVER,)
    assert found.benchmarks == {"coco": str(tmp_path / "lists" / "coco.txt")}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("ngrams = 5", "ngrams"),
        ("least = 9", "least = 9"),
        ('[[waivers]]\ngate = "x"\nreason = ""\nby = "us"\nuntil = 2026-07-01', "reason"),
        ("gates = [", "is not TOML"),
    ],
)
def test_settings_that_cannot_be_are_refused(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "card.toml"
    path.write_text(text)
    with pytest.raises(BadConfig, match=told):
        settings.load(path)


def test_settings_that_are_not_there_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match="give --settings a TOML file"):
        settings.load(tmp_path / "none.toml")
