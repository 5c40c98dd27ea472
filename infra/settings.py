"""The base of every configuration section: frozen, strict, nothing unknown.

Each section class lives beside the code that it configures; ``pipeline.config`` composes them.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict

FOLDER = Path(__file__).parent / "configs"
"""Files of settings that come with the package, so that every node has them."""


def packaged() -> list[str]:
    """The names by which ``--config`` takes them."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def config_file(named: Path) -> Path:
    """Of a packaged configuration by its name alone; else the path itself. A name wins over a file of that
    name, so that a command means the same wherever it is run: ``./small`` is the file.
    """
    return FOLDER / f"{named}.toml" if str(named) in packaged() else named


class Section(BaseModel):
    """A table of the run's TOML file. Strict: a string is never taken for a number."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)
