"""Commands on a corpus, mounted by name so that ``--help`` imports nothing heavy."""

from __future__ import annotations

from cyclopts import App


def register(app: App) -> None:
    app.command(
        "pipeline.writing:ingest", name="ingest", help="Fold deliveries into a corpus; decide rights."
    )
    app.command("pipeline.writing:build", name="build", help="Make whatever is missing, up to token shards.")
    app.command("pipeline.scale.command:plan", name="plan", help="What so many images would take.")
    app.command("pipeline.status:status", name="status", help="The newest version, and the job at work.")
    app.command("pipeline.logs:logs", name="logs", help="What jobs told of their work, as they work.")
    app.command("pipeline.explaining:explain", name="explain", help="Why an asset is in or out.")
    app.command(
        "pipeline.card.command:card", name="card", help="What is in a version, and what is not known."
    )
    app.command("pipeline.revoking.command:revoke", name="revoke", help="Take assets back, everywhere.")
    app.command("pipeline.revoking.command:gc", name="gc", help="Erase what no version lists.")
    app.command("pipeline.verify.command:verify", name="verify", help="Prove that what was revoked is gone.")
    app.command("pipeline.locating:where_is", name="where-is", help="Every place that names an asset.")
    contract = App(name="contract", help="The input contract.")
    contract.command("pipeline.contracts:schema", name="schema", help="As JSON Schema.")
    contract.command("pipeline.contracts:template", name="template", help="A filled example of each record.")
    contract.command("pipeline.contracts:seal_folder", name="seal", help="Make a delivery of a folder.")
    contract.command("pipeline.contracts:example", name="example", help="Write a real delivery to try with.")
    app.command(contract)
    filters = App(name="filters", help="What the filters cut, and what that does to the corpus.")
    filters.command("pipeline.reviewing.preview:preview", name="preview", help="Images beside a threshold.")
    filters.command(
        "pipeline.reviewing.curation:report", name="report", help="How removal shifts the corpus."
    )
    app.command(filters)
    packs = App(name="packs", help="The packed token shards.")
    packs.command("pipeline.inspecting:inspect", name="inspect", help="Rows as pictures and text.")
    packs.command("pipeline.exporting:export", name="export", help="As MDS, or for litdata.")
    app.command(packs)
    index = App(name="index", help="The retrieval index.")
    index.command("pipeline.query:query", name="query", help="Nearest assets to a text, an image, or both.")
    index.command("pipeline.query:stats", name="stats", help="Segments and members.")
    index.command("pipeline.searching.serving:serve", name="serve", help="The search over HTTP, with a page.")
    index.command("pipeline.writing:add", name="add", help="Bring deliveries into it, as a new segment.")
    index.command("pipeline.writing:remove", name="remove", help="Take assets out of it, at once.")
    app.command(index)
    tokenizer = App(name="tokenizer", help="The fitted tokenizers.")
    tokenizer.command(
        "pipeline.tokenizer.evaluating:evaluate", name="eval", help="Measure on held-out images."
    )
    tokenizer.command("pipeline.tokenizer.tokenizing:encode", name="encode", help="Images or a text to ids.")
    tokenizer.command("pipeline.tokenizer.tokenizing:decode", name="decode", help="Codes back to an image.")
    tokenizer.command("pipeline.tokenizer.serving:serve", name="serve", help="Encode and decode over HTTP.")
    tokenizer.command("pipeline.tokenizer.fitting:fit", name="fit", help="Fit one on the training images.")
    app.command(tokenizer)
