"""A step makes an artifact from artifacts: one task a shard, looked up before it is done.

*Map* steps go shard to shard and keep the slot. *Global* steps (dedup, fits, index, neighbors, pack) declare
in their tasks what each of their shards reads. Either way a task's key is the hash of the step, its
revision, its settings, its numerics and the sha256 of every file it reads, so a delta or a revocation redoes
only what it must.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from infra.artifact import Artifact, Made, Shard, fingerprint
from infra.corpus import Version
from infra.settings import Section
from infra.storage import Store
from pipeline import refs

ROWS = "rows.parquet"
"""The catalog rows of a shard, in every step that carries them."""
IMAGES = "images.tar"

Report = Callable[[int, int, str], None]
"""Told by long work: (done, total, note)."""


def nothing_told(_done: int, _total: int, _note: str, /) -> None:
    """A :data:`Report` for work that is short."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One shard to make."""

    slot: str
    reads: Mapping[str, tuple[refs.Ref, ...]]
    """Everything the work may open, by role; but for what it looks up."""
    directories: Mapping[str, refs.Directory] = field(default_factory=dict)
    """In which it looks up files, by role; many tasks share one."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """JSON values that decide the bytes beside the files read."""
    hints: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """Values that do not decide them, such as how many rows to expect; never part of the key, never written
    or shown: they may hold signed addresses."""

    def only(self, role: str) -> refs.Ref:
        (ref,) = self.reads[role]
        return ref


Do = Callable[[Task, Report], Made]


@dataclass(frozen=True, slots=True, kw_only=True)
class Before:
    """What a slot held until some assets were taken back."""

    store: Store
    shard: Shard
    gone: frozenset[str]
    """Their uids."""
    embedded: tuple[refs.Ref, ...] = ()
    """The embeddings among which theirs were."""

    def read(self, file: str) -> bytes:
        return refs.of(self.store, self.shard, file).read()


Erase = Callable[[Task, Before], Made]
"""What a task makes, of what was made before some assets were taken back: asked only where all that it reads
is what was read then, less their rows. Byte for byte what :data:`Do` makes.
"""


class OutOfMemory(RuntimeError):
    """A batch did not fit the device; the step is done again as ``Step.smaller`` says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workers:
    """What one worker reserves. Its threads are set to its CPUs, by every engine: sums depend on it."""

    cpus: int = 1
    gpus: float = 0.0
    """Fraction of a device: 0.25 places four workers on one GPU."""


class Source(Protocol):
    """What a step may ask for when it lists its tasks."""

    @property
    def store(self) -> Store: ...
    @property
    def version(self) -> Version: ...
    def artifact(self, step: str) -> Artifact: ...


Stays = Callable[[Source, str, Shard], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    name: str
    revision: int = 1
    """Raise when the step starts to mean something else; a refactoring leaves it alone."""
    inputs: tuple[str, ...] = ()
    """Steps whose artifacts it reads."""
    settings: Section
    numerics: Mapping[str, Any] = field(default_factory=dict)
    """For steps that multiply: device kind, dtype, threads, versions of the libraries."""
    tasks: Callable[[Source], Sequence[Task]]
    open: Callable[[], Do]
    """Called once a worker; must pickle."""
    workers: Workers = field(default_factory=Workers)
    erase: Erase | None = None
    """None: the work is done again."""
    erasable: Callable[[Before], bool] | None = None
    """Whether that may be asked of a shard, beyond what is true of every step."""
    alike: Callable[[Shard, Shard], bool] | None = None
    """Whether a shard that was made of fewer rows, by the work itself, still gives the others what the one
    before gave them."""
    erasing: bool = False
    """Whether ``open`` gives a way to erase, and not the work itself."""
    fitted: bool = False
    """A model: fitted once, then pinned by the version."""
    stays: Stays | None = None
    """Of a model that has a slot a generation: whether the one that was fitted is still to be taken, as long
    as the settings are the same. Without it, a model is pinned whole, and other settings are refused."""
    speculative: bool = True
    """Whether an idle worker may begin a shard beside a slow one: not where others' servers are asked."""
    smaller: Callable[[], Step] | None = None
    """The same step in smaller batches; none where it has no batches, or they are of one row."""

    def identity(self) -> list[Any]:
        return [self.name, self.revision, self.settings.model_dump(mode="json"), dict(self.numerics)]

    def key(self, task: Task) -> str:
        reads = {role: [ref.sha256 for ref in files] for role, files in task.reads.items()}
        looks = {role: directory.sha256 for role, directory in task.directories.items()}
        return fingerprint(self.identity(), reads, dict(task.facts), *([looks] if looks else []))


def slot_name(generation: int, shard: int) -> str:
    """Slots sort by generation, then by shard, as texts: up to 99,999 deliveries of 999,999 shards.

    A shard of addresses has 32 rows, so a delivery of 3.2 million has more than five digits tell.

    >>> slot_name(12, 345)
    '00012-000345'
    """
    return f"{generation:05d}-{shard:06d}"


def try_name(slot: str, number: int) -> str:
    """The slot of one of the tries that are made for a slot; they sort by their number.

    >>> try_name("00012-000345", 6)
    '00012-000345.00006'
    """
    return f"{slot}.{number:05d}"


def by_slot(shards: Mapping[str, Shard]) -> dict[str, list[Shard]]:
    """The tries of each slot, in their order."""
    found: dict[str, list[Shard]] = {}
    for name in sorted(shards):
        found.setdefault(name.rpartition(".")[0], []).append(shards[name])
    return found


def generation(slot: str) -> str:
    """The part of a slot that names the delivery which brought its rows."""
    return slot.partition("-")[0]


def aligned(source: Source, **roles: tuple[str, str]) -> list[Task]:
    """A task for each slot of the first role's step; every role names (step, file) and reads that very slot.

    A fitted step has one shard, which every task reads.
    """
    artifacts = {role: (source.artifact(step), file) for role, (step, file) in roles.items()}
    first, _ = next(iter(artifacts.values()))
    tasks = []
    for slot in first.shards:
        reads = {
            role: (refs.of(source.store, found.at(slot), file),) for role, (found, file) in artifacts.items()
        }
        tasks.append(Task(slot=slot, reads=reads))
    return tasks


def gathered(source: Source, slot: str, **roles: tuple[str, str]) -> Task:
    """One task that reads a file of every shard of the steps named."""
    reads = {
        role: refs.each(source.store, source.artifact(step).shards.values(), file)
        for role, (step, file) in roles.items()
    }
    return Task(slot=slot, reads=reads)


def of_some(task: Task, kept: int, most: int) -> Task:
    """Told the share of its rows to look at, by a hash of each, where more than so many are kept."""
    return replace(task, facts={"share": most / kept}) if kept > most else task
