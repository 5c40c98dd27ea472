"""The base of every configuration section: frozen, strict, nothing unknown.

Each section class lives beside the code that it configures; ``pipeline.config`` composes them.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A table of the run's TOML file. Strict: a string is never taken for a number."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)
