"""Revocations as they come: in newer versions of the corpus, and in files that somebody puts in a place.

The surprising rule: there is no un-revoking. What was loaded stays in force until the service ends, though
its file is emptied, broken or taken away; a file is often read while it is written.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from infra.corpus import Corpus
from infra.storage import UNREACHABLE, Store
from infra.telemetry import say
from pipeline import folding, withdrawn
from pipeline.contract import Revocation
from pipeline.deliveries import listing
from pipeline.searching import standing
from pipeline.searching.holdings import Holdings
from pipeline.searching.standing import Standing

SUFFIX = ".jsonl"
FAULTS = (*UNREACHABLE, ValueError)
"""Of a source that cannot be read now."""
MAX_BYTES = listing.MAX_BYTES["revocations"]
CORPUS, PLACE = "the corpus", "--revocations"
"""Names of sources; a file has its own."""
TIME = "%Y-%m-%dT%H:%M:%SZ"
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A file of revocations, or a folder of such."""

    store: Store
    file: str | None
    """None for all that end in SUFFIX."""

    @staticmethod
    def at(path: str) -> Place:
        address = path if "://" in path else str(Path(path).expanduser().absolute())
        if address.endswith(SUFFIX):
            folder, _, name = address.rpartition("/")
            return Place(store=Store.at(folder or "/"), file=name)
        if "://" not in path and not Path(address).is_dir():
            fix = f"name a file that ends in {SUFFIX}, or a folder of such"
            raise ValueError(f"--revocations {path}: there is no such folder; {fix}")
        return Place(store=Store.at(address), file=None)

    def stamps(self) -> dict[str, str]:
        if self.file is not None:
            return {self.file: self.store.stamp(self.file)}
        return {name: stamp for name, stamp in self.store.stamps().items() if name.endswith(SUFFIX)}

    def read(self, name: str) -> list[Revocation]:
        return listing.revocations_at(self.store, name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Why a source cannot be read now."""

    told: str
    since: datetime


@dataclass(slots=True, kw_only=True)
class Watch:
    """Looked through by one thread."""

    corpus: Corpus
    place: Place | None
    holdings: Holdings
    now: Callable[[], datetime]
    faults: Mapping[str, Fault] = field(default_factory=dict)
    """By source; another takes its place, since another thread looks at it."""
    _records: dict[str, Revocation] = field(default_factory=dict)
    """All that ever came, by their JSON."""
    _copies: list[Revocation] = field(default_factory=list)
    """The same of the bytes behind what they name."""
    _withdrawn: Collection[str] = ()
    """Uids that were taken out of the index, as the newest version has them."""
    _newest: int = 0
    _stamps: dict[str, str] = field(default_factory=dict)
    """Of the files that were read, as they were then."""
    _built: tuple[int, Collection[str]] | None = None
    """How many records, and what was withdrawn, as it was told last."""
    _due: datetime | None = None
    """When the next of them takes effect."""

    def begin(self) -> Standing:
        """What stands at first. Whoever cannot read it does not begin: ValueError."""
        found = self.look()
        if self.faults:
            raise ValueError("\n".join(fault.told for fault in self.faults.values()))
        assert found is not None  # noqa: S101  # nothing was told before
        return found

    def look(self) -> Standing | None:
        """What stands now, if that is not what was told before."""
        self._tried(CORPUS, self._read_corpus)
        for name, stamp in self._changed().items():
            self._tried(name, functools.partial(self._read_file, name, stamp))
        same = (len(self._records), self._withdrawn) == self._built
        if same and (self._due is None or self.now() < self._due):
            return None
        return self._standing()

    def told(self) -> dict[str, Any]:
        """For whoever looks after the service."""
        unreadable = {name: f"since {fault.since:{TIME}}" for name, fault in self.faults.items()}
        return {"records": len(self._records), "unreadable": unreadable}

    def _standing(self) -> Standing:
        records, now = [*self._records.values(), *self._copies], self.now()
        found = standing.of(records, self.holdings, now, withdrawn=self._withdrawn)
        self._due = min((one.effective_at for one in records if one.effective_at > now), default=None)
        self._built = (len(self._records), self._withdrawn)
        return found

    def _add(self, records: Iterable[Revocation]) -> None:
        by_json = {record.model_dump_json(by_alias=True): record for record in records}
        new = {key: record for key, record in by_json.items() if key not in self._records}
        if new:
            self._copies += standing.copies([*new.values()], self.holdings)
            self._records |= new

    def _read_corpus(self) -> None:
        newest = max(self.corpus.numbers(), default=0)
        if newest != self._newest:
            version = self.corpus.version(newest)
            self._withdrawn = withdrawn.uids(self.corpus.store, version)
            self._add(folding.revocations(self.corpus.store, version))
            self._newest = newest

    def _changed(self) -> dict[str, str]:
        """The files that are not as they were when they were read."""
        stamps = None if self.place is None else self._tried(PLACE, self.place.stamps)
        if stamps is None:
            return {}
        for name in self._stamps.keys() - stamps.keys():  # taken away; what it said stays in force
            del self._stamps[name]
            self.mends(name)
        return {name: stamp for name, stamp in stamps.items() if self._stamps.get(name) != stamp}

    def _read_file(self, name: str, stamp: str) -> None:
        assert self.place is not None  # noqa: S101  # it has just told of the file
        try:
            found = self.place.read(name)
        except ValueError:
            self._stamps[name] = stamp  # read again when it is another
            raise
        self._add(found)
        self._stamps[name] = stamp

    def _tried(self, source: str, read: Callable[[], T]) -> T | None:
        """What was read; where nothing could be, that is told once, and what was in force stays so."""
        try:
            found = read()
        except FAULTS as error:
            self.fails(source, str(error))
            return None
        self.mends(source)
        return found

    def fails(self, source: str, told: str) -> bool:
        """Whether that is news."""
        known = self.faults.get(source)
        news = known is None or known.told != told
        if news:
            say(f"revocations cannot be read, and those before stay in force: {told}")
        since = known.since if known else self.now()
        self.faults = {**self.faults, source: Fault(told=told, since=since)}
        return news

    def mends(self, source: str) -> None:
        if source in self.faults:
            self.faults = {name: fault for name, fault in self.faults.items() if name != source}
            say(f"revocations can be read again: {source}")
