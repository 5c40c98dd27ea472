"""What a caller may narrow by, and who is asked: what the page shows before a search."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from infra.countries import COUNTRIES
from retrieval.serving.admission import Admitted, Grant, Territory
from retrieval.serving.catalogue import LICENSE, Catalogue
from retrieval.serving.queries import MAX_IMAGE, MAX_K

MAX_VALUES = 200
"""Of a facet: what a list of choices can show."""
KEPT = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """The same for every caller."""

    corpus: str
    """Its name, for people."""
    version: int
    encoder: str
    is_clip: bool
    fingerprint: str
    uses: frozenset[str]
    """All that there are."""
    open: bool
    """Nobody is asked for a token."""
    examples: bool
    """There are neighbors to inspect."""


def remembered(about: About, catalogue: Catalogue) -> Callable[[Grant, Grant, Admitted], Mapping[str, Any]]:
    """Counting a million members takes a while; who is told twice is told the same."""

    @functools.lru_cache(maxsize=KEPT)
    def found(own: Grant, grant: Grant, admitted: Admitted) -> Mapping[str, Any]:
        return told(about, own, grant, admitted, catalogue)

    return found


def told(about: About, own: Grant, grant: Grant, admitted: Admitted, catalogue: Catalogue) -> dict[str, Any]:
    """``own`` is the token's, ``grant`` what was narrowed of it."""
    return {
        "corpus": about.corpus,
        "version": about.version,
        "assets": len(catalogue),
        "shown": int(admitted.shown_N.sum()),
        "encoder": {"name": about.encoder, "is_clip": about.is_clip, "fingerprint": about.fingerprint},
        "open": about.open,
        "uses": sorted(grant.uses),
        "territory": spelled(grant.territory),
        "narrower": {
            "uses": sorted(about.uses - own.uses),
            "territory": sorted(COUNTRIES if own.territory == "worldwide" else own.territory),
        },
        "max_k": MAX_K,
        "max_image_bytes": MAX_IMAGE,
        **facets(admitted, catalogue),
        "dates": dates(admitted, catalogue),
        "examples": about.examples,
    }


def spelled(territory: Territory) -> str | list[str]:
    return territory if isinstance(territory, str) else sorted(territory)


def facets(admitted: Admitted, catalogue: Catalogue) -> dict[str, Any]:
    """Counts of what may be shown, the most frequent values first."""
    counts: dict[str, Mapping[str, int]] = {LICENSE: admitted.license_counts()}
    counts |= {name: facet.counts(admitted.shown_N) for name, facet in catalogue.facets.items()}
    ordered = {
        name: sorted(found.items(), key=lambda one: (-one[1], one[0])) for name, found in counts.items()
    }
    return {
        "facets": {
            name: [{"value": value, "count": count} for value, count in found[:MAX_VALUES]]
            for name, found in ordered.items()
        },
        "facets_left_out": {
            name: len(found) - MAX_VALUES for name, found in ordered.items() if len(found) > MAX_VALUES
        },
    }


def dates(admitted: Admitted, catalogue: Catalogue) -> dict[str, str | None]:
    days = catalogue.days_N[admitted.shown_N]
    known = days[~np.isnat(days)]
    if not len(known):
        return {"first": None, "last": None}
    return {"first": str(known.min()), "last": str(known.max())}
