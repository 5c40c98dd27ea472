"""One typed tree for a run: a TOML file, then overrides, then validation. Nothing else reads settings.

The sections live beside the code that they configure; this module and ``settings`` only compose them. Each
package validates its own tables and those below it; a table that belongs to nobody is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Self

from pydantic import model_validator

from infra.settings import Section
from pipeline import reading
from pipeline.reading import Told
from pipeline.settings import Settings
from pipeline.tokenizer.fitrun import RunConfig
from pipeline.tokens import ImageConfig, TextConfig
from tokenizer_service.coding import Numerics
from tokenizer_service.sizes import MAX_ENLARGEMENT


class TokenizerTable(Section):
    text: TextConfig = TextConfig()
    image: ImageConfig = ImageConfig()
    encode: Numerics = Numerics()
    run: RunConfig = RunConfig()


class Config(Settings):
    tokenizer: TokenizerTable = TokenizerTable()

    @model_validator(mode="after")
    def _no_image_is_too_small(self) -> Self:
        """What the filters let through can be made the squares that tokenizer and encoder take."""
        rules, longest = self.pipeline.filters, self.pipeline.ingest.max_side
        smallest = min(rules.min_side, longest / rules.max_aspect)
        asked = max(self.tokenizer.image.side, self.retrieval.encoder.side)
        if smallest * MAX_ENLARGEMENT < asked:
            raise ValueError(
                f"images of {smallest:.0f} px pass the filters (min_side {rules.min_side}, max_aspect "
                f"{rules.max_aspect:g} of max_side {longest}) and are too small for squares of {asked} px, "
                f"being enlarged at most {MAX_ENLARGEMENT:g} times; raise pipeline.filters.min_side or "
                "pipeline.ingest.max_side, or lower tokenizer.image.side or retrieval.encoder.side"
            )
        return self


def load(path: Path, overrides: Sequence[str] = ()) -> Config:
    """The tables of the pipeline and of the packages below it."""
    return of(reading.read(path, overrides))


def of(told: Told) -> Config:
    """The same, without the tables of the packages above."""
    return reading.of_tables(Config, told)
