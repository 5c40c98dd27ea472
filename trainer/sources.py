"""The packs that a run reads: of its own corpus, and others mixed in by weight.

Those others are another corpus's, built with the same tokenizers, or instruction data, of either. The
surprising rule: what is revoked is asked of each corpus by itself, when the run begins or goes on, by its own
purpose and what the run declares; what was derived of it goes with it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Literal

from pydantic import Field

from infra.corpus import Corpus, Version
from infra.settings import Section
from infra.storage import Store
from infra.telemetry import say
from pipeline import deciding, derivation, packs, refused
from pipeline.blocks import Shard
from pipeline.split import TRAIN
from trainer.admission import AdmissionSection, Read
from trainer.instruct import build as instruct
from trainer.order import MAIN
from trainer.stream import Mixed


class SourceSection(Section):
    """``[trainer.sources.NAME]``: other packs to draw rows from."""

    corpus: str | None = None
    """Path or s3:// address; None: the run's own."""
    version: int | None = Field(default=None, ge=1)
    """None: the newest when the run begins; of the run's own corpus, the run's."""
    step: Literal["pack", "instruct"] = "pack"
    """Which packs: those of pre-training, or what `pardalis instruct make` made."""
    weight: float = Field(default=1.0, gt=0)
    """Rows drawn from it for each row of the run's own packs."""


Sections = Mapping[str, SourceSection]
Opened = Read
OWN = AdmissionSection()
"""The purposes that the corpora were decided for."""
NONE: frozenset[str] = frozenset()


def pinned(sections: Sections) -> dict[str, SourceSection]:
    """With the versions that are newest now."""
    return {
        name: section.model_copy(update={"version": _opened(section.corpus, section.version)[1].number})
        if section.corpus is not None
        else section
        for name, section in sections.items()
    }


def opened(corpus: Corpus, version: Version, sections: Sections) -> Opened:
    """All that is read, the run's own packs first."""
    others = {name: _of(section, corpus, version) for name, section in sections.items()}
    return {MAIN: (corpus, version), **others}


def _of(section: SourceSection, corpus: Corpus, version: Version) -> tuple[Corpus, Version]:
    if section.corpus is not None:
        return _opened(section.corpus, section.version)
    return corpus, version if section.version is None else corpus.version(section.version)


def _opened(address: str, version: int | None) -> tuple[Corpus, Version]:
    corpus = Corpus(Store.at(address))
    return corpus, corpus.newest() if version is None else corpus.version(version)


def step_of(sections: Sections, name: str) -> str:
    """Which step made a source's packs."""
    return packs.STEP if name == MAIN else sections[name].step


def mixed(read: Opened, sections: Sections, revoked: Mapping[str, Collection[str]]) -> dict[str, Mixed]:
    """The packs for training; what is ``revoked``, by source, is blanked as they are read."""
    return {
        name: Mixed(
            shards=listed(read, sections, name, TRAIN, revoked=revoked.get(name, NONE)),
            weight=1.0 if name == MAIN else sections[name].weight,
        )
        for name in read
    }


def listed(
    read: Opened, sections: Sections, name: str, kind: str, *, revoked: Collection[str] = NONE
) -> list[Shard]:
    """A source's packs of a kind, without what is revoked and what was derived of it."""
    corpus, version = read[name]
    step = step_of(sections, name)
    if step not in version.artifacts:
        command = "instruct make" if step == instruct.STEP else "build"
        raise ValueError(
            f"trainer.sources.{name}: version {version.number} of {corpus.store.uri} has no packs of step "
            f"{step!r}; run `pardalis {command}` on it"
        )
    gone = frozenset(revoked)
    if step == instruct.STEP:
        gone |= derivation.derived_from(corpus.store, corpus.artifact(version, step), gone)
    return packs.listed(corpus, version, kind, step=step, revoked=gone)


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


def identity(version: Version, sections: Sections) -> list[Any]:
    """What they add to a run's identity: packs by content, never by address."""
    return [[name, section.weight, _key(version, section)] for name, section in sorted(sections.items())]


def _key(version: Version, section: SourceSection) -> str:
    """Of the packs. Those of the run's own corpus lie in the run's own version."""
    if section.corpus is not None:
        version = _opened(section.corpus, section.version)[1]
    return version.origin(section.step)
