"""The packs that a run reads: of its own corpus, and of others mixed in by weight.

Instruction data joins pre-training as a corpus of its own, built with the same tokenizers. The surprising
rule: what is revoked is asked of each corpus by itself, when the run begins or goes on, by its own purpose
and what the run declares.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from pydantic import Field

from infra.corpus import Corpus, Version
from infra.settings import Section
from infra.storage import Store
from infra.telemetry import say
from pipeline import deciding, packs, refused
from pipeline.split import TRAIN
from trainer.admission import AdmissionSection, Read
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
Opened = Read
OWN = AdmissionSection()
"""The purposes that the corpora were decided for."""


def pinned(sections: Sections) -> dict[str, SourceSection]:
    """With the versions that are newest now."""
    return {
        name: section.model_copy(update={"version": _opened(section)[1].number})
        for name, section in sections.items()
    }


def opened(corpus: Corpus, version: Version, sections: Sections) -> Opened:
    """All that is read, the run's own corpus first."""
    return {MAIN: (corpus, version), **{name: _opened(section) for name, section in sections.items()}}


def mixed(read: Opened, sections: Sections, revoked: Mapping[str, Collection[str]]) -> dict[str, Mixed]:
    """The packs for training; what is ``revoked``, by source, is blanked as they are read."""
    return {
        name: Mixed(
            shards=packs.listed(*one, TRAIN, revoked=revoked.get(name, frozenset())),
            weight=1.0 if name == MAIN else sections[name].weight,
        )
        for name, one in read.items()
    }


def taken_back(read: Opened, declared: AdmissionSection = OWN) -> dict[str, frozenset[str]]:
    """What may not be trained on now for what the run declares, by source; says how much that is."""
    found = {
        name: refused.uids(*one, declared.purpose(deciding.purpose_of(*one))) for name, one in read.items()
    }
    for name, (corpus, version) in read.items():
        if found[name]:
            say(
                f"{corpus.store.uri}: {len(found[name])} assets were taken back, or lost their licence, "
                f"since version {version.number} was built; their tokens are blanked"
            )
    return found


def identity(sections: Sections) -> list[Any]:
    """What they add to a run's identity: packs by content, never by address."""
    return [
        [name, section.weight, _opened(section)[1].artifacts["pack"]]
        for name, section in sorted(sections.items())
    ]


def _opened(section: SourceSection) -> tuple[Corpus, Version]:
    corpus = Corpus(Store.at(section.corpus))
    return corpus, corpus.newest() if section.version is None else corpus.version(section.version)
