"""What a corpus holds."""

from __future__ import annotations

from infra.options import ReadOptions, answer
from pipeline import build, jobs, packs, plan
from pipeline.config import Config
from pipeline.split import TRAIN


def status(*, options: ReadOptions | None = None) -> None:
    """Show the newest version: deliveries, models, and what became of every row at every step.

    Example: pardalis status --corpus demo/corpus --json
    """
    options = options or ReadOptions()
    corpus = options.open()
    version = corpus.newest()
    steps = plan.steps(Config())
    found = jobs.balances(corpus, version, [step for step in steps if step.name in version.artifacts])
    models = {step.name: version.models[step.name] for step in steps if step.name in version.models}
    deliveries = [f"{d.provider}/{d.sequence} {d.delivery_id}" for d in version.deliveries]
    fill = packs.fill(packs.slots(corpus, version, TRAIN)) if "pack" in found else None
    facts = {
        "corpus": corpus.store.uri,
        "version": version.number,
        "as_of": version.as_of,
        "deliveries": deliveries,
        "models": models,
        "steps": found,
        "packs": packs.facts(fill) if fill else {},
    }
    lines = [f"{corpus.store.uri}, version {version.number}, rights as of {version.as_of}"]
    lines += [f"  delivery {line}" for line in deliveries]
    lines += [f"  model {name} {key}" for name, key in models.items()]
    lines += [build.told(name, counts) for name, counts in found.items()]
    if fill:
        lines.append(f"  train: {packs.filled(fill)}")
    answer(facts, "\n".join(lines), json=options.json)
