"""Build a version: walk the steps, make what is missing, list the rest.

Nothing is done twice. An artifact whose key exists is taken as it is; within one that does not, a shard
whose key exists is listed as it is. So a finished plan runs nothing, a killed build goes on where it was,
and a delivery that arrives later costs its own shards.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from infra.artifact import Artifact, Shard, find_artifact, find_shards, fingerprint, publish_artifact
from infra.corpus import Corpus, Version
from infra.storage import Store
from infra.telemetry import Log
from pipeline import telling
from pipeline.engine import Engine
from pipeline.outcomes import KEPT
from pipeline.step import OutOfMemory, Source, Step, Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """The steps' source: the version as far as it is built."""

    corpus: Corpus
    version: Version

    @property
    def store(self) -> Store:
        return self.corpus.store

    def artifact(self, step: str) -> Artifact:
        return self.corpus.artifact(self.version, step)


class Shortcut(Protocol):
    """A cheaper way to the same bytes."""

    def ways(self, step: Step, tasks: Sequence[Task]) -> list[tuple[Step, list[Task]]]:
        """The tasks, each in exactly one of the ways in which the step may make it."""

    def made(self, step: Step, shards: Mapping[str, Shard]) -> None:
        """Told once of all the shards of a step, by slot."""


def run(
    corpus: Corpus,
    version: Version,
    steps: Sequence[Step],
    engine: Engine,
    log: Log,
    shortcut: Shortcut | None = None,
) -> Version:
    """The version with every step's artifact listed; not yet published."""
    for step in steps:
        if telling.is_pinned(step, version):
            check_pinned(corpus.artifact(version, step.name), step)
            telling.pinned(log, step, version)
            continue
        artifact = run_step(Built(corpus=corpus, version=version), step, engine, log, shortcut)
        version = listing(version, step, artifact)
    return version


def check_pinned(model: Artifact, step: Step) -> None:
    """A model that is pinned was fitted with the settings that are asked for."""
    asked = settings(step)
    if model.settings != asked:
        names = ", ".join(sorted(name for name in asked if model.settings.get(name) != asked[name]))
        raise ValueError(
            f"{step.name} was fitted with other settings ({names} changed) and is pinned here, since "
            "tokens and vectors depend on it; leave these settings as they were, or begin another corpus"
        )


def listing(version: Version, step: Step, artifact: Artifact) -> Version:
    if step.fitted:
        return replace(version, models={**version.models, step.name: artifact.key})
    # What is made again is in an order of its own.
    origins = {name: key for name, key in version.origins.items() if name != step.name}
    return replace(version, artifacts={**version.artifacts, step.name: artifact.key}, origins=origins)


def run_step(
    source: Built, step: Step, engine: Engine, log: Log, shortcut: Shortcut | None = None
) -> Artifact:
    """The step's artifact; where a device's memory ran out, in smaller batches.

    All of its shards are then made in these, since the batch decides the last bits of what is made in it.
    """
    for tried in batches(source, step):
        try:
            return artifact_of(source, tried, engine, log, shortcut)
        except OutOfMemory as error:
            log.event("out_of_memory", step=step.name, settings=settings(tried), error=str(error))
            if tried.smaller is None:
                raise
    raise AssertionError("the last of the batches either was made or raised")


def batches(source: Built, step: Step) -> Iterator[Step]:
    """The step, then in ever smaller batches; beginning with those that the version was last built in."""
    steps = [step]
    while (smaller := steps[-1].smaller) is not None:
        steps.append(smaller())
    last = find_artifact(source.store, step.name, source.version.artifacts.get(step.name, ""))
    first = (number for number, one in enumerate(steps) if last and settings(one) == last.settings)
    yield from steps[next(first, 0) :]


def settings(step: Step) -> dict[str, Any]:
    return step.settings.model_dump(mode="json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The tasks of a step, and the keys by which what they make is found."""

    tasks: Sequence[Task]
    """Without those of models that stay as they are."""
    pinned: Mapping[str, Shard]
    """The shards of those, by slot."""
    keys: Mapping[str, str]
    """Of all, by slot."""
    key: str
    """The artifact's."""

    @staticmethod
    def of(source: Built, step: Step) -> Wanted:
        tasks, pinned = step.tasks(source), staying(source, step)
        keys = {one.slot: pinned[one.slot].key if one.slot in pinned else step.key(one) for one in tasks}
        return Wanted(
            tasks=[one for one in tasks if one.slot not in pinned],
            pinned={slot: shard for slot, shard in pinned.items() if slot in keys},
            keys=keys,
            key=fingerprint(step.identity(), keys),
        )

    def there(self, store: Store, step: Step) -> dict[str, Shard]:
        """The shards that the tasks need not make, by slot."""
        wanted = {task.slot: self.keys[task.slot] for task in self.tasks}
        found = find_shards(store, step.name, wanted.values())
        return {slot: found[key] for slot, key in wanted.items() if key in found}


def artifact_of(
    source: Built, step: Step, engine: Engine, log: Log, shortcut: Shortcut | None = None
) -> Artifact:
    wanted = Wanted.of(source, step)
    artifact = find_artifact(source.store, step.name, wanted.key)
    if artifact is not None:
        telling.found(log, step, source.version, artifact)
        if shortcut is not None:
            shortcut.made(step, artifact.shards)
        return artifact
    inputs = {name: source.artifact(name).key for name in step.inputs}
    shards = make_shards(source, step, wanted, engine, log, shortcut)
    shards |= wanted.pinned
    artifact = Artifact(
        step=step.name,
        key=wanted.key,
        settings=settings(step),
        inputs=inputs,
        shards=shards,
    )
    balance(step, artifact, source)
    publish_artifact(source.store, artifact)
    return artifact


def staying(source: Built, step: Step) -> dict[str, Shard]:
    """Of a model with a slot a generation, what was fitted before and is taken as it is."""
    key = source.version.models.get(step.name) if step.stays is not None else None
    fitted = None if key is None else find_artifact(source.store, step.name, key)
    if fitted is None or step.stays is None or fitted.settings != settings(step):
        return {}
    return {slot: shard for slot, shard in fitted.shards.items() if step.stays(source, slot, shard)}


def make_shards(
    source: Built,
    step: Step,
    wanted: Wanted,
    engine: Engine,
    log: Log,
    shortcut: Shortcut | None = None,
) -> dict[str, Shard]:
    store = source.store
    shards = wanted.there(store, step)
    there = len(shards)
    missing = [task for task in wanted.tasks if task.slot not in shards]
    ways = [(step, missing)] if shortcut is None else shortcut.ways(step, missing)
    telling.begin(log, step, source.version, there=there, missing=len(missing))
    rows = 0
    with log.bar(step.name, total=len(missing), unit="steps" if step.fitted else "shards") as bar:
        for way, mine in ways:
            for done in engine.run(way, mine, store, bar):
                shards[done.slot] = done.shard
                telling.made(log, way, done)
                if not step.fitted:
                    rows += sum(done.shard.counts.values())
                    bar.advance(1, f"{rows} rows")
        if step.fitted:
            bar.done = bar.total
        bar.note = bar.note or (f"{rows} rows" if rows else "")
        seconds = bar.seconds
    telling.end(log, step)
    log.event(
        "step",
        step=step.name,
        shards_made=len(missing),
        shards_found=there,
        rows=rows,
        seconds=round(seconds, 3),
        rows_per_s=round(rows / seconds, 1) if rows else None,
    )
    if shortcut is not None:
        shortcut.made(step, shards)
    return shards


def told(name: str, counts: Mapping[str, int]) -> str:
    """A step's balance as one line."""
    rest = ", ".join(f"{outcome} {rows}" for outcome, rows in counts.items() if outcome != "in")
    return f"  {name:<10} {counts['in']:>7} in: {rest}"


def balance(step: Step, artifact: Artifact, source: Source) -> dict[str, int]:
    """Rows that the step before kept, and what became of each here; RuntimeError if some are unaccounted for.

    The first input of a step is the one that brings its rows; a model that is fitted settles no row.
    """
    counts = artifact.counts
    settled = sum(counts.values())
    came = source.artifact(step.inputs[0]).counts.get(KEPT, 0) if step.inputs else settled
    if not step.fitted and came != settled:
        raise RuntimeError(
            f"step {step.name!r} was given {came} rows and settled {settled}: some are unaccounted "
            "for; a corpus that an older release built is built again, anything else is a bug"
        )
    return {"in": settled, KEPT: counts.get(KEPT, 0), **counts}
