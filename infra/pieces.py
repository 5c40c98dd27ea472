"""Pieces of immutable objects as local files: fetched ahead, checked, kept in a bounded folder.

A piece is asked for when it is used, and told of before; threads fetch what was told of, in that order. A
store that fails is asked again, with back-off, for as long as the patience lasts. The folder is shared by all
processes of a machine (:mod:`infra.copies`), each piece fetched by one of them. The surprising rule: a full
disk ends no run; what it has no room for is held in memory while it is used.
"""

from __future__ import annotations

import hashlib
import random
import threading
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import botocore.exceptions
import pyarrow as pa
from pydantic import Field

from infra import copies, s3
from infra.artifact import Corrupt, check_part, is_part
from infra.copies import FULL
from infra.settings import Section
from infra.storage import UNREACHABLE, Missing, Store, cache_folder
from infra.telemetry import say


class PiecesSection(Section):
    """How pieces are fetched; none of it changes what is read."""

    cache_mib: int = Field(default=16_384, ge=0)
    """Most that the folder of a machine holds, about; the oldest goes first. 0: no folder; every process
    fetches for itself, and holds a piece in memory while it is used."""
    ahead_mib: int = Field(default=1024, ge=0)
    """Most that is fetched and not used yet, in a process."""
    connections: int = Field(default=8, ge=1)
    """Threads that fetch ahead, in a process."""
    patience_s: float = Field(default=120.0, ge=0)
    """How long a store that fails is asked again before the run stops."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    title: str
    """What messages call it, such as ``block 3``."""
    store: Store
    name: str
    offset: int
    size: int
    xxh3: str

    @property
    def where(self) -> str:
        return f"{self.title} of {self.store.where(self.name)}"

    @property
    def key(self) -> str:
        told = f"{self.store.where(self.name)} {self.offset} {self.size} {self.xxh3}"
        return hashlib.sha256(told.encode()).hexdigest()[:40]


class Unreachable(OSError):
    """A store failed for longer than the patience."""


SPOILT = 2
"""Times that bytes which are not those of the manifest are fetched before they are called corrupt."""
FIRST_WAIT_S, LONGEST_WAIT_S = 0.1, 5.0
SLACK = 16
"""The folder is looked through when a process has added this part of what it may hold."""


@dataclass(slots=True)
class _Job:
    piece: Piece
    key: str
    begun: bool = False
    done: threading.Event = field(default_factory=threading.Event)
    data: bytes | None = None
    """Where nothing is kept on disk."""
    error: BaseException | None = None


class Pieces:
    """Open in one process; threads are started when something is told of."""

    def __init__(self, section: PiecesSection, folder: Path | None = None) -> None:
        self._section = section
        self._folder = folder or cache_folder() / "pieces"
        self._told_full = False
        self._making_room = threading.Lock()
        self._jobs: dict[str, _Job] = {}
        self._queue: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._checked: set[str] = set()
        """Pieces that this process has seen whole."""
        self._unused = 0
        """Bytes that were fetched ahead and not asked for yet."""
        self._added = section.cache_mib << 20
        """Bytes since the folder was looked through; by what other processes left it is full already."""
        self._closed = False
        self._num_threads = 0

    def expect(self, pieces: Iterable[Piece]) -> None:
        """They will be asked for, in this order, behind those told of before."""
        jobs = {piece.key: piece for piece in pieces}
        with self._changed:
            new = [_Job(piece, key) for key, piece in jobs.items() if key not in self._jobs]
            self._jobs |= {job.key: job for job in new}
            self._queue += new
            self._changed.notify(len(new))
            missing = min(len(self._queue), self._section.connections) - self._num_threads
            self._num_threads += max(missing, 0)
        for _ in range(missing):
            threading.Thread(target=self._work, daemon=True, name="pieces").start()

    def get(self, piece: Piece) -> pa.Buffer:
        """The bytes, memory-mapped where they are kept. Raises ``Corrupt``, ``Missing`` or ``Unreachable``,
        naming the piece.
        """
        key = piece.key
        with self._changed:
            job = self._jobs.pop(key, None)
            waits = job is not None and job.begun
            if job is not None:
                job.begun = True
                if waits:
                    self._unused -= piece.size
                    self._changed.notify()  # one more has room
        if job is not None and waits:
            job.done.wait()
            if job.error is not None and not isinstance(job.error, Unreachable):
                raise job.error  # of a store that was away then, ask again: it may be back
            if job.data is not None:
                return pa.py_buffer(job.data)
        return self._mapped(piece, key) if self._section.cache_mib else pa.py_buffer(self._read(piece))

    def close(self) -> None:
        """Threads end with the piece that they are at."""
        with self._changed:
            self._closed = True
            self._queue.clear()
            self._changed.notify_all()

    def _work(self) -> None:
        while job := self._next():
            try:
                if not self._section.cache_mib:
                    job.data = self._read(job.piece)
                elif (data := self._fetched(job.piece, job.key)) and not self._path(job.key).exists():
                    job.data = data  # the disk is full
            except BaseException as error:  # noqa: BLE001  # it is raised where the piece is asked for
                job.error = error
            job.done.set()

    def _next(self) -> _Job | None:
        most = self._section.ahead_mib << 20
        with self._changed:
            while not self._closed:
                while self._queue and self._queue[0].begun:  # its reader did not wait for us
                    self._queue.popleft()
                if self._queue and self._unused + self._queue[0].piece.size <= most:
                    job = self._queue.popleft()
                    job.begun = True
                    self._unused += job.piece.size
                    return job
                self._changed.wait()
        return None

    def _path(self, key: str) -> Path:
        return self._folder / key

    def _mapped(self, piece: Piece, key: str) -> pa.Buffer:
        path = self._path(key)
        for _ in range(SPOILT):
            fetched = self._fetched(piece, key)
            try:
                with pa.memory_map(str(path)) as file:
                    data = file.read_buffer()
            except FileNotFoundError:  # room was made for others in this instant
                return pa.py_buffer(self._read(piece) if fetched is None else fetched)
            if key in self._checked:
                return data
            if is_part(data, piece.size, piece.xxh3):
                self._checked.add(key)
                return data
            path.unlink(missing_ok=True)  # the disk spoilt it; the store may still have it
        raise Corrupt(
            f"{piece.where} can be fetched, but not kept in {self._folder}: what is read back is not what "
            "was written; see to the disk"
        )

    def _fetched(self, piece: Piece, key: str) -> bytes | None:
        """See that the piece is there, if the disk has room; the bytes, if they were not."""
        path = self._path(key)
        if path.exists():
            return None
        with copies.turn(self._folder, key):
            if path.exists():
                return None
            data = self._read(piece)
            self._keep(path, data)
            self._checked.add(key)
            return data

    def _read(self, piece: Piece) -> bytes:
        for _ in range(SPOILT - 1):
            data = self._tried(piece)
            if is_part(data, piece.size, piece.xxh3):
                return data
        data = self._tried(piece)
        check_part(data, piece.size, piece.xxh3, piece.where)
        return data

    def _tried(self, piece: Piece) -> bytes:
        begin, wait, told = time.monotonic(), FIRST_WAIT_S, False
        while True:
            try:
                return piece.store.range(piece.name, piece.offset, piece.size)
            except UNREACHABLE as error:
                if not passing(error):
                    raise
                spent = time.monotonic() - begin
                if spent >= self._section.patience_s:
                    raise Unreachable(
                        f"{piece.where} could not be read for {spent:.0f} s ({type(error).__name__}: "
                        f"{error}); see to the store and resume, or raise patience_s"
                    ) from None
                if spent > 1 and not told:
                    say(
                        f"{piece.where} cannot be read ({type(error).__name__}); trying again for "
                        f"{self._section.patience_s - spent:.0f} s"
                    )
                    told = True
            s3.retry("range")
            # Jitter, so that the processes of a cluster do not come back together.
            time.sleep(wait * random.uniform(0.5, 1.5))  # noqa: S311  # no secret
            wait = min(2 * wait, LONGEST_WAIT_S)

    def _keep(self, path: Path, data: bytes) -> None:
        """Where there is room: a full disk costs that the piece is fetched again when it is used again."""
        if not (kept(path, data) or self._kept_instead(path, data)):
            with self._changed:
                first, self._told_full = not self._told_full, True
            if first:
                say(
                    f"no room for {len(data)} bytes in {self._folder}: what is read goes on, and is fetched "
                    "whenever it is used; free some there, or set XDG_CACHE_HOME to a folder of a larger disk"
                )
            return
        most = self._section.cache_mib << 20
        with self._changed:
            self._added += len(data)
            due = self._added * SLACK > most
            self._added = 0 if due else self._added
        if due:
            copies.trim(self._folder, most)

    def _kept_instead(self, path: Path, data: bytes) -> bool:
        """Of what is kept the oldest goes, to make room."""
        with self._making_room:
            if self._folder.is_dir() and (held := copies.held(self._folder)):
                copies.trim(self._folder, max(held - SLACK * len(data), 0))
                copies.settle(self._folder)
            return kept(path, data)


def kept(path: Path, data: bytes) -> bool:
    """Whether the disk had room for the file."""
    try:
        with copies.placed(path) as file:
            file.write(data)
    except FileNotFoundError:  # nor for the folder
        return False
    except OSError as error:
        if error.errno not in FULL:
            raise
        return False
    return True


def passing(error: BaseException) -> bool:
    """Whether a later try may succeed."""
    if isinstance(error, botocore.exceptions.ClientError):
        return s3.passing(error)
    return not isinstance(error, Missing | botocore.exceptions.NoCredentialsError)


def forget() -> None:
    """Keep none of them on this machine."""
    copies.forget(cache_folder() / "pieces")
