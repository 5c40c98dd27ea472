"""Small file systems, to be filled: mounted where they are asked for, as only root can."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest

MIB = 1 << 20
Kind = Literal["tmpfs", "ext4"]


class Disk:
    """A file system of 8 MiB, of which somebody else takes as much as a test says."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._other = folder / "other"

    def fill(self, *, but: int) -> None:
        """Until about so many bytes are left, of which at least as many."""
        told = os.statvfs(self.folder)
        with self._other.open("ab") as file:
            os.posix_fallocate(file.fileno(), file.tell(), told.f_bavail * told.f_bsize - but)

    def free(self) -> None:
        self._other.unlink()

    def files(self) -> list[str]:
        found = (path for path in self.folder.rglob("*") if path.is_file() and path != self._other)
        return sorted(path.relative_to(self.folder).as_posix() for path in found)


@contextlib.contextmanager
def mounted(kind: Kind, folder: Path) -> Iterator[Disk]:
    """Below the folder; skips the test where it cannot be mounted."""
    place, image = folder / "disk", folder / "image"
    place.mkdir()
    mkfs, mount, umount = (shutil.which(name) for name in ("mkfs.ext4", "mount", "umount"))
    if os.getuid() or not (mkfs and mount and umount):
        pytest.skip("only root can mount a small file system, with mkfs.ext4 and mount")
    words = ["-t", "tmpfs", "-o", "size=8m", "none"]
    if kind == "ext4":
        with image.open("wb") as file:
            file.truncate(10 * MIB)
        subprocess.run([mkfs, "-q", "-m", "0", image], check=True)
        words = ["-o", "loop", str(image)]
    if subprocess.run([mount, *words, place], check=False, capture_output=True).returncode:
        pytest.skip(f"no {kind} can be mounted here")
    if kind == "ext4":
        (place / "lost+found").rmdir()
    try:
        yield Disk(place)
    finally:
        subprocess.run([umount, place], check=True)
