"""The packs that a run reads: of its own corpus, and of others mixed in by weight.

Instruction data joins pre-training as a corpus of its own, built with the same tokenizers. The surprising
rule: what is revoked is asked of each corpus by itself, when the run begins or goes on, by its own purpose.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import Field

from infra.corpus import Corpus, Version
from infra.settings import Section
from infra.storage import Store
from infra.telemetry import say
from pipeline import packs, refused
from pipeline.split import TRAIN
from trainer.order import MAIN
from trainer.stream import Mixed


class SourceSection(Section):
    """``[trainer.sources.NAME]``: another corpus to draw rows from."""

    corpus: str
    """Path or s3:// address."""
    version: int | None = Field(default=None, ge=1)
    """None: the newest when the run begins."""
    weight: float = Field(default=1.0, gt=0)
    """Rows drawn from it for each row of the run's own corpus."""


Sections = Mapping[str, SourceSection]


def pinned(sections: Sections) -> dict[str, SourceSection]:
    """With the versions that are newest now."""
    return {
        name: section.model_copy(update={"version": _opened(section)[1].number})
        for name, section in sections.items()
    }


def mixed(corpus: Corpus, version: Version, sections: Sections) -> dict[str, Mixed]:
    """The packs for training, by source; the run's own corpus first."""
    found = {MAIN: Mixed(shards=packs.listed(corpus, version, TRAIN))}
    for name, section in sections.items():
        found[name] = Mixed(shards=packs.listed(*_opened(section), TRAIN), weight=section.weight)
    return found


def revoked(corpus: Corpus, version: Version, sections: Sections) -> frozenset[str]:
    """Assets of any source that may not be trained on now; says how many there are."""
    found = frozenset[str]().union(*(refused.uids(*one) for one in every(corpus, version, sections)))
    if found:
        say(f"{len(found)} assets were taken back or lost their licence since the packs were made: blanked")
    return found


def identity(sections: Sections) -> list[Any]:
    """What they add to a run's identity: packs by content, never by address."""
    return [
        [name, section.weight, _opened(section)[1].artifacts["pack"]]
        for name, section in sorted(sections.items())
    ]


def every(corpus: Corpus, version: Version, sections: Sections) -> Iterator[tuple[Corpus, Version]]:
    """All that is read."""
    yield corpus, version
    yield from (_opened(section) for section in sections.values())


def _opened(section: SourceSection) -> tuple[Corpus, Version]:
    corpus = Corpus(Store.at(section.corpus))
    return corpus, corpus.newest() if section.version is None else corpus.version(section.version)
