"""Every command answers --help with an example; every configuration that we ship parses."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from infra.artifact import Artifact, Made, publish_artifact, publish_shard
from infra.cli import MISTAKE, run
from infra.corpus import EMPTY, Corpus
from infra.storage import Store
from pipeline import config, reading, schema, tables
from pipeline.outcomes import KEPT
from pipeline.reading import CONFIGS, BadConfig
from pipeline.step import ROWS
from trainer.config import TrainerConfig

COMMANDS = (
    "ingest",
    "build",
    "status",
    "explain",
    "logs",
    "plan",
    "submit",
    "contract schema",
    "contract template",
    "contract seal",
    "contract example",
    "filters preview",
    "filters report",
    "index query",
    "index stats",
    "tokenizer eval",
    "tokenizer encode",
    "tokenizer decode",
    "train",
    "evaluate",
    "export",
    "models-affected",
    "revoke",
    "verify",
    "gc",
    "where-is",
    "ledger",
    "card",
    "sample",
    "playground",
    "demo",
)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*command.split(), "--help"]) == 0
    assert f"Example: pardalis {command}" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.toml")), ids=lambda path: path.name)
def test_every_shipped_configuration_parses(path: Path) -> None:
    found = config.load(path)
    trainer = reading.validated(TrainerConfig, reading.read(path).values.get("trainer", {}), str(path))
    assert trainer.masking.max_spans <= found.pipeline.examples.rows.max_spans


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("pipeline.filters.min_sidee = 1", "pipeline.filters.min_sidee"),
        ('pipeline.filters.min_side = "1"', "pipeline.filters.min_side"),
        ("pipeline.split.validation = 2.0", "pipeline.split.validation"),
        ("piepline.filters.min_side = 1", "piepline"),
        ("pipeline.filters.min_side 1", "not TOML"),
        ("pipeline.filters.min_side = 1979-05-27", "pipeline.filters.min_side"),
        ("pipeline.filters.nothing = 1979-05-27T07:32:00Z", "pipeline.filters.nothing"),
        ("pipeline = 1", "pipeline = 1"),
        ("pipeline.filters = 1", "pipeline.filters = 1"),
        ("pipeline.split.validation = nan", "pipeline.split.validation"),
        ("x = 1979-05-27", "unknown table 'x'"),
    ],
)
def test_a_bad_setting_is_named(line: str, told: str) -> None:
    with pytest.raises(BadConfig, match=told.replace(".", r"\.")):
        config.load(CONFIGS / "demo.toml", [line])


def test_a_wrong_word_is_the_users_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["igest"]) == MISTAKE
    assert run(["status", "--corpus", "nowhere-at-all"]) == MISTAKE
    assert "pardalis ingest" in capsys.readouterr().err


def publish(corpus: Corpus, *, revisions: int) -> None:
    """A version whose every step was made from rows of the same asset."""
    rows = pa.table({schema.UID.name: ["acme:1"] * revisions, "revision": list(range(revisions))})
    keys = {}
    for step in ("filter", "decide", "images", "records"):
        made = Made(files={ROWS: tables.to_parquet(rows)}, counts={KEPT: revisions})
        shards = {"00000-000000": publish_shard(corpus.store, step, "k", made)}
        publish_artifact(corpus.store, Artifact(step=step, key="k", settings={}, inputs={}, shards=shards))
        keys[step] = "k"
    with corpus.writing(purpose="test") as lease:
        corpus.publish(lease, EMPTY, replace(EMPTY, artifacts=keys))


def test_status_tells_the_steps_as_the_plan_runs_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(Corpus(Store.at(tmp_path)), revisions=1)
    assert run(["status", "--corpus", str(tmp_path), "--json"]) == 0
    assert list(json.loads(capsys.readouterr().out)["steps"]) == ["records", "decide", "images", "filter"]


@pytest.mark.parametrize("question", ["schema", "template"])
def test_the_contract_is_json_whether_asked_for_or_not(
    question: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["contract", question]) == 0
    plain = capsys.readouterr().out
    assert run(["contract", question, "--json"]) == 0
    assert capsys.readouterr().out == plain
    assert json.loads(plain)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("logs --corpus {at}/nowhere", "no command left a log at {at}/nowhere"),
        ("ingest {at}/file --engine inline --corpus {at}/corpus", "{at}/file: delivery.json"),
        ("tokenizer decode {at}/nope.json --out {at}/a.png --corpus {at}", "{at}/nope.json is no JSON"),
        ("tokenizer decode {at}/codes.json --out {at}/no/a.png --corpus {at}", "there is no folder {at}/no"),
        ("tokenizer decode {at}/codes.json --out {at}/a.gif --corpus {at}", "{at}/a.gif is no name of a PNG"),
        (
            "tokenizer decode {at}/words.json --out {at}/a.png --corpus {at}",
            "must be a list of whole numbers",
        ),
    ],
)
def test_a_wrong_file_is_named_in_one_line(
    words: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "codes.json").write_text('{"codes": [1, 2, 3, 4]}')
    (tmp_path / "words.json").write_text('{"codes": ["one"]}')
    assert run(words.format(at=tmp_path).split()) == MISTAKE
    err = capsys.readouterr().err
    assert told.format(at=tmp_path) in err
    assert "Traceback" not in err


def test_a_failed_ingest_leaves_a_log_that_says_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus = ["--corpus", str(tmp_path / "corpus")]
    assert run(["ingest", str(tmp_path), "--engine", "inline", *corpus]) == MISTAKE
    capsys.readouterr()
    assert run(["logs", *corpus, "--json"]) == 0
    *_, event = json.loads(capsys.readouterr().out)
    assert (event["event"], event["kind"]) == ("failed", "Refused")
