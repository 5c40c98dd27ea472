"""The packs that a run reads: of its own corpus, and of others mixed in by weight.

Instruction data joins pre-training as a corpus of its own, built with the same tokenizers. The surprising
rule: what is revoked is asked of each corpus by itself, when the run begins or goes on, by its own purpose.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
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


def mixed(
    corpus: Corpus, version: Version, sections: Sections, *, revoked: Collection[str]
) -> dict[str, Mixed]:
    """The packs for training by source; ``revoked`` are the run's own corpus's, others are asked for here."""
    found = {MAIN: Mixed(shards=packs.listed(corpus, version, TRAIN, revoked=revoked))}
    for name, section in sections.items():
        other = _opened(section)
        shards = packs.listed(*other, TRAIN, revoked=taken_back(*other))
        found[name] = Mixed(shards=shards, weight=section.weight)
    return found


def taken_back(corpus: Corpus, version: Version) -> frozenset[str]:
    """What may not be trained on now; says how much that is."""
    found = refused.uids(corpus, version)
    if found:
        say(
            f"{corpus.store.uri}: {len(found)} assets were taken back, or lost their licence, since version "
            f"{version.number} was built; their tokens are blanked"
        )
    return found


def listed(corpus: Corpus, version: Version, sections: Sections) -> dict[str, Mixed]:
    """The same as it was packed, to look at what the manifests say."""
    every_one = zip((MAIN, *sections), every(corpus, version, sections), strict=True)
    return {name: Mixed(shards=packs.listed(*one, TRAIN)) for name, one in every_one}


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
