"""The configuration as a whole: what no single table can check."""

import pytest

from pipeline import config
from pipeline.config import CONFIGS, BadConfig


@pytest.mark.parametrize("name", ["demo", "node"])
def test_what_we_ship_can_be_run(name: str) -> None:
    config.load(CONFIGS / f"{name}.toml")


@pytest.mark.parametrize(
    "line",
    ["pipeline.filters.min_side = 100", "pipeline.filters.max_aspect = 5", "tokenizer.image.side = 512"],
)
def test_images_that_pass_the_filters_are_large_enough_for_what_comes_after(line: str) -> None:
    with pytest.raises(BadConfig, match=r"are too small for squares of \d+ px"):
        config.load(CONFIGS / "node.toml", [line])
