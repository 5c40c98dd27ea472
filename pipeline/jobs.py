"""What the commands do that write a corpus: ``ingest`` and ``build``."""

from __future__ import annotations

import contextlib
import importlib.metadata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from infra import cluster, metrics
from infra.artifact import pretty
from infra.corpus import Corpus, Lease, Version
from infra.options import CorpusOptions, EngineOptions
from infra.telemetry import Log
from pipeline import audit, checking, config, folding, indexing, numerics, plan, settings, telling, weights
from pipeline import build as building
from pipeline.config import Config
from pipeline.engine import Engine, Inline
from pipeline.pool import OnRay, machine
from pipeline.reading import Told
from pipeline.scheduling import WorkersConfig
from pipeline.sealing import Seal
from pipeline.settings import CONFIG, Asked
from pipeline.step import Step

Answer = tuple[dict[str, Any], str]
"""Facts for machines, and lines for people."""
OTHERS = ("instruct",)
"""Steps beside the plan's."""
Balances = dict[str, dict[str, int]]
"""By step: rows in, and what became of them."""


@contextlib.contextmanager
def engine_of(options: EngineOptions, workers: WorkersConfig) -> Iterator[Engine]:
    """The engine that the command line asks for; a local Ray lives as long as the block."""
    if options.engine == "inline":
        yield Inline()
        return
    with (
        cluster.joined(options.cluster()),
        contextlib.closing(OnRay(workers)) as on_ray,
        numerics.working_on(machine(workers)),
    ):
        yield on_ray


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A corpus held for writing, with the configuration and the engine to write it."""

    corpus: Corpus
    lease: Lease
    config: Config
    engine: Engine
    log: Log
    seal: Seal

    def run(
        self, version: Version, steps: Sequence[Step], shortcut: building.Shortcut | None = None
    ) -> Version:
        return building.run(self.corpus, version, steps, self.engine, self.log, shortcut)

    def publish(self, head: Version, version: Version) -> Version:
        """Make the version the newest, and its configuration the corpus's: of work that failed, neither."""
        version = self.corpus.publish(self.lease, head, version)
        self.corpus.store.write(CONFIG, pretty(self.config.model_dump(mode="json")))
        return version


@contextlib.contextmanager
def job(
    command: str,
    asked: Asked,
    engine_options: EngineOptions,
    *,
    check: Callable[[Config], None] = lambda _: None,
) -> Iterator[Job]:
    """Take the lease, start the engine, and write the event log while it runs, whatever happens.

    ``check`` raises ValueError for a configuration that this job could not be done with.
    """
    corpus, found, log = asked.corpus, config.of(asked.told), Log()
    check(found)
    check_named(found)
    seal = Seal.of(found.pipeline.audit)
    with corpus.writing(purpose=f"pardalis {command}") as lease:
        begun = {
            "lease": lease.number,
            "version": corpus.head().number,
            "engine": engine_options.engine,
            "host": lease.holder["host"],
            "pid": lease.holder["pid"],
            "pardalis": importlib.metadata.version("pardalis"),
        }
        with (
            log.kept(corpus.store, command, **begun),
            metrics.served(),
            engine_of(engine_options, found.pipeline.workers) as engine,
        ):
            yield Job(corpus=corpus, lease=lease, config=found, engine=engine, log=log, seal=seal)


def check_named(found: Config) -> None:
    names = [step.name for step in plan.steps(found)]
    if unknown := sorted(set(found.pipeline.workers.large) - {*names, *OTHERS}):
        raise ValueError(
            f"pipeline.workers.large names {', '.join(unknown)}; steps are {', '.join([*names, *OTHERS])}"
        )


def load(corpus: Corpus, options: CorpusOptions) -> Config:
    """What :func:`settings.told` finds, validated."""
    return config.of(settings.told(corpus, options))


def configured(options: CorpusOptions) -> Config:
    """The file given, else the default one."""
    return config.of(settings.by_file(options))


def instant(text: str | None) -> datetime:
    """When rights are judged: as told, else now. A licence that has expired since is noticed so."""
    if text is None:
        return datetime.now(UTC).replace(microsecond=0)
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"--as-of {text!r} is no instant; write it as 2026-11-22T00:00:00Z") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def ingest(asked: Asked, deliveries: Sequence[str], as_of: str | None, engine: EngineOptions) -> Answer:
    with job("ingest", asked, engine) as work:
        before = len(work.corpus.head().deliveries)
        version, found = ingest_all(work, deliveries, as_of)
        examples = checking.examples(checking.refused(work.corpus, version, before))
    lines = [told(version, found), *checking.told_examples(examples)]
    return {**summary(version, found), "examples": examples}, "\n".join(lines)


def check(corpus: Corpus | None, found: Told, deliveries: Sequence[str], as_of: str | None) -> Answer:
    """What :func:`ingest` would do; deliveries can be checked before there is any corpus."""
    facts = checking.check(corpus, deliveries, config.of(found), instant(as_of))
    return facts, checking.text(facts)


def ingest_all(work: Job, deliveries: Sequence[str], as_of: str | None) -> tuple[Version, Balances]:
    head = work.corpus.head()
    judged = instant(as_of)
    version = replace(folding.fold(work.corpus, head, deliveries), as_of=judged.isoformat())
    steps = plan.ingest_steps(work.config, judged)
    telling.plan(work.log, steps, version)
    version = work.publish(head, current(work.run(version, steps), head, steps))
    audit.ingested(work.corpus, version, seal=work.seal)
    return version, balances(work.corpus, version, steps)


def current(version: Version, head: Version, steps: Sequence[Step]) -> Version:
    """Without what was built from other decisions: nothing may serve an asset that has just been refused.

    ``build`` lists it again, from the shards that are there and those that are new.
    """
    mine = {step.name: version.artifacts[step.name] for step in steps}
    same = all(head.artifacts.get(name) == key for name, key in mine.items())
    return version if same else replace(version, artifacts=mine)


def build(asked: Asked, to: str | None, engine: EngineOptions) -> Answer:
    def check(found: Config) -> None:
        commercial = is_commercial(asked.corpus, asked.corpus.newest(), found)
        weights.check(found, commercial=commercial, packs=to in (None, "examples"))

    with job("build", asked, engine, check=check) as work:
        version, found = build_all(work, to)
    return summary(version, found), told(version, found)


def is_commercial(corpus: Corpus, version: Version, config: Config) -> bool:
    """Whether the settings say so, or those did by which the version's assets were admitted."""
    admitted = corpus.artifact(version, "decide").settings["commercial"]
    return bool(admitted or config.pipeline.purpose.commercial)


def build_all(work: Job, to: str | None = None) -> tuple[Version, Balances]:
    head = work.corpus.newest()
    version = head
    steps = plan.up_to(plan.build_steps(work.config), to)
    telling.plan(work.log, steps, version)
    for step in steps:
        if step.name == "codes":
            version = indexing.register(work.corpus, version)
        version = work.run(version, [step])
    version = work.publish(head, version)
    audit.built(work.corpus, version, seal=work.seal)
    return version, balances(work.corpus, version, steps)


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
