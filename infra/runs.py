"""The run record: which corpus version a training run saw, which packs or images, and how far it got in them;
kept with the corpus.

It is what answers "which models saw this asset". So it is written before the first step, and again beside
every checkpoint: ``runs/IDENTITY.json``, then ``runs/IDENTITY/POSITION.json``. None of them ever changes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.artifact import pretty
from infra.corpus import Corpus, Version


class OtherRun(ValueError):
    """The folder holds a run with other settings or other data."""


def folder(path: Path) -> Path:
    """The folder of a run, or of a demo, as a command line names it; an address is refused."""
    scheme, colon, _ = str(path).partition(":/")
    if colon and "/" not in scheme:
        raise ValueError(
            f"{scheme}:// is the address of an object store; a run needs a folder on a disk that its workers "
            "share: give a local path. Corpora may lie in an object store"
        )
    return path


def record(
    corpus: Corpus, version: Version, *, identity: str, facts: dict[str, Any], saw: str = "pack"
) -> None:
    """Say that a run starts on a version and sees what the step ``saw`` made. The same run again says nothing
    new.
    """
    name = f"runs/{identity}.json"
    body = {"identity": identity, "version": version.number, saw: version.artifacts[saw], **facts}
    corpus.store.create(name, pretty(body))


def reached(corpus: Corpus, *, identity: str, position: int, facts: Mapping[str, Any]) -> None:
    """Say how far a run got. The same position again says nothing new."""
    body = {"identity": identity, "position": position, **facts}
    # Twelve digits: names sort by position up to a million million rows.
    corpus.store.create(f"runs/{identity}/{position:012d}.json", pretty(body))


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What a corpus knows of a run."""

    identity: str
    begun: Mapping[str, Any]
    """As :func:`record` wrote it."""
    reached: Mapping[str, Any]
    """As :func:`reached` wrote it last; empty before the first checkpoint."""


def listed(corpus: Corpus) -> list[Run]:
    """Every run on any version of the corpus."""
    names = corpus.store.names("runs/")
    # Sorted, so that the last of a run is the farthest.
    farthest = {Path(name).parent.name: name for name in names if name.count("/") > 1}
    begun = (name for name in names if name.count("/") == 1)
    return [
        Run(
            identity=Path(name).stem,
            begun=json.loads(corpus.store.read(name)),
            reached=json.loads(corpus.store.read(farthest[Path(name).stem]))
            if Path(name).stem in farthest
            else {},
        )
        for name in begun
    ]
