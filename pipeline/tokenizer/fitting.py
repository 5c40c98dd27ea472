"""``pardalis tokenizer fit``: from the image shards of a corpus version to a run's ``vq.safetensors``.

The run's folder belongs to one identity (settings, images, weights it began with); what it holds is resumed,
never mixed with another's. The step ``vq`` of a build takes the file by ``tokenizer.image.model``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cyclopts import Parameter
from pydantic import ValidationError

from infra import cluster, journal, launch, runs
from infra.artifact import Corrupt, fingerprint, pretty
from infra.corpus import Corpus, Version
from infra.options import CorpusOptions, EngineOptions, answer
from infra.storage import LocalStore, Store
from infra.telemetry import Log
from pipeline import jobs, refs, rows, schema, weights
from pipeline.config import Config
from pipeline.step import ROWS
from pipeline.tokenizer import emphasis, fitrun, lanes
from pipeline.tokenizer.fitrun import CURVES, MANIFEST, MODEL, PAGE, Plan, RunConfig
from pipeline.tokens import ImageConfig
from tokenizer_service import checkpoints
from tokenizer_service import resume as resuming

RUN = "config.json"
STEPS = ("split", "images")
"""Whose artifacts a fit reads."""


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    init: str | None = None
    """Weights to go on from: a vq.safetensors, a published checkpoint, or its OWNER/NAME:FILE on the hub."""
    init_license: str | None = None
    """What published weights are under, as an SPDX identifier; unstated, they serve no commercial purpose."""


def fit(
    *,
    run: Path,
    start: Start | None = None,
    workers: int = 1,
    resume: bool = False,
    options: CorpusOptions | None = None,
    engine: EngineOptions | None = None,
) -> None:
    """Fit an image tokenizer on the newest version's training images.

    Example: pardalis tokenizer fit --run runs/vq --corpus s3://bucket/corpus --workers 8

    Parameters
    ----------
    run
        Folder for checkpoints, curves, page and model, on a disk that the workers share.
    workers
        Ranks of the group; each takes a GPU where there are any.
    resume
        Go on with the run that the folder holds, with its settings and its version of the corpus.
    """
    options, engine = options or CorpusOptions(), engine or EngineOptions()
    if begun(runs.folder(run)) and not resume:
        raise runs.OtherRun(f"{run} holds a run already; give --resume to go on with it, or another --run")
    log = Log()
    corpus, plan, version = of(options, folder=run, start=start or Start())
    try:
        summary = fit_version(corpus, version, plan, workers=workers, engine=engine, log=log)
    finally:
        log.save(corpus.store, "tokenizer-fit")
    answer(summary, "\n".join(f"{name}: {value}" for name, value in summary.items()), json=options.json)


def of(options: CorpusOptions, *, folder: Path, start: Start) -> tuple[Corpus, Plan, Version]:
    """The plan that the folder has begun with, on the version of its corpus; else a new one, on the newest.

    A run that goes on need not be told its settings again; where it is, they have to be the same.
    """
    held = held_plan(folder) if begun(folder) else None
    if held is None:
        corpus = options.open()
        config, version = jobs.load(corpus, options), corpus.newest()
        return corpus, planned(corpus, version, config, folder=folder, start=start), version
    corpus = options.open() if options.corpus else Corpus(Store.at(held.corpus))
    version = corpus.version(held.version)
    refuse_refused(corpus, version)
    if options.config or options.overrides or start != Start():
        config = jobs.load(corpus, options)
        return corpus, planned(corpus, version, config, folder=folder, start=start), version
    if held.read != reads(corpus, version):
        raise runs.OtherRun(f"{folder} holds a run on other images than {corpus.store.uri} has; see --corpus")
    check(held.image, held.run)
    moved = {"corpus": corpus.store.uri, "folder": str(folder.absolute())}
    return corpus, held.model_copy(update=moved), version


def reads(corpus: Corpus, version: Version) -> dict[str, str]:
    return {step: corpus.artifact(version, step).key for step in STEPS}


def refuse_refused(corpus: Corpus, version: Version) -> None:
    """Raises ValueError where a later version of the corpus has refused an image that the run would see."""
    newest = corpus.newest()
    if newest.number == version.number:
        return
    shown, admitted = uids(corpus, version, "split"), uids(corpus, newest, "decide")
    if gone := shown - admitted:
        raise ValueError(
            f"{len(gone)} images of the run ({min(gone)} is one) have been refused since version "
            f"{version.number} of the corpus; begin another run, on version {newest.number}"
        )


def uids(corpus: Corpus, version: Version, step: str) -> set[str]:
    """Of what is kept after the step."""
    shards = corpus.artifact(version, step).shards.values()
    tables = (rows.kept(refs.of(corpus.store, shard, ROWS)) for shard in shards)
    return {uid for table in tables for uid in table[schema.UID.name].to_pylist()}


def held_plan(folder: Path) -> Plan | None:
    path = folder / RUN
    try:
        return Plan.model_validate_json(path.read_text()) if path.exists() else None
    except ValidationError as error:
        raise Corrupt(f"{path} is not the plan of a run: {error}; give another --run") from None


def begun(folder: Path) -> bool:
    return resuming.latest(folder) is not None or (folder / MANIFEST).exists()


def check(image: ImageConfig, run: RunConfig) -> None:
    """Raises ValueError for weights that are not here, and for boxes that nobody finds or looks at."""
    looked_for = run.stream.emphasis
    if (image.fit.crops is None) == (looked_for.faces or looked_for.text):
        raise ValueError(
            "tokenizer.run.stream.emphasis finds boxes and tokenizer.image.fit.crops looks at them; set both "
            "or none"
        )
    weights.refuse(weights.of_tokenizer(image) + emphasis.missing(looked_for))


def planned(corpus: Corpus, version: Version, config: Config, *, folder: Path, start: Start) -> Plan:
    """The run's plan. Weights that it begins with bring their shape, which wins over the settings."""
    image, sha256, init = config.tokenizer.image, None, start.init
    check(image, config.tokenizer.run)
    if init is not None:
        model = checkpoints.open_model(init, license=start.init_license)
        commercial = jobs.is_commercial(corpus, version, config)
        checkpoints.refuse_noncommercial(model.weights, commercial=commercial)
        sha256 = checkpoints.sha256(checkpoints.found(init))
        image = image.model_copy(update={"fit": image.fit.model_copy(update={"vq": model.config})})
    read = reads(corpus, version)
    told = [image.by_content().model_dump(mode="json"), config.tokenizer.run.model_dump(mode="json")]
    return Plan(
        identity=fingerprint(*told, read, sha256, start.init_license),
        corpus=corpus.store.uri,
        version=version.number,
        folder=str(folder.absolute()),
        init=str(Path(init).absolute()) if init is not None and Path(init).is_file() else init,
        init_sha256=sha256,
        init_license=start.init_license,
        read=read,
        image=image,
        run=config.tokenizer.run,
    )


def fit_version(
    corpus: Corpus, version: Version, plan: Plan, *, workers: int, engine: EngineOptions, log: Log
) -> dict[str, Any]:
    """Fit, or go on, or find that it is done; the summary says what came out."""
    ranks = 1 if engine.engine == "inline" else workers
    lanes.check(plan.run.stream, batch_images=plan.image.fit.batch_images, ranks=ranks)
    claim(plan)
    facts = {"settings": plan.image.model_dump(mode="json")}
    runs.record(corpus, version, saw="split", identity=plan.identity, facts=facts)
    log.event("run", folder=plan.folder, identity=plan.identity, version=version.number, ranks=ranks)
    if not (plan.path / MANIFEST).exists():
        with journal.watched(plan.path / CURVES, "fit", total=plan.image.fit.steps, log=log):
            run_plan(plan, workers=workers, engine=engine)
    manifest = json.loads((plan.path / MANIFEST).read_text())
    return {
        "run": plan.folder,
        "model": str(plan.path / MODEL),
        "page": str(plan.path / PAGE),
        "fingerprint": manifest["fingerprint"],
        **manifest["last"],
    }


def claim(plan: Plan) -> None:
    """Make the folder this run's, or find that it is."""
    held = held_plan(plan.path) if begun(plan.path) else None
    if held is not None and held.identity != plan.identity:
        raise runs.OtherRun(
            f"{plan.folder} holds a run with other settings, images or --init; give another --run"
        )
    LocalStore(plan.folder).write(RUN, pretty(plan.model_dump(mode="json")))


def run_plan(plan: Plan, *, workers: int, engine: EngineOptions) -> None:
    config = plan.model_dump(mode="json")
    if engine.engine == "inline":
        fitrun.execute(config)
        return
    with cluster.joined(engine.cluster()):
        launch.launch(
            fitrun.execute,
            config,
            folder=plan.path,
            workers=workers,
            cpus=plan.image.threads,
        )
