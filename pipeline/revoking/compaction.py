"""What is left of a version without some assets: every shard that held them anew, all others as they are.

The surprising rule: there is no second pipeline. The same steps list the same tasks under the same keys, as a
build without those assets would; a shard whose inputs only lost rows is made of its older self by dropping
them, which is cheaper and comes to the same bytes.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from infra.artifact import Artifact, Made, Shard, find_artifact, fingerprint
from infra.corpus import Corpus, Version
from infra.storage import Store
from pipeline import erasing, refs, schema
from pipeline.embed import EMBEDDINGS
from pipeline.step import Before, Do, Erase, Report, Step, Task


def whole(corpus: Corpus, head: Version) -> Version:
    """The newest version with all that was ever built of the corpus: an ingest that changed decisions lists
    nothing that was built on others, and what is taken back goes from that too.
    """
    found = head
    for number in range(head.number - 1, head.floor - 1, -1):
        older = corpus.version(number) if number else head
        if {*older.artifacts} > {*found.artifacts}:
            found = older
    return found


@dataclass(slots=True, kw_only=True)
class Compaction:
    """A :class:`pipeline.build.Shortcut`."""

    store: Store
    version: Version
    """As it was."""
    slots: Mapping[str, frozenset[str]]
    """What is gone, by slot."""
    gone: frozenset[str] = field(init=False)
    _less: set[str] = field(default_factory=set)
    """Names of files that are what they were, but for rows of what is gone."""
    _embedded: tuple[refs.Ref, ...] = ()
    _erasing: set[tuple[str, str]] = field(default_factory=set)
    """(step, slot) that are made by erasing."""

    def __post_init__(self) -> None:
        self.gone = frozenset(uid for some in self.slots.values() for uid in some)
        embedded = self.before("embed")
        touched = (embedded[slot] for slot in sorted(self.slots) if slot in embedded)
        self._embedded = refs.each(self.store, touched, EMBEDDINGS)
        for step, key in self.version.models.items():
            for shard in self._artifact(step, key).values():
                self._less.update(shard.name(file) for file in shard.files)

    def before(self, step: str) -> Mapping[str, Shard]:
        """The step's shards as they were, by slot."""
        key = self.version.artifacts.get(step) or self.version.models.get(step)
        return {} if key is None else self._artifact(step, key)

    def _artifact(self, step: str, key: str) -> Mapping[str, Shard]:
        found = find_artifact(self.store, step, key)
        return {} if found is None else found.shards

    def ways(self, step: Step, tasks: Sequence[Task]) -> list[tuple[Step, list[Task]]]:
        """By erasing where that may be asked, else by the step's own work."""
        erase, before = step.erase, self._same_step(step)
        if erase is None or before is None:
            return [(step, list(tasks))]
        cheap = [
            replace(task, hints={**task.hints, BEFORE: self._of(before.shards[task.slot])})
            for task in tasks
            if task.slot in before.shards and self._may(step, before.shards[task.slot], task)
        ]
        self._erasing |= {(step.name, task.slot) for task in cheap}
        slots = {task.slot for task in cheap}
        rest = [task for task in tasks if task.slot not in slots]
        way = replace(step, erasing=True, open=functools.partial(opened, erase=erase))
        return [(way, cheap), (step, rest)] if cheap else [(step, rest)]

    def _of(self, shard: Shard) -> Before:
        return Before(store=self.store, shard=shard, gone=self.gone, embedded=self._embedded)

    def _same_step(self, step: Step) -> Artifact | None:
        """The artifact as it was, if the step means what it meant then: its settings, revision, libraries."""
        key = self.version.artifacts.get(step.name)
        found = None if key is None else find_artifact(self.store, step.name, key)
        if found is None:
            return None
        keys = {slot: shard.key for slot, shard in found.shards.items()}
        return found if fingerprint(step.identity(), keys) == found.key else None

    def _may(self, step: Step, shard: Shard, task: Task) -> bool:
        return self._lost_only_rows(task) and (step.erasable is None or step.erasable(self._of(shard)))

    def _lost_only_rows(self, task: Task) -> bool:
        """Deliveries' own files do not change, and registers are not read by what may be erased."""
        looked_up = (directory.files.values() for directory in task.directories.values())
        every = (ref for files in (*task.reads.values(), *looked_up) for ref in files)
        mine = (ref for ref in every if ref.store == self.store and ref.name.startswith("shards/"))
        return all(ref.name in self._less for ref in mine)

    def made(self, step: Step, shards: Mapping[str, Shard]) -> None:
        before = self.before(step.name)
        for slot, shard in shards.items():
            old = before.get(slot)
            erased = (step.name, slot) in self._erasing and (
                step.alike is None or old is None or step.alike(old, shard)
            )
            self._less.update(
                shard.name(file)
                for file in shard.files
                if erased or (old is not None and self._is_less(old, shard, file))
            )

    def _is_less(self, old: Shard, new: Shard, file: str) -> bool:
        if file not in old.files:
            return False
        if old.sha256(file) == new.sha256(file):
            return True
        if file.endswith(".npy"):
            return True  # queries that an index is measured by: nothing else hangs on them
        if not file.endswith((".parquet", ".arrow")):
            return False
        table, left = (
            erasing.table_of(file, refs.of(self.store, shard, file).read()) for shard in (old, new)
        )
        return schema.UID.name in table.column_names and bool(erasing.dropped(table, self.gone).equals(left))


BEFORE = "before"
"""Hint of a task that is done by erasing."""


def opened(erase: Erase) -> Do:
    return functools.partial(erased, erase=erase)


def erased(task: Task, _report: Report, *, erase: Erase) -> Made:
    return erase(task, task.hints[BEFORE])
