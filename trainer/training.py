"""``pardalis train``: from the packs of a corpus version to a run's folder of checkpoints.

The same function trains in this process and in every rank of a Ray Train group. A run's folder belongs to one
identity (settings, packs); what it holds is resumed, never mixed with another's.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from infra import cluster, journal, launch, runs
from infra.corpus import Corpus, Version
from infra.options import CorpusOptions, EngineOptions, answer
from infra.storage import LocalStore, Store
from infra.telemetry import Log, say
from pipeline import jobs, packs, reading
from pipeline.blocks import Shard
from pipeline.examples import KINDS
from pipeline.shards import ShardInfo
from pipeline.split import TRAIN
from tokenizer_service import vocabulary
from tokenizer_service.vocabulary import Live
from trainer import admission, budget, curves, export, loop, order, parallel, seen, sources, stream
from trainer import folder as folders
from trainer.checkpoint import Checkpoints, read_state
from trainer.cm3 import Batch
from trainer.config import TrainerConfig
from trainer.instruct import build as instruct
from trainer.loader import Loader
from trainer.loop import Outcome, Streams
from trainer.order import MAIN
from trainer.spans import MaskingSection
from trainer.stream import Masked, PackedStream

METRICS = "metrics.jsonl"
EXPORT = "model"
DONE = "done"
"""Says which run ended, and when it was to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A run: where its data is, how it trains, where it goes. JSON, so that it travels to every rank."""

    corpus: str
    version: int
    folder: str
    config: TrainerConfig
    identity: str
    """That the run began with."""

    def json(self) -> dict[str, Any]:
        return {
            "corpus": self.corpus,
            "version": self.version,
            "folder": self.folder,
            "config": self.config.model_dump(mode="json"),
            "identity": self.identity,
        }

    @staticmethod
    def of(value: Mapping[str, Any]) -> Plan:
        config = reading.validated(TrainerConfig, value["config"], "the run's configuration")
        told = {name: value[name] for name in ("corpus", "version", "folder", "identity")}
        return Plan(config=config, **told)


def infos(corpus: Corpus, version: Version) -> list[ShardInfo]:
    """What the packs for training hold; nothing is fetched."""
    return [shard.info for shard in packs.listed(corpus, version, TRAIN)]


def live(corpus: Corpus, version: Version) -> Live:
    """The ids that this corpus's tokenizers use."""
    return Live(
        num_text=corpus.artifact(version, "bpe").only.facts["entries"],
        num_codes=corpus.artifact(version, "vq").only.facts["codebook"],
    )


def execute(config: dict[str, Any], *, report: loop.Report) -> Outcome:
    """One rank's part of a run, from its plan as JSON; goes on where the folder's checkpoints end."""
    plan = Plan.of(config)
    corpus = Corpus(Store.at(plan.corpus))
    version = corpus.version(plan.version)
    # Dropout, where the model has any: of each rank its own.
    torch.manual_seed(plan.config.seed + parallel.rank())
    read = sources.opened(corpus, version, plan.config.sources)
    checkpoints = Checkpoints(
        folder=Path(plan.folder),
        keep=plan.config.loop.keep_checkpoints,
        before=lambda state: seen.saw(read, plan.config.sources, plan.identity, state.stream),
    )
    found = streams(read, plan.config, parallel.device())
    with contextlib.closing(found.train):
        return loop.fit(
            budget.meta(plan.config.model, live(corpus, version)),
            found,
            plan.config.recipe({"corpus": plan.corpus, "version": plan.version}),
            report=report,
            checkpoints=checkpoints,
        )


def streams(read: sources.Opened, config: TrainerConfig, device: torch.device) -> Streams:
    """Give this rank its share of the training packs, and held-out targets with neighbors and without."""
    revoked = sources.taken_back(read, config.admission)
    mixed = sources.mixed(read, config.sources, revoked)
    stream.check_room([shard.info for one in mixed.values() for shard in one.shards], config.masking)
    train = PackedStream(
        mixed,
        stream=config.stream,
        view=Masked(masking=config.masking),
        pieces=config.loader,
    )
    held_out = {
        name: sources.listed(read, config.sources, source, kind, revoked=revoked[source])
        for name, (source, kind) in validation(config.sources).items()
    }
    return Streams(
        train=Loader(train, config.loader, device=device),
        validation={name: partial(unmasked, found, config) for name, found in held_out.items() if found},
    )


def validation(sections: sources.Sections) -> dict[str, tuple[str, str]]:
    """Source and kind of each held-out stream, by its name: instruction data has no neighbors."""
    own = dict(zip(("neighbors", "alone"), ((MAIN, kind) for kind in KINDS[1:]), strict=True))
    told = {name: (name, KINDS[1]) for name, section in sections.items() if section.step == instruct.STEP}
    return own | told


def unmasked(shards: list[Shard], config: TrainerConfig) -> Iterable[Batch]:
    """Held-out rows as they are, read from left to right."""
    return stream.validation(
        shards,
        masking=MaskingSection(max_spans=0),
        batch_rows=max(1, config.stream.rows_per_step // parallel.world_size()),
        pieces=config.loader,
    )


def on_a_rank(config: dict[str, Any]) -> None:
    """What Ray Train runs in every worker of the group."""
    tell, watch = reporter(Path(config["folder"])), config["config"]["loop"]["watch"]

    def report(metrics: Mapping[str, float]) -> None:
        tell(metrics)
        if watch in metrics:  # all ranks wait until Ray has heard it, up to a second
            loop.to_ray(metrics)

    execute(config, report=report)


def reporter(folder: Path) -> loop.Report:
    """Rank 0 keeps the journal and feeds TensorBoard."""
    if not parallel.is_first():
        return lambda _: None
    write, draw = opened(folder), curves.tensorboard(folder, step=resumed_step(folder))

    def report(metrics: Mapping[str, float]) -> None:
        write(metrics)
        draw(metrics)

    return report


def resumed_step(folder: Path) -> int:
    latest = Checkpoints(folder=folder).latest()
    return 0 if latest is None else read_state(latest).step


def opened(folder: Path) -> journal.Write:
    """The run's journal, from its last checkpoint on."""
    return journal.opened(folder / METRICS, step=resumed_step(folder))


def metrics(folder: Path) -> list[dict[str, Any]]:
    """Every report of the run, oldest first."""
    return journal.read(folder / METRICS)


def train(
    *,
    run: Path,
    workers: int = 1,
    resume: bool = False,
    plan: bool = False,
    options: CorpusOptions | None = None,
    engine: EngineOptions | None = None,
) -> None:
    """Train a model on the newest version's packs.

    Settings are the table trainer of --config; without it, those that the run began with; for a new run, the
    defaults. Where none of them names the context and the masks, these fit the packs. --set wins over all.

    Example: pardalis train --run runs/first --corpus s3://bucket/corpus --workers 8

    Parameters
    ----------
    run
        Folder for checkpoints and metrics, on a disk that the workers share.
    workers
        Ranks of the group; each takes a GPU where there are any. Under torchrun, with --engine inline, those
        that it started.
    resume
        Go on with the run that the folder holds.
    plan
        Say what the run will take (parameters, memory a rank, FLOPs a token, expected speed); train nothing.
    """
    options, engine = options or CorpusOptions(), engine or EngineOptions()
    check_engine(workers, engine, plan=plan)
    with parallel.joined():
        if plan:
            parallel.by_first(lambda: planned(run, workers=workers, options=options))
            return
        started(run, folders.settings, workers=workers, resume=resume, options=options, engine=engine)


Settings = Callable[[Path, CorpusOptions, Sequence[ShardInfo]], TrainerConfig]
"""Of a run that begins or goes on in a folder, on packs."""


def check_engine(workers: int, engine: EngineOptions, *, plan: bool) -> None:
    """Ranks come from one place: Ray, torchrun, or nowhere."""
    if workers < 1:
        raise ValueError(f"--workers is {workers}; give at least 1")
    if parallel.under_torchrun() and engine.engine != "inline":
        raise ValueError("torchrun started these ranks, and Ray would start others; add --engine inline")
    if engine.engine == "inline" and workers > 1 and not plan:
        raise ValueError(
            f"--workers {workers} are ranks of Ray, and --engine inline is this process; leave one out, or "
            f"run `torchrun --nproc-per-node {workers} -m -- infra.cli train … --engine inline`"
        )


def started(  # a run, and all that a command line says of it
    run: Path,
    settings: Settings,
    *,
    workers: int,
    resume: bool,
    options: CorpusOptions,
    engine: EngineOptions,
) -> None:
    """Train, in this process or by a group that it starts."""
    if parallel.told_by_first(Checkpoints(folder=runs.folder(run)).latest()) and not resume:
        raise runs.OtherRun(f"{run} holds a run already; give --resume to go on with it, or another --run")
    corpus, log = options.open(), Log()
    version = corpus.version(parallel.told_by_first(corpus.newest().number))
    config = settings(run, options, infos(corpus, version))
    config = config.model_copy(update={"sources": sources.pinned(config.sources)})
    try:
        summary = train_version(corpus, version, config, run, workers=workers, engine=engine, log=log)
    finally:
        if parallel.is_first():
            log.save(corpus.store, "train")
    if parallel.is_first():
        answer(summary, "\n".join(f"{name}: {value}" for name, value in summary.items()), json=options.json)


def planned(run: Path, *, workers: int, options: CorpusOptions) -> None:
    """Answer with the budget: for the corpus that is named, else for the paper's vocabulary."""
    ids, packed = Live(num_text=vocabulary.MAX_TEXT, num_codes=vocabulary.MAX_CODES), []
    if options.corpus or os.environ.get("PARDALIS_CORPUS"):
        corpus = options.open()
        version = corpus.newest()
        ids, packed = live(corpus, version), infos(corpus, version)
    else:
        say(f"no corpus is named: planned for the whole vocabulary of {vocabulary.SIZE:,} ids")
    config = folders.settings(run, options, packed)
    order.check_ranks(config.stream, workers)
    found = budget.of(
        config.model,
        ids,
        ranks=workers,
        rows=config.stream.rows_per_step,
        sharded=config.loop.strategy == "fsdp",
        recomputes=config.loop.recompute == "blocks",
    )
    answer(found.json(), found.told(config.model, ranks=workers), json=options.json)


def train_version(  # noqa: PLR0913  # what to train on, how, where to, and by whom
    corpus: Corpus,
    version: Version,
    config: TrainerConfig,
    folder: Path,
    *,
    workers: int,
    engine: EngineOptions,
    log: Log,
) -> dict[str, Any]:
    """Train, or go on, or find that it is done; the summary says where the best checkpoint is."""
    ranks = parallel.world_size() if engine.engine == "inline" else workers
    now = parallel.told_by_first(jobs.instant(None))
    admitted = admission.pinned(config.admission, folders.begun(folder), now)
    config = config.model_copy(update={"admission": admitted})
    read = sources.opened(corpus, version, config.sources)
    admission.check(read, config.admission, now=now)
    listed = stream.check_packs(sources.mixed(read, config.sources, revoked={}))
    folders.check(config, [shard.info for shard in listed], ranks=ranks)
    if config.base is not None:
        folders.check_tokenizers(Path(config.base.folder), corpus, version)
    facts = {"config": config.model_dump(mode="json"), "folder": str(folder.absolute())}

    def claimed() -> str:
        name = folders.claim(folder, version, config, folders.tokenizers(corpus, version))
        for one in read.values():
            runs.record(*one, identity=name, facts=facts)
        log.event("run", folder=str(folder), identity=name, version=version.number, ranks=ranks)
        return name

    plan = Plan(
        corpus=corpus.store.uri,
        version=version.number,
        folder=str(folder.absolute()),
        config=config,
        identity=parallel.by_first(claimed),
    )
    if not parallel.told_by_first(ended(folder, plan)):
        with watched(folder, config, log):
            run_plan(plan, workers=workers, engine=engine)
        parallel.by_first(lambda: finish(folder, plan, live(corpus, version)))
    best = Checkpoints(folder=folder).best()
    if best is None:
        raise RuntimeError(f"{folder} holds no checkpoint after training; see its {METRICS}")
    return {
        "run": str(folder),
        "best": best.name,
        "steps": int(metrics(folder)[-1]["step"]),
        "model": str(folder / EXPORT),
        "curves": str(folder / curves.PAGE),
    }


def watched(folder: Path, config: TrainerConfig, log: Log) -> AbstractContextManager[Any]:
    """Progress, on the first rank."""
    if not parallel.is_first():
        return contextlib.nullcontext()
    return journal.watched(folder / METRICS, "train", total=config.optimizer.num_steps, log=log)


def finish(folder: Path, plan: Plan, ids: Live) -> None:
    """Behind the last step: the curves as a page, the weights as one file, and the word that it is done."""
    config = plan.config
    facts = {
        "name": folder.name,
        "steps": config.optimizer.num_steps,
        "parameters": budget.num_parameters(config.model, ids),
        "variant": config.model.variant,
        "dtype": config.loop.dtype,
    }
    curves.write(folder, metrics(folder), facts)
    last = Checkpoints(folder=folder).latest()
    if last is not None:
        shutil.rmtree(folder / EXPORT, ignore_errors=True)
        export.write(last, folder / EXPORT, export.origin(folder))
    LocalStore(str(folder)).write(DONE, done(plan, step=resumed_step(folder)).encode())


def done(plan: Plan, *, step: int) -> str:
    """What ended: the run, how long it was to be, and where. One that is made longer goes on."""
    return f"{plan.identity} {plan.config.optimizer.num_steps} {plan.config.loop.patience} {step}"


def ended(folder: Path, plan: Plan) -> bool:
    """Whether the run is done, and the checkpoint that it ended with is still there."""
    path = folder / DONE
    return path.exists() and path.read_text() == done(plan, step=resumed_step(folder))


def run_plan(plan: Plan, *, workers: int, engine: EngineOptions) -> None:
    if engine.engine == "inline":
        execute(plan.json(), report=reporter(Path(plan.folder)))
        return
    with cluster.joined(engine.cluster()):
        launch.launch(
            on_a_rank,
            plan.json(),
            folder=Path(plan.folder),
            workers=workers,
            cpus=plan.config.loop.threads,
            backend=parallel.BACKEND,
        )
