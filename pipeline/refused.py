"""What a version holds that may not be used now: loaders blank it as they read, and no search finds it.

The surprising rule: it is now that decides, and not the day of the build. What a newer version takes back,
and what a licence that has ended no longer grants, is refused at once; the version is rewritten when somebody
gets round to it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from infra.corpus import Corpus, Version
from pipeline import deciding, schema
from pipeline.grants import Purpose
from pipeline.searching import admission, holdings, members
from pipeline.searching.holdings import Holdings
from pipeline.searching.standing import Standing
from pipeline.searching.watching import Watch
from retrieval.serving.admission import Admitted


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """The assets of a version, what their rights hang on, and what is taken back at one time."""

    table: pa.Table
    holdings: Holdings
    standing: Standing

    @staticmethod
    def read(corpus: Corpus, version: Version, now: datetime) -> Held:
        """Raises ``ValueError`` if the revocations of the newest version cannot be read."""
        table = members.read(corpus, version)
        held = holdings.read(corpus, version, table)
        standing = Watch(corpus=corpus, place=None, holdings=held, now=lambda: now).begin()
        return Held(table=table, holdings=held, standing=standing)

    def refused(self, purpose: Purpose, now: datetime) -> frozenset[str]:
        """Assets that the purpose does not admit."""
        return self._without(self._admitted(purpose, now).shown_N)

    def no_neighbors(self, purpose: Purpose, now: datetime) -> frozenset[str]:
        """Those, and assets that may not be found."""
        return self._without(self._admitted(purpose, now).found_N)

    def undisplayed(self, purpose: Purpose, now: datetime) -> frozenset[str]:
        """Assets that may not be displayed, or not be used at all."""
        return self.refused(purpose, now) | self.refused(displaying(purpose), now)

    def _admitted(self, purpose: Purpose, now: datetime) -> Admitted:
        return admission.admitted(self.holdings, self.standing, purpose, now)

    def _without(self, admitted_N: NDArray[np.bool_]) -> frozenset[str]:
        found: list[str] = self.table[schema.UID.name].filter(pa.array(~admitted_N)).to_pylist()
        return frozenset(found)


def displaying(purpose: Purpose) -> Purpose:
    """The same, for display alone: what is shown is not sold."""
    return purpose.model_copy(update={"uses": ("retrieval_display",), "commercial": False})


def uids(corpus: Corpus, version: Version, purpose: Purpose | None = None) -> frozenset[str]:
    """Assets of the version that a purpose does not admit now: the version's own, unless another is told.

    Raises ``ValueError`` if the revocations of the newest version cannot be read.
    """
    now = datetime.now(UTC)
    purpose = purpose or deciding.purpose_of(corpus, version)
    return Held.read(corpus, version, now).refused(purpose, now)


@dataclass(frozen=True, slots=True, kw_only=True)
class Barred:
    """What may not be done with assets of a version, asked anew each time; each part by itself, since a page
    asks for neighbors at every word that is typed.
    """

    neighbors: Callable[[], frozenset[str]] = frozenset
    """Which may be no neighbor."""
    displayed: Callable[[], frozenset[str]] = frozenset
    """Which may not be displayed."""


def barred(corpus: Corpus, version: Version) -> Barred:
    """What stands at this moment, and stays. Raises ``ValueError`` if the newest version's revocations cannot
    be read.
    """
    now, purpose = datetime.now(UTC), deciding.purpose_of(corpus, version)
    held = Held.read(corpus, version, now)
    no_neighbors, undisplayed = held.no_neighbors(purpose, now), held.undisplayed(purpose, now)
    return Barred(neighbors=lambda: no_neighbors, displayed=lambda: undisplayed)
