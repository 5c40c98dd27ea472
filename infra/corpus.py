"""A corpus is a chain of versions; the newest one is its only mutable root.

``versions/NNNNNN.json`` is published by conditional create, so of two writers exactly one succeeds. A
version says which deliveries are folded in, the state of the two append-only registers (ids, revocations),
which fitted models are pinned, and the artifact of every step. Readers take one and are never disturbed.
Writers take turns by a lease; it names its holder, expires, and is fenced: who lost it cannot publish.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from infra.artifact import FORMAT, Artifact, Corrupt, load_artifact, pretty
from infra.storage import UNREACHABLE, Store
from infra.telemetry import say

LEASE_S = 60.0
"""A lease not renewed for so long is free; the holder renews it three times in that time."""


class NoCorpus(ValueError):
    """The address holds no corpus."""


class LeaseHeld(RuntimeError):
    """Another writer is at work on the corpus."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Folded:
    """A delivery that a version contains. Its place in the list is its generation."""

    provider: str
    delivery_id: str
    sequence: int
    sha256: str
    """Of ``delivery.json``, which lists every file with its own sha256."""
    uri: str
    """Where it was read; a convenience for the next reader, never part of a key."""
    batches: str
    """sha256 of the list of its batches, which is kept beside its records."""
    manifest: str = ""
    """sha256 of the corpus's copy of ``delivery.json``, once it lists fewer files than were delivered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    number: int
    parent: str | None = None
    """sha256 of the parent's bytes: the chain cannot be rewritten in the middle."""
    as_of: str = ""
    """The instant at which rights were decided, UTC."""
    deliveries: tuple[Folded, ...] = ()
    registers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Append-only segments by register: content-addressed names under ``registers/``."""
    models: Mapping[str, str] = field(default_factory=dict)
    """Step to artifact key: fitted once, then reused until somebody refits."""
    artifacts: Mapping[str, str] = field(default_factory=dict)
    """Step to artifact key."""
    floor: int = 0
    """Versions below it were compacted: of what they list, there is what this one left of it."""
    origins: Mapping[str, str] = field(default_factory=dict)
    """Step to the artifact key that its packs had before something was blanked in them: who reads them in
    order goes on in the same one.
    """

    def json(self) -> dict[str, Any]:
        told = {"format": FORMAT, **asdict(self)}
        # Parents are known by their bytes, and those of old have neither.
        return {name: value for name, value in told.items() if value or name not in ("floor", "origins")}

    def origin(self, step: str) -> str:
        """What tells the order of a step's packs from that of others."""
        return self.origins.get(step, self.artifacts[step])

    @staticmethod
    def of(value: Mapping[str, Any]) -> Version:
        rest = {k: v for k, v in value.items() if k not in {"format", "deliveries", "registers"}}
        return Version(
            deliveries=tuple(Folded(**item) for item in value["deliveries"]),
            registers={name: tuple(parts) for name, parts in value["registers"].items()},
            **rest,
        )


EMPTY = Version(number=0)


def version_name(number: int) -> str:
    return f"versions/{number:06d}.json"


@dataclass(frozen=True, slots=True)
class Corpus:
    store: Store

    def numbers(self) -> list[int]:
        return [int(Path(name).stem) for name in self.store.names("versions/")]

    def version(self, number: int) -> Version:
        return Version.of(json.loads(self.store.read(version_name(number))))

    def head(self) -> Version:
        """The newest version; :data:`EMPTY` before the first."""
        numbers = self.numbers()
        return self.version(numbers[-1]) if numbers else EMPTY

    def newest(self) -> Version:
        """The newest version; :class:`NoCorpus` before the first."""
        head = self.head()
        if head is EMPTY:
            raise NoCorpus(f"{self.store.uri} holds no corpus; run `pardalis ingest DELIVERY` first")
        return head

    def artifact(self, version: Version, step: str) -> Artifact:
        key = version.artifacts.get(step) or version.models.get(step)
        if key is None:
            raise NoCorpus(
                f"version {version.number} of {self.store.uri} has no {step!r}; "
                "run `pardalis ingest` and `pardalis build`, which make it"
            )
        return load_artifact(self.store, step, key)

    def publish(self, lease: Lease, head: Version, following: Version) -> Version:
        """Make ``following`` the newest version; ``head`` itself where nothing changed."""
        parent = hashlib.sha256(pretty(head.json())).hexdigest() if head.number else None
        following = replace(following, number=head.number + 1, parent=parent)
        if replace(following, number=head.number, parent=head.parent) == head:
            return head
        lease.check()
        if not self.store.create(version_name(following.number), pretty(following.json())):
            raise LeaseHeld(
                f"version {following.number} of {self.store.uri} exists: another writer was faster"
            )
        return following

    def append(self, version: Version, register: str, data: bytes) -> Version:
        """Add a segment to a register. The same bytes twice are added once."""
        name = f"registers/{register}/{hashlib.sha256(data).hexdigest()}"
        segments = version.registers.get(register, ())
        if name in segments:
            return version
        self.store.create(name, data)
        return replace(version, registers={**version.registers, register: (*segments, name)})

    def segments(self, version: Version, register: str) -> Iterator[bytes]:
        """The register's segments, oldest first, each checked against its name."""
        for name in version.registers.get(register, ()):
            data = self.store.read(name)
            if hashlib.sha256(data).hexdigest() != Path(name).name:
                raise Corrupt(f"{self.store.where(name)} is not what its name says; restore it from a backup")
            yield data

    @contextlib.contextmanager
    def writing(self, *, purpose: str) -> Iterator[Lease]:
        """Hold the corpus for writing; :class:`LeaseHeld` if somebody else does."""
        lease = acquire(self.store, purpose)
        done = threading.Event()
        renewal = threading.Thread(target=lease.renew_until, args=(done,), daemon=True)
        renewal.start()
        try:
            yield lease
        finally:
            done.set()
            renewal.join()
            lease.release()


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The right to publish. Leases are numbered; the highest number is the one that counts."""

    store: Store
    number: int
    holder: Mapping[str, Any]

    @property
    def name(self) -> str:
        return lease_name(self.number)

    def check(self) -> None:
        if newest_lease(self.store) != self.number:
            raise LeaseHeld(f"the lease on {self.store.uri} expired and another writer took it; run again")

    def renew_until(self, done: threading.Event) -> None:
        """Renew three times in the lease's time; sooner again, and say so, while the store fails."""
        expires, wait = time.time() + LEASE_S, LEASE_S / 3
        while not done.wait(wait):
            try:
                until = time.time() + LEASE_S  # as others read it, however long the store took
                self._write(expires=until)
            except UNREACHABLE as error:
                wait = LEASE_S / 30
                left = expires - time.time()
                end = f"ends in {left:.0f} s" if left > 0 else "has ended: another writer may take the corpus"
                say(f"the lease on {self.store.uri} could not be renewed ({error}) and {end}; trying again")
            else:
                expires, wait = until, max(until - time.time() - LEASE_S * 2 / 3, LEASE_S / 30)

    def release(self) -> None:
        """Let the next writer in. Where the store cannot be reached, the lease ends by itself."""
        try:
            self._write(expires=0.0)
        except UNREACHABLE as error:
            say(f"the lease on {self.store.uri} could not be released ({error}); it ends in {LEASE_S:.0f} s")

    def _write(self, *, expires: float) -> None:
        self.store.write(self.name, pretty({**self.holder, "expires": expires}))


def lease_name(number: int) -> str:
    return f"leases/{number:06d}.json"


def newest_lease(store: Store) -> int:
    names = store.names("leases/")
    return int(Path(names[-1]).stem) if names else 0


def acquire(store: Store, purpose: str) -> Lease:
    number = newest_lease(store)
    if number:
        holder = json.loads(store.read(lease_name(number)))
        left = holder["expires"] - time.time()
        if left > 0 and not died(holder):
            raise LeaseHeld(
                f"{store.uri} is being written by `{holder['purpose']}` (process {holder['pid']} on "
                f"{holder['host']}); wait for it, or for {left:.0f} s if it died"
            )
    mine = Lease(store=store, number=number + 1, holder={"purpose": purpose, **this_process()})
    if not store.create(mine.name, pretty({**mine.holder, "expires": time.time() + LEASE_S})):
        raise LeaseHeld(f"another writer took {store.uri} at the same instant; run again when it is done")
    with contextlib.suppress(ValueError):
        store.delete([lease_name(old) for old in range(max(1, number - 3), number)])
    return mine


def this_process() -> dict[str, Any]:
    return {"host": socket.gethostname(), "boot": boot_id(), "pid": os.getpid(), "born": born(os.getpid())}


def died(holder: Mapping[str, Any]) -> bool:
    """Whether a holder on this very machine is gone, so that nobody need wait for its lease to expire."""
    here = this_process()
    if (holder["host"], holder["boot"]) != (here["host"], here["boot"]):
        return False
    return bool(born(holder["pid"]) != holder["born"])


def boot_id() -> str:
    path = Path("/proc/sys/kernel/random/boot_id")
    return path.read_text().strip() if path.exists() else ""


def born(pid: int) -> str | None:
    """When the process started, in clock ticks since boot: tells it from a later one of the same number."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return stat.rpartition(")")[2].split()[19]
