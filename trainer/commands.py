"""Commands on models, mounted by name so that ``--help`` imports nothing heavy."""

from __future__ import annotations

from cyclopts import App


def register(app: App) -> None:
    app.command("trainer.demo:demo", name="demo", help="The whole chain on a real licensed corpus.")
    app.command("trainer.training:train", name="train", help="Train a model on a corpus's packs.")
    instruct = App(name="instruct", help="Instruction data.")
    instruct.command("trainer.instruct.command:make", name="make", help="Make it of a corpus's pictures.")
    instruct.command(
        "trainer.instruct.importing:import_", name="import", help="Lay a published set out for a delivery."
    )
    app.command(instruct)
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
    app.command(
        "trainer.ledger:ledger", name="ledger", help="What each contributor and licence has, and its use."
    )
    app.command("trainer.sampling:sample", name="sample", help="Draw from words, or caption a picture.")
    app.command(
        "trainer.playground:playground", name="playground", help="A page to play with a trained model."
    )
