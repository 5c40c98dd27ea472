"""Commands on models, mounted by name so that ``--help`` imports nothing heavy."""

from __future__ import annotations

from cyclopts import App

TRAIN = """Train a model on a corpus's packs.

Settings are the table trainer of --config; without it, those that the run began with; for a new run, the
defaults. Where none of them names the context and the masks, these fit the packs. --set wins over all.

Example: pardalis train --run runs/first --corpus s3://bucket/corpus --workers 8
"""
"""Longer than the others: the corpus keeps the settings that it was built with, and none of a model."""


def register(app: App) -> None:
    app.command("trainer.demo:demo", name="demo", help="The whole chain on a real licensed corpus.")
    app.command("trainer.training:train", name="train", help=TRAIN)
    app.command("trainer.export:export", name="export", help="Write a run's weights as safetensors.")
    app.command(
        "trainer.affected:models_affected",
        name="models-affected",
        help="Which runs saw an asset, and how often.",
    )
    app.command("trainer.sampling:sample", name="sample", help="Draw from words, or caption a picture.")
