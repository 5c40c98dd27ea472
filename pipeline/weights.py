"""Weights that a configuration asks for, looked for before a build takes its lease or starts an engine.

The surprising rule: they are looked for on the machine that starts the build. Workers are of its kind.
"""

from __future__ import annotations

from pipeline import language, scores
from pipeline.config import Config


def check(config: Config) -> None:
    """Raises ValueError with everything that is switched on and has no weights here, and how to get them."""
    found = scores.missing(config.pipeline.scores, config.retrieval.encoder)
    if config.pipeline.filters.languages is not None and (why := language.WEIGHTS.missing()):
        found.append(f"pipeline.filters.languages: {why}")
    if found:
        lines = "\n".join(f"  {line}" for line in found)
        raise ValueError(f"weights are missing that the configuration asks for:\n{lines}")
