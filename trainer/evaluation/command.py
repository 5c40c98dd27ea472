"""``pardalis evaluate``: tables and a page of what runs can do with held-out items, beside chance and copy.

The surprising rule: every part of every run is kept as soon as it is known, under a name made of all that it
depends on. A command that was stopped goes on, and another run beside the first costs its own time alone.
"""

from __future__ import annotations

import functools
import json as json_text
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cyclopts import Parameter

from infra import runs
from infra.artifact import fingerprint
from infra.corpus import Corpus, NoCorpus, Version
from infra.options import CorpusOptions, answer
from infra.storage import LocalStore, cache_folder
from infra.telemetry import Log, say
from pipeline.tokenizer import evalpage
from tokenizer_service import checkpoints as weights
from tokenizer_service import inception as fid
from trainer import folder, parallel
from trainer.checkpoint import Checkpoints
from trainer.evaluation import (
    bootstrap,
    constraints,
    copying,
    following,
    infilling,
    occupations,
    placing,
    redrawing,
    report,
    rights,
    telling,
    texts,
    writing,
)
from trainer.evaluation.bench import Bench
from trainer.evaluation.judged import Judged
from trainer.evaluation.known import Known
from trainer.evaluation.rights import Rights
from trainer.instruct import build, reading
from trainer.instruct.reading import Reader
from trainer.quantized import ready
from trainer.sampler import SamplerSection
from trainer.sampling import SEEDS
from trainer.studio import open_studio

REVISION = 4
RESULTS = "results"
"""Folder of what is known: RUN-PART.json, by fingerprints."""
PARTS: Mapping[str, Callable[[Bench], Judged]] = {
    "caption": telling.captions,
    "question": telling.questions,
    "edit": redrawing.edited,
    "placement": placing.placed,
    "control": following.controlled,
    "sign": writing.signs,
    "infill": infilling.filled,
    "pictures": copying.scored,
    "constraints": constraints.checked,
    "announced": constraints.announced,
    "occupations": occupations.audited,
}
FREE = frozenset({"announced", "occupations", "constraints"})
"""Those that need no instruction data."""


Opened = tuple[Corpus, Version, Rights]
"""What is judged on, and what of it may be used now."""


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is to be evaluated, and how."""

    tasks: str = ",".join(PARTS)
    """Which tasks, with commas between."""
    items: int = 200
    """Held-out items of each task, where there are so many."""
    seed: int = 0
    """Of what is drawn, and of the bounds."""
    inception: Path | None = None
    """Inception weights of pytorch-fid, for FID; default the file of that name among the cached weights."""

    @property
    def parts(self) -> tuple[str, ...]:
        return chosen(self.tasks)

    def inception_file(self) -> Path | None:
        """The weights given; else those among the cached ones, where they are."""
        file = self.inception or cache_folder() / "weights" / fid.FILE
        return file if file.is_file() else None

    def check(self) -> None:
        if self.items < 1:
            raise ValueError(f"--items is {self.items}; judge at least 1")
        if not 0 <= self.seed < SEEDS:
            raise ValueError(f"--seed is {self.seed}; give a number from 0 to {SEEDS - 1}")
        if self.inception is not None and not self.inception.is_file():
            raise ValueError(f"--inception is {self.inception}, and there is no such file")
        if "caption" in self.parts:
            texts.check_library()


def evaluate(
    *,
    run: tuple[Path, ...],
    out: Path,
    asked: Asked | None = None,
    options: CorpusOptions | None = None,
) -> None:
    """Judge trained runs on held-out items, task by task, and write a page of it.

    Example: pardalis evaluate --run runs/tuned --run runs/first --corpus demo/corpus --out evaluation

    Parameters
    ----------
    run
        Folder of a trained run; several stand side by side.
    out
        Folder for index.html, report.json and what is known so far; made if it is not there.
    """
    asked, options = asked or Asked(), options or CorpusOptions()
    asked.check()
    page = evalpage.place(out)
    corpus = options.open()
    version = corpus.newest()
    check_data(corpus, version, asked.parts)
    page.mkdir(exist_ok=True)
    allowed = Rights.read(corpus, version)
    found = {
        "corpus": corpus.store.uri,
        "version": version.number,
        "items": asked.items,
        "seed": asked.seed,
        "resamples": bootstrap.RESAMPLES,
        "runs": [of_run(one, (corpus, version, allowed), asked, (page, options)) for one in run],
    }
    report.write(page, found)
    told = "\n".join([*report.lines(found), f"page: {page / report.PAGE}"])
    answer(report.without_pictures(found), told, json=options.json)


def chosen(tasks: str) -> tuple[str, ...]:
    """Names of parts, in the order of the page."""
    named = [one.strip() for one in tasks.split(",") if one.strip()]
    unknown = [one for one in named if one not in PARTS]
    if unknown or not named:
        raise ValueError(
            f"--tasks {tasks!r}: {unknown or 'nothing'} is no task; give some of {', '.join(PARTS)}"
        )
    return tuple(one for one in PARTS if one in named)


def check_data(corpus: Corpus, version: Version, parts: Sequence[str]) -> None:
    needing = [one for one in parts if one not in FREE]
    if needing and build.STEP not in version.artifacts:
        raise NoCorpus(
            f"version {version.number} of {corpus.store.uri} has no instruction data, which "
            f"{', '.join(needing)} need; run `pardalis instruct make`, or give --tasks "
            f"{','.join(sorted(FREE))}"
        )


def of_run(run: Path, of: Opened, asked: Asked, where: tuple[Path, CorpusOptions]) -> dict[str, Any]:
    """What is known of a run, and what is now made known of it."""
    page, options = where
    last = Checkpoints(folder=runs.folder(run)).latest()
    if last is None:
        raise ValueError(f"--run {run} holds no checkpoint; run `pardalis train --run {run}` first")
    section = folder.settings(run, options).sampler
    name = identity(run, last.name, of, section, asked)
    store = LocalStore(str(page / RESULTS))
    opened = functools.cache(lambda: bench(run, of, section, asked))
    parts = {}
    for part in asked.parts:
        file = f"{name}-{part}.json"
        if not store.exists(file):
            say(f"{part:<10} of {run}")
            store.write(file, report.as_json(of_part(part, asked)(opened()).json(seed=asked.seed)))
        parts[part] = json_text.loads(store.read(file))
    parameters = f"{name}-parameters.json"
    if not store.exists(parameters):
        store.write(
            parameters, report.as_json(sum(one.numel() for one in opened().studio.model.parameters()))
        )
    return {
        "name": run.name,
        "folder": str(run),
        "checkpoint": last.name,
        "identity": name,
        "parameters": json_text.loads(store.read(parameters)),
        "parts": parts,
    }


def identity(run: Path, checkpoint: str, of: Opened, section: SamplerSection, asked: Asked) -> str:
    """Of all that a run's figures and its page hang on, but for the part."""
    _, version, allowed = of
    inception = asked.inception_file()
    return fingerprint(
        REVISION,
        folder.read(run).get("identity"),
        checkpoint,
        dict(version.artifacts),
        section.model_dump(mode="json"),
        asked.items,
        asked.seed,
        None if inception is None else weights.sha256(inception),
        reading.missing() is None,
        allowed.key(),
    )


def bench(run: Path, of: Opened, section: SamplerSection, asked: Asked) -> Bench:
    corpus, version, allowed = of
    studio = rights.without(open_studio(corpus, version, run), allowed.refused)
    known = Known(corpus, version, studio, allowed)
    if not known.uids:
        raise ValueError(
            f"version {version.number} of {corpus.store.uri} has no training asset that may be used now: "
            f"{len(allowed.refused)} of its {studio.library.members.num_rows} assets are revoked, or their "
            "licences have ended; deliver licences that run and build it again, or give another --corpus"
        )
    for module in (studio.model, studio.vq):
        module.to(parallel.device())
    # Once: the sampler would copy the weights anew at every batch.
    studio = replace(studio, model=ready(studio.model, section.precision))
    return Bench(
        corpus=corpus,
        version=version,
        studio=studio,
        known=known,
        rights=allowed,
        section=section,
        seed=asked.seed,
        num_items=asked.items,
        reader=Reader.load() if reading.missing() is None else None,
        log=Log(),
    )


def of_part(part: str, asked: Asked) -> Callable[[Bench], Judged]:
    if part == "pictures":
        return functools.partial(copying.scored, inception=asked.inception_file())
    return PARTS[part]
