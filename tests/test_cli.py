"""Every command answers --help with an example; every configuration that we ship parses."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.cli import MISTAKE, run
from pipeline import config
from pipeline.config import CONFIGS, BadConfig
from trainer.config import TrainerConfig

COMMANDS = (
    "ingest",
    "build",
    "status",
    "explain",
    "logs",
    "submit",
    "contract schema",
    "contract template",
    "index query",
    "index stats",
    "tokenizer eval",
    "tokenizer encode",
    "tokenizer decode",
    "train",
    "sample",
    "demo",
)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*command.split(), "--help"]) == 0
    assert f"pardalis {command}" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.toml")), ids=lambda path: path.name)
def test_every_shipped_configuration_parses(path: Path) -> None:
    found = config.load(path)
    trainer = config.validated(TrainerConfig, config.read(path).get("trainer", {}), str(path))
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
