"""``pardalis instruct make``: instruction data made of a corpus, as packs beside its others."""

from __future__ import annotations

from collections import Counter
from typing import Any

from infra.corpus import Corpus, Version
from infra.options import CorpusOptions, EngineOptions, answer
from pipeline import jobs, packs, reading
from pipeline import settings as pipeline_settings
from pipeline.settings import Asked
from trainer.config import TrainerConfig
from trainer.instruct import build
from trainer.instruct.build import STEP, InstructSection


def make(*, options: CorpusOptions | None = None, engine: EngineOptions | None = None) -> None:
    """Make instruction examples of the newest version's pictures, and pack them beside its other packs.

    Settings are the table trainer.instruct of --config. A version that has them gets no others.

    Example: pardalis instruct make --corpus demo/corpus --set 'trainer.instruct.each.signs = 4'
    """
    options, engine = options or CorpusOptions(), engine or EngineOptions()
    section = asked(options)
    corpus = options.open()
    with jobs.job("instruct", Asked.of(options), engine) as work:
        head = work.corpus.newest()
        if "pack" not in head.artifacts:
            raise ValueError(
                f"version {head.number} of {corpus.store.uri} has no packs; run `pardalis build`"
            )
        version = work.run(head, [build.step(build.config_of(corpus, head, section))])
        version = work.publish(head, version)
    found = facts(corpus, version)
    answer(found, told(found), json=options.json)


def asked(options: CorpusOptions) -> InstructSection:
    """``[trainer.instruct]`` of the file and the overrides."""
    found = pipeline_settings.by_file(options)
    if "trainer" not in found.values:
        return InstructSection()
    return reading.of_table(TrainerConfig, found, "trainer").instruct


def facts(corpus: Corpus, version: Version) -> dict[str, Any]:
    """By split and task, examples made and documents packed; and how full the rows are."""
    found: dict[str, Any] = {"version": version.number}
    for kind in build.KINDS:
        made = packs.slots(corpus, version, kind, step=STEP)
        examples, documents = (
            sum((Counter(shard.facts[of]) for shard in made), Counter()) for of in ("examples", "documents")
        )
        fill = packs.fill(made)
        found[kind] = {
            **packs.facts(fill),
            "filled": packs.filled(fill),
            "tasks": {
                task: {"examples": examples[task], "documents": documents[task]} for task in sorted(examples)
            },
        }
    return found


def told(found: dict[str, Any]) -> str:
    lines = [f"version {found['version']}"]
    for kind in build.KINDS:
        lines.append(f"{kind}: {found[kind]['filled']}")
        lines += [
            f"  {task:<14} {one['examples']:>7} examples in {one['documents']:>7} documents"
            for task, one in found[kind]["tasks"].items()
        ]
    return "\n".join(lines)
