"""What a card is told beside the corpus: thresholds, waivers, term lists, benchmarks, words on who made it.

They are a file of their own (``--settings``), for none of them changes what is built.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Annotated

from pydantic import Field

from infra.settings import Section
from pipeline import reading
from pipeline.fields import Country, Many


class Waiver(Section):
    """Somebody answers for a gate that says no. It is written into the card."""

    gate: str
    """Its name, such as ``people.minors_share.max``."""
    reason: Annotated[str, Field(min_length=1)]
    by: Annotated[str, Field(min_length=1)]
    until: Annotated[date, Field(strict=False)]
    """It holds for versions whose instant lies before this day."""


class Reference(Section):
    """Shares of countries that those of the corpus are set beside."""

    source: Annotated[str, Field(min_length=1)]
    countries: dict[Country, Annotated[float, Field(ge=0, le=1)]]


class About(Section):
    """What no corpus knows of itself; "not stated" on the card where it is left out."""

    title: str = ""
    description: str = ""
    issuer: str = ""
    contact: str = ""
    url: str = ""
    """Of the page where the data set is described."""
    license_url: str = ""
    """Of the terms under which the whole is given on."""
    use_cases: str = ""
    social_impact: str = ""
    maintenance: str = ""
    confidentiality: str = ""
    consent: str = ""
    """Where consents are kept."""
    processing_geography: str = ""
    storage_geography: str = ""


class CardSettings(Section):
    gates: dict[str, float] = Field(default_factory=dict)
    """Name to threshold; the name ends in ``.max`` or ``.min``."""
    waivers: Many[Waiver] = ()
    terms: dict[str, str] = Field(default_factory=dict)
    """Kind to a file that stands in for ours."""
    benchmarks: dict[str, str] = Field(default_factory=dict)
    """Name to a file with a caption of the benchmark in each line."""
    ngram: Annotated[int, Field(ge=2, le=32)] = 8
    """Words in a row that a caption shares with a benchmark."""
    least: Annotated[int, Field(ge=10)] = 20
    """Captions with a term that name somebody on the axis, from which its associations are tested."""
    false_discoveries: Annotated[float, Field(gt=0, lt=1)] = 0.05
    """Share of the pairs called skewed that may be so by chance (Benjamini-Hochberg)."""
    reference: Reference | None = None
    about: About = About()


def load(path: Path | None) -> CardSettings:
    """A file's, whose own paths are from where it lies; all defaults without one. Raises BadConfig."""
    if path is None:
        return CardSettings()
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise reading.BadConfig(f"cannot read {path}: {error}; give --settings a TOML file") from None
    found = reading.validated(CardSettings, reading.parsed(text, str(path)), str(path))
    here = {
        name: {key: str(path.parent / file) for key, file in getattr(found, name).items()}
        for name in ("terms", "benchmarks")
    }
    return found.model_copy(update=here)
