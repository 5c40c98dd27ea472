"""What a corpus holds, and who works on it."""

from __future__ import annotations

from typing import Any

from infra.corpus import Corpus
from infra.options import ReadOptions, answer
from pipeline import build, jobs, packs, plan, running
from pipeline.config import Config
from pipeline.split import TRAIN


def status(*, options: ReadOptions | None = None) -> None:
    """Show the job at work and how far it is; and the newest version: deliveries, models, and what became of
    every row at every step. It may be asked from any machine that reads the corpus.

    Example: pardalis status --corpus demo/corpus --json
    """
    options = options or ReadOptions()
    corpus = options.open()
    job = running.of(corpus.store)
    # Before the first version there may be the job that makes it.
    facts, lines = held(corpus) if job is None or corpus.numbers() else nothing(corpus)
    facts["job"] = job.facts() if job else None
    answer(facts, "\n".join([*lines, *(job.lines() if job else ())]), json=options.json)


def nothing(corpus: Corpus) -> tuple[dict[str, Any], list[str]]:
    """Of a corpus that has no version yet."""
    empty = {"version": 0, "as_of": "", "deliveries": [], "models": {}, "steps": {}, "packs": {}}
    return {"corpus": corpus.store.uri, **empty}, [f"{corpus.store.uri}, no version yet"]


def held(corpus: Corpus) -> tuple[dict[str, Any], list[str]]:
    """The newest version."""
    version = corpus.newest()
    steps = plan.steps(Config())
    found = jobs.balances(corpus, version, [step for step in steps if step.name in version.artifacts])
    models = {step.name: version.models[step.name] for step in steps if step.name in version.models}
    deliveries = [f"{d.provider}/{d.sequence} {d.delivery_id}" for d in version.deliveries]
    fill = packs.fill(packs.slots(corpus, version, TRAIN)) if "pack" in found else None
    facts: dict[str, Any] = {
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
    return facts, lines
