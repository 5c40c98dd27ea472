"""The command and its files: what they hold, what they do not give away, and how they end."""

from __future__ import annotations

import collections
import copy
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlcroissant
import pytest

from infra.cli import run
from infra.ending import MISTAKE, REFUSED
from pipeline.card import page
from pipeline.card.figures import LEAST
from pipeline.card.safety import Safety
from pipeline.card.termlists import OWN
from tests.pipeline.card.written import Written

pytestmark = pytest.mark.long
FILES = ["card.html", "card.json", "croissant.json", "eu-training-content-summary.md", "provenance.json"]
HOSTILE = "<script>alert('a')</script>"


def made(written: Written, out: Path, *words: str, code: int = 0) -> dict[str, Any]:
    corpus = written.corpus.store.uri
    assert run(["card", "--out", str(out), "--corpus", corpus, *words]) == code
    found: dict[str, Any] = json.loads((out / "card.json").read_text())
    return found


@pytest.fixture(scope="module")
def out(written: Written, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A card with all that may be said of a corpus."""
    folder = tmp_path_factory.mktemp("made")
    settings = folder / "card.toml"
    settings.write_text(
        f'[about]\ntitle = "{HOSTILE}"\nissuer = "Example Ltd"\nurl = "https://example.org/data"\n'
        'use_cases = "Drawing"\n[reference]\nsource = "nobody"\n[reference.countries]\nNL = 0.25\n'
        '[gates]\n"contributors.gini.max" = 0.01\n[[waivers]]\ngate = "contributors.gini.max"\n'
        'reason = "a pilot"\nby = "the board"\nuntil = 2026-07-01\n'
    )
    made(written, folder, "--settings", str(settings), "--before", "1", "--gate", "people.minors_share.max=0")
    return folder


def test_all_is_written_and_the_same_again(written: Written, out: Path, tmp_path: Path) -> None:
    words = ["--settings", str(out / "card.toml"), "--before", "1", "--gate", "people.minors_share.max=0"]
    made(written, tmp_path, *words)
    assert sorted(path.name for path in tmp_path.iterdir()) == FILES
    for name in FILES:
        assert (tmp_path / name).read_bytes() == (out / name).read_bytes(), name


@pytest.mark.filterwarnings("ignore:ConjunctiveGraph is deprecated:DeprecationWarning")  # rdflib, of itself
def test_croissant_has_no_fault_and_no_warning(out: Path) -> None:
    dataset = mlcroissant.Dataset(jsonld=str(out / "croissant.json"))
    assert dataset.metadata.ctx.issues.report() == ""
    assert dataset.metadata.conforms_to[0] == "http://mlcommons.org/croissant/1.1"
    assert dataset.metadata.name == HOSTILE
    told = dataset.metadata
    assert told.data_use_cases == ["Drawing"]
    assert any("women" in one for one in told.data_biases)
    assert all(
        (
            told.data_collection,
            told.data_limitations,
            told.personal_sensitive_information,
            told.data_release_maintenance_plan,
            told.data_social_impact,
        )
    )
    fields = [field.id for field in told.record_sets[0].fields]
    assert {"assets/uid", "assets/description", "assets/licenses"} <= set(fields)


def test_croissant_names_the_very_files_of_the_version(written: Written, out: Path) -> None:
    document = json.loads((out / "croissant.json").read_text())
    root = Path(written.corpus.store.where(""))
    catalog = next(one for one in document["distribution"] if one["@id"] == "catalog")
    key = json.loads((out / "card.json").read_text())["artifacts"]["split"]
    shards = json.loads((root / "artifacts" / "split" / f"{key}.json").read_text())["shards"]
    assert len(catalog["includes"]) == len(shards) > 1
    assert all((root / name).is_file() for name in catalog["includes"])


def test_the_fields_of_provenance_are_the_22_of_the_standard(out: Path) -> None:
    found = json.loads((out / "provenance.json").read_text())
    assert {name: len(fields) for name, fields in found.items()} == {"source": 6, "provenance": 8, "use": 8}
    assert found["source"]["dataset_issuer"] == "Example Ltd"
    assert found["use"]["consent_documentation_location"] == "not stated"
    licences = {row["license"]: row["assets"] for row in found["use"]["license_to_use"]}
    presence = found["use"]["proprietary_data_presence"]
    assert presence["public_licence"] == licences["acme:words"] > licences["acme:drawn"] > 0
    contracts = ("open", "ends-soon", "ends-later", "pictures")
    assert presence["contract"] == sum(licences[f"acme:{name}"] for name in contracts)
    assert presence["public_domain"] == 0
    assert found["provenance"]["date_of_previously_issued_version"].startswith("2026-06-01")


def test_the_summary_has_the_sections_of_the_template(out: Path) -> None:
    text = (out / "eu-training-content-summary.md").read_text()
    headings = re.findall(r"^#+ ([\d.]+)", text, re.MULTILINE)
    assert headings == [
        "1.",
        "2.",
        "2.1",
        "2.2",
        "2.2.1",
        "2.2.2",
        "2.3",
        "2.4",
        "2.5",
        "2.6",
        "3.",
        "3.1",
        "3.2",
        "3.3",
    ]
    assert "less than 1 million images" in text
    assert "CC-BY-4.0" in text.partition("### 2.2")[0]
    assert "acme:ends-soon" in text.partition("#### 2.2.1")[2].partition("#### 2.2.2")[0]


def test_the_page_stands_alone_and_escapes_what_people_wrote(out: Path) -> None:
    html = (out / "card.html").read_text()
    assert HOSTILE not in html
    assert "&lt;script&gt;" in html
    assert not re.search(r"(src|href)=\"(?!#)", html)
    assert "default-src 'none'" in html
    for name in json.loads((out / "card.json").read_text())["figures"]:
        assert f"figure <code>{name}</code>" in html


def test_one_delivery_and_one_contributor_are_no_more(card: dict[str, Any]) -> None:
    html = page.rendered(card)
    assert "deliveries of 1 provider<" in html
    assert "<span>contributors; " in html
    card = {**copy.deepcopy(card), "deliveries": card["deliveries"][:1]}
    card["figures"]["contributors.spread"]["values"]["contributors"] = 1
    html = page.rendered(card)
    assert "delivery of 1 provider<" in html
    assert "<span>contributor; " in html


def test_no_file_tells_where_the_corpus_lies_or_what_a_caption_says(written: Written, out: Path) -> None:
    for name in FILES:
        text = (out / name).read_text()
        assert written.corpus.store.uri not in text
        assert "020 7946" not in text
        assert "working as a nurse" not in text


def test_every_figure_says_what_it_was_counted_from(written: Written, out: Path) -> None:
    found = json.loads((out / "card.json").read_text())
    root = Path(written.corpus.store.where(""))
    for name, figure in found["figures"].items():
        source = figure["from"]
        assert len(source["counted"]) > 30, name
        manifest = root / "artifacts" / source["step"] / f"{source['artifact']}.json"
        shards = json.loads(manifest.read_text())["shards"].values()
        folder = root / "shards" / source["step"]
        assert all((folder / one["key"] / source["file"]).is_file() for one in shards), name


TOLD_IN_FULL = ("rights.", "contamination.", "safety.duplicates")
OF_PEOPLE = {"assets", "together", "elsewhere", "members", "citations", "entered", "removed", "count"}
OF_PEOPLE |= {"group_total", "attribute_total", "captions", "marked"}


def counts(value: Any, name: str = "") -> Iterator[tuple[str, int]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from counts(inner, name if name in OF_PEOPLE else key)
    elif isinstance(value, list):
        for inner in value:
            yield from counts(inner, name)
    elif isinstance(value, int) and name in OF_PEOPLE:
        yield name, value


def test_no_small_count_of_people_is_told(out: Path) -> None:
    found = json.loads((out / "card.json").read_text())
    told = [
        (figure, name, value)
        for figure, one in found["figures"].items()
        if not figure.startswith(TOLD_IN_FULL)
        for name, value in counts(one["values"])
    ]
    assert len(told) > 100
    assert not [one for one in told if 0 < one[2] < LEAST]
    assert any(row["assets"] is None for row in found["figures"]["representation.identity"]["values"])


def test_no_file_tells_how_few_were_taken_out_for_what_is_about_people(out: Path) -> None:
    found = json.loads((out / "card.json").read_text())
    few = ("adult", "minors")
    outcomes = {row["code"]: row["assets"] for row in found["figures"]["rights.outcomes"]["values"]}
    assert [outcomes[code] for code in few] == [None, None]
    cuts = {cut["rule"]: cut for cut in found["figures"]["shift.cuts"]["values"]}
    assert [(cuts[code]["removed"], cuts[code]["rate"], cuts[code]["groups"]) for code in few] == [
        (None, None, [])
    ] * 2
    protocol = json.loads((out / "croissant.json").read_text())["rai:dataPreprocessingProtocol"]
    assert {f"decide: rejected {code}, withheld assets" for code in few} <= set(protocol)
    summary = (out / "eu-training-content-summary.md").read_text()
    assert {"adult: withheld", "minors: withheld"} <= set(re.findall(r"\w+: withheld", summary))
    (limit,) = (one for one in found["limits"] if one.startswith("Counts from 1 to 9"))
    assert "taken out for releases, adult content, minors or personal data" in limit


def test_few_with_personal_data_that_were_taken_out_are_withheld(written: Written) -> None:
    gone = collections.Counter({"pii_email": 3, "resembles_revoked": 12, "pii_phone": 40})
    told = {
        figure.name: figure.values
        for figure in Safety((), taken_for_it=gone).figures("split", written.corpus, written.versions[1])
    }
    assert told["safety.taken_out"] == {"pii_email": None, "pii_phone": 40, "resembles_revoked": None}


def test_change_is_told_since_the_earlier_version(out: Path) -> None:
    found = json.loads((out / "card.json").read_text())
    assert found["before"]["version"] == 1
    rows = found["figures"]["associations.skewed"]["values"]
    changed = [row for row in rows if row["change"]]
    assert changed
    for row in changed:
        assert row["change"]["log2_ratio"] == pytest.approx(row["log2_ratio"] - row["before"]["log2_ratio"])
    women = found["figures"]["representation.identity"]["values"][0]
    assert women["group"] == "women"
    assert 0 < women["before"] < 1


def test_a_waiver_lets_pass_and_is_written_down(out: Path) -> None:
    found = json.loads((out / "card.json").read_text())
    told = {one["gate"]: one for one in found["gates"]}
    waived = told["contributors.gini.max"]
    assert (waived["verdict"], waived["by"], waived["reason"]) == ("waived", "the board", "a pilot")
    assert waived["value"] > 0.01
    assert told["people.minors_share.max"]["verdict"] == "passed"
    assert "a pilot" in (out / "card.html").read_text()


def test_a_gate_says_no_with_its_own_code_after_all_was_written(
    written: Written, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--gate", "contributors.gini.max=0.01", "--gate", "contamination.share.max=0.5"]
    found = made(written, tmp_path, *words, code=REFUSED)
    assert {one["verdict"] for one in found["gates"]} == {"refused"}
    assert sorted(path.name for path in tmp_path.iterdir()) == FILES
    told = capsys.readouterr()
    assert "2 gates said no: contamination.share was not measured" in told.err
    assert "contributors.gini.max 0.01: 0.3" in told.out
    assert found["before"] is None


def test_the_instant_of_rights_stands_beside_what_ends(
    written: Written, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    instant = written.versions[1].as_of
    found = made(written, tmp_path, "--gate", "rights.ending_30_days.max=1")
    told = capsys.readouterr()
    assert f"end within a year of {instant}: " in told.out
    assert f"gates, with ends of terms and waivers as of {instant}:" in told.out
    assert f"rights were judged as of {instant}" in told.err
    assert found["figures"]["rights.soon"]["values"]["as_of"] == instant
    assert [one["as_of"] for one in found["gates"]] == [instant]
    html = (tmp_path / "card.html").read_text()
    assert f"Within 30 days of {instant}" in html
    assert f"are judged as of {instant}" in html
    assert run(["card", "--help"]) == 0
    assert "rights.ending_*" in capsys.readouterr().out


def test_a_list_of_the_user_stands_in_for_ours(written: Written, tmp_path: Path) -> None:
    text = (OWN / "occupations.toml").read_text().replace("version = 1", "version = 7")
    (tmp_path / "mine.toml").write_text(text.partition("[terms")[0] + '[terms.x]\n"walker" = "walking"\n')
    (tmp_path / "card.toml").write_text('[terms]\noccupations = "mine.toml"\n')
    found = made(written, tmp_path / "out", "--settings", str(tmp_path / "card.toml"), "--json")
    (mine,) = (one for one in found["term_lists"] if one["kind"] == "occupations")
    assert (mine["version"], mine["terms"]) == (7, 1)
    assert found["figures"]["associations.always"]["values"] == []


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--before", "2"], "--before 2 is no version before 2; there are: 1"),
        (["--gate", "people.max=1"], "there is no gate 'people.max'"),
        (["--settings", "nowhere.toml"], "cannot read nowhere.toml"),
    ],
)
def test_mistakes_are_told_before_anything_is_counted(
    written: Written, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], told: str
) -> None:
    assert (
        run(["card", "--out", str(tmp_path / "o"), "--corpus", written.corpus.store.uri, *words]) == MISTAKE
    )
    assert told in capsys.readouterr().err
    assert not (tmp_path / "o" / "card.json").exists()


def test_a_file_is_no_folder(written: Written, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "o").write_text("")
    assert run(["card", "--out", str(tmp_path / "o"), "--corpus", written.corpus.store.uri]) == MISTAKE
    assert "is a file; name a folder" in capsys.readouterr().err
