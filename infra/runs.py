"""The run record: which corpus version a training run saw, and which packs or images, kept with the corpus.

It is what answers "which models saw this asset", so it is written before the first step and never changed.
"""

from __future__ import annotations

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
