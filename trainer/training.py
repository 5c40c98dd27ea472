"""``pardalis train``: from the packs of a corpus version to a run's folder of checkpoints.

The same function trains in this process and in every rank of a Ray Train group. A run's folder belongs to one
identity (settings, packs); what it holds is resumed, never mixed with another's.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import distributed

from infra import cluster, journal, launch, runs
from infra.corpus import Corpus, Version
from infra.options import CorpusOptions, EngineOptions, answer
from infra.storage import LocalStore, Store
from infra.telemetry import Log
from pipeline import packs, reading
from pipeline.blocks import Shard
from pipeline.examples import KINDS
from pipeline.shards import ShardInfo
from pipeline.split import TRAIN
from tokenizer_service.vocabulary import Live
from trainer import folder as folders
from trainer import loop, sources, stream
from trainer.checkpoint import Checkpoints, read_state
from trainer.cm3 import Batch
from trainer.config import TrainerConfig
from trainer.loader import Loader
from trainer.loop import Outcome, Streams
from trainer.model import Transformer, initialise
from trainer.order import MAIN
from trainer.spans import MaskingSection
from trainer.stream import Masked, PackedStream

METRICS = "metrics.jsonl"
DONE = "done"
"""Names the identity of the run that ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A run: where its data is, how it trains, where it goes. JSON, so that it travels to every rank."""

    corpus: str
    version: int
    folder: str
    config: TrainerConfig

    def json(self) -> dict[str, Any]:
        return {
            "corpus": self.corpus,
            "version": self.version,
            "folder": self.folder,
            "config": self.config.model_dump(mode="json"),
        }

    @staticmethod
    def of(value: Mapping[str, Any]) -> Plan:
        config = reading.validated(TrainerConfig, value["config"], "the run's configuration")
        return Plan(corpus=value["corpus"], version=value["version"], folder=value["folder"], config=config)


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
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(plan.config.seed)  # dropout, where the model has any
    model = initialise(Transformer(plan.config.model, live(corpus, version)), seed=plan.config.seed)
    checkpoints = Checkpoints(folder=Path(plan.folder), keep=plan.config.loop.keep_checkpoints)
    found = streams(corpus, version, plan.config, device)
    with contextlib.closing(found.train):
        return loop.fit(
            model.to(device),
            found,
            plan.config.recipe({"corpus": plan.corpus, "version": plan.version}),
            report=report,
            checkpoints=checkpoints,
        )


def streams(corpus: Corpus, version: Version, config: TrainerConfig, device: torch.device) -> Streams:
    """Give this rank its share of the training packs, and held-out targets with neighbors and without."""
    read = sources.opened(corpus, version, config.sources)
    revoked = sources.taken_back(read)
    mixed = sources.mixed(read, config.sources, revoked)
    stream.check_room([shard.info for one in mixed.values() for shard in one.shards], config.masking)
    train = PackedStream(
        mixed,
        stream=config.stream,
        view=Masked(masking=config.masking),
        pieces=config.loader,
    )
    held_out = {
        name: packs.listed(corpus, version, kind, revoked=revoked[MAIN])
        for name, kind in zip(("neighbors", "alone"), KINDS[1:], strict=True)
    }
    return Streams(
        train=Loader(train, config.loader, device=device),
        validation={name: partial(unmasked, found, config) for name, found in held_out.items() if found},
    )


def unmasked(shards: list[Shard], config: TrainerConfig) -> Iterable[Batch]:
    """Held-out rows as they are, read from left to right."""
    return stream.validation(
        shards,
        masking=MaskingSection(max_spans=0),
        batch_rows=config.stream.rows_per_step,
        pieces=config.loader,
    )


def on_a_rank(config: dict[str, Any]) -> None:
    """What Ray Train runs in every worker of the group."""
    write = opened(Path(config["folder"]))

    def report(metrics: Mapping[str, float], _: Path | None) -> None:
        if not distributed.is_initialized() or distributed.get_rank() == 0:
            write(metrics)
        loop.to_ray(metrics)

    execute(config, report=report)


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
    options: CorpusOptions | None = None,
    engine: EngineOptions | None = None,
) -> None:
    """Train a model on the newest version's packs.

    Example: pardalis train --run runs/first --corpus s3://bucket/corpus --workers 8

    Parameters
    ----------
    run
        Folder for checkpoints and metrics, on a disk that the workers share.
    workers
        Ranks of the group; each takes a GPU where there are any.
    resume
        Go on with the run that the folder holds.
    """
    options, engine = options or CorpusOptions(), engine or EngineOptions()
    if Checkpoints(folder=runs.folder(run)).latest() and not resume:
        raise runs.OtherRun(f"{run} holds a run already; give --resume to go on with it, or another --run")
    corpus, log = options.open(), Log()
    version = corpus.newest()
    config = folders.settings(run, options, infos(corpus, version))
    config = config.model_copy(update={"sources": sources.pinned(config.sources)})
    try:
        summary = train_version(corpus, version, config, run, workers=workers, engine=engine, log=log)
    finally:
        log.save(corpus.store, "train")
    answer(summary, "\n".join(f"{name}: {value}" for name, value in summary.items()), json=options.json)


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
    ranks = 1 if engine.engine == "inline" else workers
    read = sources.opened(corpus, version, config.sources)
    listed = stream.check_packs(sources.mixed(read, config.sources, revoked={}))
    folders.check(config, [shard.info for shard in listed], ranks=ranks)
    name, facts = folders.identity(version, config), {"config": config.model_dump(mode="json")}
    folders.claim(folder, name, config, folders.tokenizers(corpus, version))
    for one in read.values():
        runs.record(*one, identity=name, facts=facts)
    log.event("run", folder=str(folder), identity=name, version=version.number, ranks=ranks)
    plan = Plan(corpus=corpus.store.uri, version=version.number, folder=str(folder.absolute()), config=config)
    if not ended(folder):
        with journal.watched(folder / METRICS, "train", total=config.optimizer.num_steps, log=log):
            run_plan(plan, workers=workers, engine=engine)
        LocalStore(str(folder)).write(DONE, name.encode())
    best = Checkpoints(folder=folder).best()
    if best is None:
        raise RuntimeError(f"{folder} holds no checkpoint after training; see its {METRICS}")
    return {"run": str(folder), "best": best.name, "steps": int(metrics(folder)[-1]["step"])}


def ended(folder: Path) -> bool:
    """Whether the run is done, and the checkpoint that it ended with is still there."""
    lines = metrics(folder)
    return (folder / DONE).exists() and bool(lines) and int(lines[-1]["step"]) == resumed_step(folder)


def run_plan(plan: Plan, *, workers: int, engine: EngineOptions) -> None:
    if engine.engine == "inline":
        write = opened(Path(plan.folder))
        execute(plan.json(), report=lambda metrics, _: write(metrics))
        return
    with cluster.joined(engine.cluster()):
        launch.launch(
            on_a_rank,
            plan.json(),
            folder=Path(plan.folder),
            workers=workers,
            cpus=plan.config.loop.threads,
        )
