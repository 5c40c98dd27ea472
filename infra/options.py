"""Options that many commands share: which corpus, which configuration, which engine."""

from __future__ import annotations

import json as json_text
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from infra.corpus import Corpus, NoCorpus
from infra.redaction import masked_here, masked_tree
from infra.storage import Store, cache_folder
from infra.telemetry import say

LAST_DEMO = "demo-corpus"
"""File in the cache folder that names the corpus last built by ``pardalis demo``."""


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class ReadOptions:
    """Of commands that ask a corpus and read no settings."""

    corpus: str | None = None
    """Path or s3:// address; default $PARDALIS_CORPUS, else the corpus last built by `pardalis demo`."""
    json: Annotated[bool, Parameter(negative="")] = False
    """Print one JSON document on stdout."""

    def open(self) -> Corpus:
        return Corpus(Store.at(self.address()))

    def address(self) -> str:
        named = self.corpus or os.environ.get("PARDALIS_CORPUS")
        if named:
            return named
        last = cache_folder() / LAST_DEMO
        if not last.exists():
            raise NoCorpus("no corpus is named; give --corpus, set PARDALIS_CORPUS, or run `pardalis demo`")
        say(f"corpus: {last.read_text().strip()} (last built by `pardalis demo`)")
        return last.read_text().strip()


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class CorpusOptions(ReadOptions):
    config: Path | None = None
    """TOML file of the run, or the name of a packaged one, such as cluster; default: the settings that the
    corpus was last built with, and for a model those that its run began with."""
    overrides: Annotated[tuple[str, ...], Parameter(name="--set")] = ()
    """A line of TOML that wins over the file, such as --set 'pipeline.filters.min_side = 512'."""


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    engine: Literal["ray", "inline"] = "ray"
    """Ray actors, or this process."""
    address: str | None = None
    """Ray cluster to join; default $RAY_ADDRESS, else a local Ray."""

    def cluster(self) -> str | None:
        return self.address or os.environ.get("RAY_ADDRESS")


def png(out: Path) -> Path:
    """A picture's place, looked at before the work that makes it: a PNG file in a folder that exists."""
    return placed(out, "a PNG file", ".png")


def placed(out: Path, kind: str, *endings: str) -> Path:
    """A file of that kind, by its ending, in a folder that exists."""
    if out.suffix.lower() not in endings:
        raise ValueError(f"--out {out} is no name of {kind}; let it end in {endings[0]}")
    if not out.parent.is_dir():
        raise ValueError(f"--out {out}: there is no folder {out.parent}; make it first")
    return out


def answer(value: Any, text: str, *, json: bool) -> None:
    """Print the result, masked: JSON for machines, text for people."""
    out = as_json(masked_tree(value)) if json else masked_here(text)
    sys.stdout.write(out.rstrip("\n") + "\n")


def as_json(value: Any) -> str:
    return json_text.dumps(value, indent=1, ensure_ascii=False, default=lambda other: masked_here(str(other)))
