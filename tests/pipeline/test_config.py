"""The configuration as a whole: what no single table can check."""

import subprocess
import sys
from pathlib import Path

import pytest

from pipeline import config, reading
from pipeline.reading import CONFIGS, BadConfig
from tokenizer_service.vq import PRESETS


@pytest.mark.parametrize("name", ["demo", "small", "node", "cluster", "paper"])
def test_what_we_ship_can_be_run(name: str) -> None:
    config.load(CONFIGS / f"{name}.toml")


def test_what_we_ship_is_found_by_its_name_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for path in CONFIGS.glob("*.toml"):
        assert reading.read(Path(path.stem)) == reading.read(path)
    (tmp_path / "cluster").write_text("[pipeline.split]\nvalidation = 0.5\n")
    assert config.load(Path("cluster")).pipeline.workers.ahead == 16  # as on a machine without the file
    assert config.load(tmp_path / "cluster").pipeline.split.validation == 0.5


@pytest.mark.parametrize("named", ["clusters", "cluster.toml", "infra/configs/clusters.toml", "."])
def test_a_configuration_that_is_neither_a_name_nor_a_file_is_told_with_the_names(
    named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadConfig, match=f"cannot read {named}.*: cluster, cm3leon-350m, .*, small, "):
        config.load(Path(named))


def test_the_papers_tokenizer_is_the_preset_of_that_name() -> None:
    assert config.load(CONFIGS / "paper.toml").tokenizer.image.fit.vq == PRESETS["cm3leon-256-f8"]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("pipeline.hub_token = 'canary'", "pipeline.hub_token holds a credential"),
        ("pipeline.purpose.model = 'https://u:canary@h/'", "pipeline.purpose.model holds a credential"),
        ("retrieval.encoder.pretrained = 's3://b/x?sig=canary'", "retrieval.encoder.pretrained holds a"),
        ("pipeline.anything = 'canary'", "pipeline.anything: Extra inputs"),
        ("pipeline.hub_token = canary", "--set pipeline.hub_token is not TOML"),
        ("hub.token = 'canary'", "unknown table 'hub'"),
    ],
)
def test_a_setting_that_may_hold_a_secret_is_told_by_its_name_alone(line: str, told: str) -> None:
    with pytest.raises(BadConfig) as refused:
        config.load(CONFIGS / "node.toml", [line])
    assert told in str(refused.value)
    assert "canary" not in str(refused.value)


@pytest.mark.parametrize(
    "line",
    ["pipeline.filters.min_side = 100", "pipeline.filters.max_aspect = 5", "tokenizer.image.side = 512"],
)
def test_images_that_pass_the_filters_are_large_enough_for_what_comes_after(line: str) -> None:
    with pytest.raises(BadConfig, match=r"are too small for squares of \d+ px"):
        config.load(CONFIGS / "node.toml", [line])


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('pipeline.filters.min_side = "1"', "Input should be a valid integer"),
        ("pipeline.split.validation = 2.0", "Input should be less than"),
        ('pipeline.filters.languages = ["xx"]', "languages has 'xx', which is none of the"),
        ("pipeline.filters = 1", "Input should be"),
    ],
)
def test_a_fault_of_a_set_line_quotes_the_line_and_not_the_file(line: str, told: str) -> None:
    with pytest.raises(BadConfig) as refused:
        config.load(CONFIGS / "node.toml", ["pipeline.filters.min_side = 200", line])
    assert str(refused.value).startswith(f"--set '{line}': {told}")
    assert "\n" not in str(refused.value)
    assert "node.toml" not in str(refused.value)


def test_of_two_lines_the_last_is_to_blame_and_a_fault_of_the_file_names_it(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text("[pipeline.filters]\nmax_aspect = 0.5\nmin_side = 0\n")
    lines = ["pipeline.filters.min_side = -1", "pipeline.filters.min_side = -2"]
    with pytest.raises(BadConfig) as refused:
        config.load(file, lines)
    first, *faults = str(refused.value).splitlines()
    assert first == "settings that cannot be:"
    least = "Input should be greater than or equal to 1"
    assert sorted(fault.strip() for fault in faults) == [
        f"--set 'pipeline.filters.min_side = -2': {least}",
        f"{file}: pipeline.filters.max_aspect = 0.5: {least}",
    ]


def test_a_rule_over_several_settings_quotes_the_lines_that_it_names() -> None:
    lines = ["pipeline.filters.min_caption_chars = 900", "pipeline.filters.max_caption_chars = 9"]
    with pytest.raises(BadConfig) as refused:
        config.load(CONFIGS / "node.toml", [*lines, "pipeline.split.validation = 0.1"])
    said = str(refused.value)
    assert all(f"--set '{line}'" in said for line in lines)
    assert "validation" not in said
    assert "min_caption_chars = 900 is over max_caption_chars = 9; no caption can pass" in said
    assert "Value error" not in said


def test_what_a_line_says_of_several_settings_is_not_told_for_the_fault_of_one() -> None:
    line = 'pipeline.filters = {min_side = "1", nothing = "canary"}'
    with pytest.raises(BadConfig) as refused:
        config.load(CONFIGS / "node.toml", [line])
    assert "--set pipeline.filters.min_side = '1': Input should be a valid integer" in str(refused.value)
    assert "--set pipeline.filters.nothing: Extra inputs" in str(refused.value)
    assert "canary" not in str(refused.value)


@pytest.mark.long
@pytest.mark.parametrize("module", ["writing", "explaining", "reviewing.curation"])
def test_settings_and_explanations_are_told_without_torch_and_ray(module: str) -> None:
    """They take five seconds, and a mistyped setting is told in two."""
    asked = f"import sys, pipeline.{module}; sys.exit(bool({{'torch', 'ray'}} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", asked], check=False).returncode == 0
