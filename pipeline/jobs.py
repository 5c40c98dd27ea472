"""The commands that write a corpus: ``ingest`` and ``build``."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Annotated, Any

from cyclopts import Parameter

from infra import cluster
from infra.artifact import pretty
from infra.corpus import Corpus, Lease, NoCorpus, Version
from infra.options import CorpusOptions, EngineOptions, answer
from infra.telemetry import Log
from pipeline import build as building
from pipeline import checking, folding, indexing, plan, weights
from pipeline import config as configuration
from pipeline.config import Config
from pipeline.engine import Engine, Inline, OnRay
from pipeline.step import Step

CONFIG = "config.json"
"""The resolved configuration that the corpus was last written with."""


@contextlib.contextmanager
def engine_of(options: EngineOptions) -> Iterator[Engine]:
    """The engine that the command line asks for; a local Ray lives as long as the block."""
    if options.engine == "inline":
        yield Inline()
        return
    with cluster.joined(options.cluster()), contextlib.closing(OnRay()) as on_ray:
        yield on_ray


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A corpus held for writing, with the configuration and the engine to write it."""

    corpus: Corpus
    lease: Lease
    config: Config
    engine: Engine
    log: Log

    def run(self, version: Version, steps: Sequence[Step]) -> Version:
        return building.run(self.corpus, version, steps, self.engine, self.log)

    def publish(self, head: Version, version: Version) -> Version:
        """Make the version the newest, and its configuration the corpus's: of work that failed, neither."""
        version = self.corpus.publish(self.lease, head, version)
        self.corpus.store.write(CONFIG, pretty(self.config.model_dump(mode="json")))
        return version


@contextlib.contextmanager
def job(
    command: str,
    options: CorpusOptions,
    engine_options: EngineOptions,
    *,
    check: Callable[[Config], None] = lambda _: None,
) -> Iterator[Job]:
    """Take the lease, start the engine, and write the event log whatever happens.

    ``check`` raises ValueError for a configuration that this job could not be done with.
    """
    corpus, log = options.open(), Log()
    config = load(corpus, options)
    check(config)
    with corpus.writing(purpose=f"pardalis {command}") as lease:
        try:
            with engine_of(engine_options) as found:
                yield Job(corpus=corpus, lease=lease, config=config, engine=found, log=log)
        finally:
            log.save(corpus.store, command)


def load(corpus: Corpus, options: CorpusOptions) -> Config:
    """The file given; else the configuration that the corpus was last written with; else the default one.

    What is used is kept with the corpus, resolved, so that the next command need not be told again.
    """
    if options.config is None and corpus.store.exists(CONFIG):
        values = json.loads(corpus.store.read(CONFIG))
        values = configuration.overridden(values, options.overrides)
        return configuration.mine(values, corpus.store.where(CONFIG))
    return configured(options)


def configured(options: CorpusOptions) -> Config:
    """The file given, else the default one."""
    path = options.config or configuration.CONFIGS / "node.toml"
    return configuration.load(path, options.overrides)


def instant(text: str | None) -> datetime:
    """When rights are judged: as told, else now. A licence that has expired since is noticed so."""
    if text is None:
        return datetime.now(UTC).replace(microsecond=0)
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"--as-of {text!r} is no instant; write it as 2026-11-22T00:00:00Z") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def ingest(
    *delivery: str,
    check: Annotated[bool, Parameter(negative="")] = False,
    as_of: str | None = None,
    options: CorpusOptions | None = None,
    engine: EngineOptions | None = None,
) -> None:
    """Fold deliveries into a corpus: check them, decide rights, and store what is admitted.

    Example: pardalis ingest /data/delivery-0007 --corpus s3://bucket/corpus

    Parameters
    ----------
    delivery
        Folder or s3:// address of a delivery. None decides again, for another instant.
    check
        Read and decide everything, tell what would change, and write nothing. Runs in this process.
    as_of
        Instant at which licences and revocations are judged, UTC; default now.
    """
    options, engine = options or CorpusOptions(), engine or EngineOptions()
    if check:
        found = checked(delivery, options, instant(as_of))
        answer(found, checking.text(found), json=options.json)
        return
    if not delivery and not options.open().numbers():
        raise NoCorpus(f"{options.address()} holds no corpus yet; name a delivery to begin one with")
    with job("ingest", options, engine) as work:
        before = len(work.corpus.head().deliveries)
        version, balances = ingest_all(work, delivery, as_of)
        examples = checking.examples(checking.refused(work.corpus, version, before))
    lines = "\n".join([told(version, balances), *checking.told_examples(examples)])
    answer({**summary(version, balances), "examples": examples}, lines, json=options.json)


def checked(deliveries: Sequence[str], options: CorpusOptions, as_of: datetime) -> dict[str, Any]:
    """What :func:`ingest` would do; deliveries can be checked before there is any corpus."""
    try:
        corpus = options.open()
    except NoCorpus:
        if not deliveries:
            raise
        return checking.check(None, deliveries, configured(options), as_of)
    if not deliveries:
        corpus.newest()
    return checking.check(corpus, deliveries, load(corpus, options), as_of)


def ingest_all(work: Job, deliveries: Sequence[str], as_of: str | None) -> tuple[Version, Balances]:
    head = work.corpus.head()
    judged = instant(as_of)
    version = replace(folding.fold(work.corpus, head, deliveries), as_of=judged.isoformat())
    steps = plan.ingest_steps(work.config, judged)
    version = work.publish(head, current(work.run(version, steps), head, steps))
    return version, balances(work.corpus, version, steps)


def current(version: Version, head: Version, steps: Sequence[Step]) -> Version:
    """Without what was built from other decisions: nothing may serve an asset that has just been refused.

    ``build`` lists it again, from the shards that are there and those that are new.
    """
    mine = {step.name: version.artifacts[step.name] for step in steps}
    same = all(head.artifacts.get(name) == key for name, key in mine.items())
    return version if same else replace(version, artifacts=mine)


def build(
    *,
    to: str | None = None,
    options: CorpusOptions | None = None,
    engine: EngineOptions | None = None,
) -> None:
    """Make whatever is missing, from filters to packed token shards.

    Example: pardalis build --to index --corpus s3://bucket/corpus --address 10.0.0.1:6379

    Parameters
    ----------
    to
        Last step to run; default all of them.
    """
    options, engine = options or CorpusOptions(), engine or EngineOptions()
    with job("build", options, engine, check=weights.check) as work:
        version, found = build_all(work, to)
    answer(summary(version, found), told(version, found), json=options.json)


def build_all(work: Job, to: str | None = None) -> tuple[Version, Balances]:
    head = work.corpus.newest()
    version = head
    steps = plan.up_to(plan.build_steps(work.config), to)
    for step in steps:
        if step.name == "index":
            version = indexing.register(work.corpus, version)
        version = work.run(version, [step])
    version = work.publish(head, version)
    return version, balances(work.corpus, version, steps)


Balances = dict[str, dict[str, int]]
"""By step: rows in, and what became of them."""


def balances(corpus: Corpus, version: Version, steps: Sequence[Step]) -> Balances:
    """Of the steps that had anything to do: most deliveries bring their images, and nothing is fetched."""
    source = building.Built(corpus=corpus, version=version)
    artifacts = {step.name: source.artifact(step.name) for step in steps}
    return {
        step.name: building.balance(step, artifacts[step.name], source)
        for step in steps
        if artifacts[step.name].shards
    }


def summary(version: Version, found: Balances) -> dict[str, Any]:
    return {"version": version.number, "as_of": version.as_of, "steps": found}


def told(version: Version, found: Balances) -> str:
    lines = (building.told(name, counts) for name, counts in found.items())
    return "\n".join([f"version {version.number}, rights as of {version.as_of}", *lines])
