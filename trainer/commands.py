"""Commands on models, mounted by name so that ``--help`` imports nothing heavy."""

from __future__ import annotations

from cyclopts import App


def register(app: App) -> None:
    app.command("trainer.demo:demo", name="demo", help="The whole chain on a real licensed corpus.")
    app.command("trainer.training:train", name="train", help="Train a model on a corpus's packs.")
    app.command(
        "trainer.instruct.command:instruct", name="instruct", help="Make instruction data of a corpus."
    )
    app.command("trainer.tuning:tune", name="tune", help="Tune a trained model on instruction data.")
    app.command(
        "trainer.evaluation.command:evaluate",
        name="evaluate",
        help="What runs can do with held-out items, beside chance and copies.",
    )
    app.command("trainer.export:export", name="export", help="Write a run's weights as safetensors.")
    app.command(
        "trainer.affected:models_affected",
        name="models-affected",
        help="Which runs saw an asset, and how often.",
    )
    app.command("trainer.sampling:sample", name="sample", help="Draw from words, or caption a picture.")
