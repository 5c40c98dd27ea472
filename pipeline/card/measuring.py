"""All figures of a version, in one pass over its shards, with one of them in memory at a time."""

from __future__ import annotations

import importlib.metadata
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from infra.corpus import Corpus, Version
from pipeline import deciding, folding
from pipeline.card import gating, limits, naming, parts
from pipeline.card.associations import Counts
from pipeline.card.contamination import Contamination
from pipeline.card.contributors import Contributors
from pipeline.card.exposure import Members
from pipeline.card.figures import Figure
from pipeline.card.matching import Matcher
from pipeline.card.people import People
from pipeline.card.rights import Rights
from pipeline.card.safety import Safety
from pipeline.card.settings import CardSettings
from pipeline.card.shifts import Shifts
from pipeline.card.termlists import TermList
from pipeline.grants import Purpose
from pipeline.reviewing import catalogs

FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A version, and what its card is made with."""

    corpus: Corpus
    version: Version
    settings: CardSettings
    lists: tuple[TermList, ...]
    before: Version | None = None

    @property
    def catalog(self) -> str:
        """The step whose rows are the fullest."""
        return next(name for name in catalogs.STEPS if name in self.version.artifacts)

    @property
    def artifacts(self) -> dict[str, str]:
        return {**self.version.models, **self.version.artifacts}


def card(asked: Asked) -> dict[str, Any]:
    """All that the card says, as JSON values."""
    figures = {one.name: one.json(asked.artifacts) for one in measured(asked)}
    lists = [one.facts() for one in asked.lists]
    as_of = datetime.fromisoformat(asked.version.as_of)
    verdicts = gating.judged(figures, asked.settings.gates, asked.settings.waivers, as_of)
    return {
        "format": FORMAT,
        **identity(asked),
        "term_lists": lists,
        "figures": figures,
        "gates": [asdict(one) for one in verdicts],
        "waivers": [one.model_dump(mode="json") for one in asked.settings.waivers],
        "limits": limits.limits(figures, lists, asked.settings.ngram),
    }


def identity(asked: Asked) -> dict[str, Any]:
    """Which version this is, and what went into it. Addresses of corpus and deliveries stay out: a card is
    given on.
    """
    version, corpus = asked.version, asked.corpus
    purpose: Purpose = deciding.purpose_of(corpus, version)
    deliveries = [
        {
            "provider": one.provider,
            "delivery_id": one.delivery_id,
            "sequence": one.sequence,
            "sha256": one.sha256,
            "kind": delivery.kind,
            "form": delivery.form,
            "created_at": delivery.created_at.isoformat(),
            "counts": delivery.counts,
        }
        for one in version.deliveries
        for delivery in [folding.manifest(folding.manifest_ref(corpus.store, one))]
    ]
    about = asked.settings.about
    return {
        "title": about.title or " and ".join(dict.fromkeys(one.provider for one in version.deliveries)),
        "version": version.number,
        "parent": version.parent,
        "as_of": version.as_of,
        "before": asked.before and {"version": asked.before.number, "as_of": asked.before.as_of},
        "software": f"pardalis {importlib.metadata.version('pardalis')}",
        "purpose": purpose.model_dump(mode="json"),
        "deliveries": deliveries,
        "registers": {name: len(segments) for name, segments in sorted(version.registers.items())},
        "artifacts": dict(sorted(asked.artifacts.items())),
        "models": dict(sorted(version.models.items())),
    }


def measured(asked: Asked) -> list[Figure]:
    corpus, version, settings = asked.corpus, asked.version, asked.settings
    matcher = Matcher.of(asked.lists)
    purpose = deciding.purpose_of(corpus, version)
    providers = dict.fromkeys(one.provider for one in version.deliveries)
    rights = Rights(
        licenses={name: folding.licenses(corpus.store, version, name) for name in providers},
        needed=purpose.needed,
        as_of=datetime.fromisoformat(version.as_of),
    )
    counts, people, contributors = Counts(labels=matcher.labels), People(), Contributors()
    safety, members, shifts = Safety(matcher.labels), Members(counts.axes), Shifts(counts.axes)
    contamination = Contamination.of(settings.benchmarks, settings.ngram)
    for part in parts.read(corpus, version, matcher):
        counts.add(part.found.of(part.kept), len(part.kept), int(part.kept.sum()))
        masks = counts.masks(part.found, len(part.kept))
        for one in (rights, people, contributors, safety, contamination):
            one.add(part)
        members.add(part, masks)
        shifts.add(part, masks)
    step = asked.catalog
    return [
        *rights.figures(step),
        *people.figures(step, settings.reference),
        *naming.figures(counts, settings, earlier(asked, matcher)),
        shifts.figure(step),
        *members.figures(corpus, version),
        *contributors.figures(step, corpus, version),
        *safety.figures(step, corpus, version),
        contamination.figure(),
    ]


def earlier(asked: Asked, matcher: Matcher) -> Counts | None:
    """What was named in the earlier version, by the same lists."""
    if asked.before is None:
        return None
    counts = Counts(labels=matcher.labels)
    for part in parts.read(asked.corpus, asked.before, matcher):
        counts.add(part.found.of(part.kept), len(part.kept), int(part.kept.sum()))
    return counts
