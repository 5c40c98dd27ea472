"""The configuration as a whole: what no single table can check."""

import pytest

from pipeline import config
from pipeline.config import CONFIGS, BadConfig


@pytest.mark.parametrize("name", ["demo", "node"])
def test_what_we_ship_can_be_run(name: str) -> None:
    config.load(CONFIGS / f"{name}.toml")


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
