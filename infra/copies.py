"""Copies of what stores hold, as files of a folder that all processes of a machine share.

The surprising rule: a file has no name until it is whole (``O_TMPFILE``), and may lose it any time, when room
is made for others. So a process that is killed leaves nothing behind, and whoever has a file open, or mapped,
keeps it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import math
import os
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

PARTIAL = ".partial-"
"""How the name of a file begins that is being written."""
FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
"""What the system says of a disk that is full: when bytes are written, or only when they are synced."""
NO_NAMELESS_FILES = (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL)
"""What file systems without ``O_TMPFILE`` answer, such as NFS."""
LOCKS = 256
"""Files that processes take turns by, shared among the copies."""
TURN_S = 30.0
"""A process that fetches, and says nothing, is waited for so long."""
LEFT_S = 3600
"""A file that was begun so long ago is nobody's."""
SLACK = 16
"""This part of the bound is made free at once: to look through 34,000 copies takes 0.1 s."""
CACHE_GIB = "PARDALIS_CACHE_GIB"
"""Variable that says how much a machine keeps of whole objects, as index segments and the tokens that packs
look up. Without it all but a tenth of what the disk has for them, and with it never more. What was used
longest ago goes first; the one that is fetched now is kept however large it is."""


@contextlib.contextmanager
def turn(folder: Path, key: str) -> Iterator[Callable[[], None]]:
    """Let one process fetch, which says by what it is given that it goes on. Whoever hears nothing of it for
    too long fetches too, which costs only traffic. ``key`` begins with four hexadecimal digits.
    """
    descriptor = _lock(folder, key)
    if descriptor is None:
        yield lambda: None
        return
    try:
        heard, until, pause = 0, 0.0, 0.005
        while True:
            # Not by the clock: a file server may have another.
            if (last := os.fstat(descriptor).st_mtime_ns) != heard:
                heard, until = last, time.monotonic() + TURN_S
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > until:
                    break
            time.sleep(pause)
            pause = min(1.5 * pause, 0.1)
        yield lambda: os.utime(descriptor)
    finally:
        os.close(descriptor)


def _lock(folder: Path, key: str) -> int | None:
    """A file to take turns by; none where there is no room for an empty one."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f".lock-{int(key[:4], 16) % LOCKS:03d}"
        return os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o666)
    except OSError as error:
        if error.errno not in FULL:
            raise
        return None


@contextlib.contextmanager
def placed(path: Path) -> Iterator[BinaryIO]:
    """A file to write, which takes its place when the block ends, or leaves nothing, even if killed; one that
    is there already stays.
    """
    try:
        descriptor = os.open(path.parent, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o666)
    except OSError as error:
        if error.errno not in NO_NAMELESS_FILES:
            raise
        with _named(path) as file:
            yield file
        return
    with os.fdopen(descriptor, "w+b") as file:
        yield file
        file.flush()
        with contextlib.suppress(FileExistsError):
            # With a src_dir_fd, though the path is absolute: only then is the link in /proc followed.
            os.link(open_path(file), path, src_dir_fd=descriptor, follow_symlinks=True)


@contextlib.contextmanager
def _named(path: Path) -> Iterator[BinaryIO]:
    """The same under another name meanwhile, which a kill leaves for :func:`trim`."""
    partial = path.with_name(f"{PARTIAL}{secrets.token_hex(8)}")
    try:
        with partial.open("x+b") as file:
            yield file
            file.flush()
            with contextlib.suppress(FileExistsError):
                path.hardlink_to(partial)
    finally:
        partial.unlink(missing_ok=True)


def open_path(file: BinaryIO) -> Path:
    """What opens an open file once more, though it may have no name."""
    return Path(f"/proc/self/fd/{file.fileno()}")


def used(path: Path) -> BinaryIO | None:
    """A copy, which is now the last to go; None if there is none."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return None
    with contextlib.suppress(PermissionError):  # another user's
        os.utime(file.fileno())
    return file


def held(folder: Path) -> int:
    """Bytes of all copies."""
    return sum(size for _, size, _ in _copies(folder))


def forget(folder: Path) -> None:
    """Keep nothing of what this machine fetched: who reads on has it mapped, or fetches it again."""
    for path in folder.glob("[!.]*") if folder.is_dir() else ():  # locks begin with a dot
        path.unlink(missing_ok=True)


def trim(folder: Path, most: int) -> None:
    """Remove what was used longest ago until the folder holds no more."""
    files = _copies(folder)
    total = sum(size for _, size, _ in files)
    for _, size, path in sorted(files):
        if total <= most:
            break
        Path(path).unlink(missing_ok=True)
        total -= size


def make_room(folder: Path, num_bytes: int) -> None:
    """For so many more, within what CACHE_GIB says and the disk has."""
    folder.mkdir(parents=True, exist_ok=True)
    disk = os.statvfs(folder)
    free, now = (blocks * disk.f_frsize for blocks in (disk.f_bavail, disk.f_blocks - disk.f_bfree))
    if now + num_bytes <= min(bound(), 0.9 * (now + free)):  # were all that the disk holds copies
        return
    now = held(folder)
    most = min(bound(), 0.9 * (now + free))
    if now + num_bytes > most:
        trim(folder, max(int(most * (1 - 1 / SLACK)) - num_bytes, 0))
        settle(folder)


def bound() -> float:
    """In bytes, as CACHE_GIB says."""
    told = os.environ.get(CACHE_GIB, "")
    try:
        gib = float(told or math.inf)
    except ValueError:
        gib = -1.0
    if not gib > 0 or (told and math.isinf(gib)):
        fix = "write a number above 0, or unset it for all but a tenth of the disk"
        raise ValueError(f"{CACHE_GIB} is {told[:40]!a}; {fix}")
    return gib * (1 << 30)


def _copies(folder: Path) -> list[tuple[int, int, str]]:
    """When it was used last, its bytes, and its path, of each."""
    files = []
    with os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):
                told = entry.stat()
                # By a kill, where there are no nameless files.
                left = entry.name.startswith(PARTIAL) and time.time() - told.st_mtime > LEFT_S
                if left:
                    Path(entry.path).unlink()
                elif not entry.name.startswith("."):
                    files.append((told.st_mtime_ns, told.st_size, entry.path))
    return files


def settle(folder: Path) -> None:
    """What was deleted is free only now on file systems that keep a journal, as ext4."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
