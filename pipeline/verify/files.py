"""Every file below some folders, read one by one in processes that may die of what they read.

The surprising rule: a reader that crashes, hangs or runs out of memory costs its file, which counts as
unread, and nothing else. Names are listed from the disk, never from a manifest.
"""

from __future__ import annotations

import contextlib
import functools
import mmap
import multiprocessing
import os
import resource
import stat
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path, PurePath, PurePosixPath
from typing import Any

import faiss

from pipeline.verify import buckets
from pipeline.verify.formats import BUDGET, Opener, Unread

MEMORY = 6 << 30
"""Bytes that a reader may take beside what the file maps."""
SECONDS, BYTES_PER_SECOND = 300.0, 1e6
"""A reader that takes longer than this, and a second for so many bytes, hangs."""
SAY_EVERY_S = 2.0


Root = Path | str
"""A folder or file of this machine, or s3://BUCKET/PREFIX."""


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    path: str
    """Of this machine; empty for an object."""
    name: str
    """As it is told: below the corpus, or as it was given."""
    kind: str
    """Of artifact: the step, the register, or the first folder."""
    is_ours: bool
    """Below the corpus, and not given beside it."""
    size: int
    object: buckets.Version | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    file: File
    found: Any
    """What the sight saw; None if nothing came back."""
    unread: str = ""


def is_object(root: Root) -> bool:
    """Also of an address whose slashes a path swallowed."""
    return str(root).startswith("s3:/")


def listed(corpus: Root, also: Sequence[Root]) -> list[File]:
    """Largest first, so that no worker is left with one at the end. ValueError for what is not there."""
    found: list[File] = []
    seen: set[tuple[int, int]] = set()
    for given, is_ours in [(corpus, True), *((path, False) for path in also)]:
        if is_object(given):
            found += objects(str(given), is_ours=is_ours)
            continue
        root = Path(given)
        if not root.exists():
            option = "--corpus" if is_ours else "--also"
            raise ValueError(f"{option} {root} does not exist; give a folder or file of this machine")
        for path in sorted(_walked(root)):
            name = str(path.relative_to(root)) if is_ours else str(path)
            with contextlib.suppress(OSError):
                at = path.stat()
                if is_ours or (at.st_dev, at.st_ino) not in seen:
                    size = at.st_size if stat.S_ISREG(at.st_mode) else 0
                    kind = kind_of(path.relative_to(root)) if is_ours else f"also {root.name}"
                    found.append(File(path=str(path), name=name, kind=kind, is_ours=is_ours, size=size))
                    seen.add((at.st_dev, at.st_ino))
                continue
            found.append(File(path=str(path), name=name, kind="", is_ours=is_ours, size=0))
    return sorted(found, key=lambda file: -file.size)


def objects(uri: str, *, is_ours: bool) -> Iterator[File]:
    """Every version; an older one's name ends with its id."""
    uri = f"{buckets.SCHEME}{uri.removeprefix('s3:').strip('/')}"
    for one in buckets.listed(uri):
        name = one.name if is_ours else f"{uri}/{one.name}"
        kind = kind_of(PurePosixPath(one.name)) if is_ours else f"also {uri}"
        told = name if one.is_newest else f"{name} (version {one.id})"
        yield File(path="", name=told, kind=kind, is_ours=is_ours, size=one.size, object=one)


def _walked(root: Path) -> Iterator[Path]:
    """Links to folders are followed once."""
    if not root.is_dir():
        yield root
        return
    known: set[str] = set()
    for folder, folders, files in os.walk(root, followlinks=True, onerror=_raise):
        real = os.path.realpath(folder)
        if real in known:
            folders.clear()
            continue
        known.add(real)
        yield from (Path(folder, name) for name in files)


def _raise(error: OSError) -> None:
    raise ValueError(f"{error.filename}: {error.strerror}; see that it may be read, and run again")


def kind_of(name: PurePath) -> str:
    """Of a file below a corpus.

    >>> kind_of(Path("shards/embed/0a1b/embeddings.arrow")), kind_of(Path("config.json"))
    ('embed', 'config.json')
    """
    parts = name.parts
    if len(parts) > 2 and parts[0] == "shards":
        return parts[1]
    return "/".join(parts[:2]) if len(parts) > 2 and parts[0] == "registers" else parts[0]


Make = Callable[[Any], Any]
"""Of what is handed to a worker, the sight with ``begin()`` that it reads with."""


def read_one(file: File, sight: Any, budget: int = BUDGET) -> Read:
    """With what is found in its name too."""
    found = sight.begin()
    try:
        sight.name(file.name, "its name")
        with _opened(file) as data:
            Opener(sight, budget).open(data, file.name)
    except Unread as error:
        return Read(file=file, found=found, unread=str(error))
    except OSError as error:
        return Read(file=file, found=found, unread=error.strerror or str(error))
    except MemoryError:
        return Read(file=file, found=found, unread="needs more memory than a reader may take")
    return Read(file=file, found=found)


@contextlib.contextmanager
def _opened(file: File) -> Iterator[memoryview]:
    if file.object is None:
        number = os.open(file.path, os.O_RDONLY | os.O_NONBLOCK)
    else:
        with buckets.opened(file.object) as copy:
            number = os.dup(copy.fileno())
    try:
        at = os.fstat(number)
        if not stat.S_ISREG(at.st_mode):
            raise Unread("", "no regular file; take it out of there")
        data: Any = mmap.mmap(number, at.st_size, access=mmap.ACCESS_READ) if at.st_size else b""
    finally:
        os.close(number)
    yield memoryview(data)  # the mapping goes with the last view of it


def read_all(
    files: Sequence[File], make: Make, told: Any, *, workers: int, title: str, budget: int = BUDGET
) -> Iterator[Read]:
    """Each file once, as it is done. ``workers`` 0 reads in this process, and dies with it."""
    progress = _Progress(title, files)
    if workers == 0:
        sight = make(told)
        for file in files:
            yield read_one(file, sight, budget)
            progress.advance(file)
        return
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "pipeline.verify.search", "pipeline.verify.collect"])
    waiting = list(reversed(files))
    crew = [_Worker(context, make, told, budget) for _ in range(min(workers, len(files)))]
    try:
        for worker in crew:
            worker.give(waiting.pop())
        while busy := [worker for worker in crew if worker.file is not None]:
            ready = set(wait([worker.pipe for worker in busy], timeout=1.0))
            for worker in busy:
                if worker.pipe not in ready and not worker.is_late:
                    continue
                done = worker.take()
                progress.advance(done.file)
                yield done
                if waiting:
                    worker.give(waiting.pop())
    finally:
        for worker in crew:
            worker.end()


class _Worker:
    def __init__(self, context: Any, make: Make, told: Any, budget: int) -> None:
        self._start = functools.partial(_started, context, make, told, budget)
        self._process, self.pipe = self._start()
        self.file: File | None = None
        self._began = 0.0

    def give(self, file: File) -> None:
        self.file, self._began = file, time.monotonic()
        with contextlib.suppress(OSError):  # it died between two files: told when the answer is awaited
            self.pipe.send(file)

    @property
    def busy_with(self) -> File:
        if self.file is None:
            raise RuntimeError("a reader was asked for what it was not given")
        return self.file

    @property
    def is_late(self) -> bool:
        allowed = SECONDS + (self.file.size if self.file else 0) / BYTES_PER_SECOND
        return time.monotonic() - self._began > allowed

    def take(self) -> Read:
        """What it found; a worker that is dead or late is replaced, and its file is unread."""
        file, self.file = self.busy_with, None
        try:
            if self.pipe.poll():
                found: Read = self.pipe.recv()
                return found
            why = f"its reader was still at it after {time.monotonic() - self._began:.0f} s"
        except (EOFError, OSError):
            self._process.join(1)
            why = f"its reader died of it (exit code {self._process.exitcode})"
        self.end()
        self._process, self.pipe = self._start()
        return Read(file=file, found=None, unread=why)

    def end(self) -> None:
        self.pipe.close()
        self._process.kill()
        self._process.join()
        self._process.close()


def _started(context: Any, make: Make, told: Any, budget: int) -> tuple[Any, Connection]:
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs, make, told, budget), daemon=True)
    process.start()
    theirs.close()
    return process, ours


def _work(pipe: Connection, make: Make, told: Any, budget: int) -> None:
    faiss.omp_set_num_threads(1)
    sight = make(told)
    while True:
        try:
            file = pipe.recv()
        except EOFError:
            return
        _limit(file.size)
        pipe.send(read_one(file, sight, budget))


def _limit(size: int) -> None:
    """Addresses that the process may take from here on."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    wanted = used + MEMORY + 2 * size
    soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


class _Progress:
    def __init__(self, title: str, files: Sequence[File]) -> None:
        self._title, self._left = title, len(files)
        self._bytes, self._done = sum(file.size for file in files), 0
        self._began = self._said = time.monotonic()

    def advance(self, file: File) -> None:
        self._left, self._done = self._left - 1, self._done + file.size
        now = time.monotonic()
        if self._left and now - self._said >= SAY_EVERY_S:
            self._said = now
            rate = self._done / (now - self._began)
            left = (self._bytes - self._done) / max(rate, 1.0)
            sys.stderr.write(
                f"{self._title:<8} {self._done / 1e6:.0f}/{self._bytes / 1e6:.0f} MB, {rate / 1e6:.0f} MB/s, "
                f"{int(left) // 60}:{int(left) % 60:02d} left, {self._left} files\n"
            )
            sys.stderr.flush()
