"""What a version holds that may not be trained on now: loaders blank it as they read.

The surprising rule: it is now that decides, and not the day of the build. What a newer version takes back,
and what a licence that has ended no longer grants, is refused at once; the version is rewritten when somebody
gets round to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa

from infra.corpus import Corpus, Version
from pipeline import deciding, schema
from pipeline.grants import Purpose
from pipeline.searching import admission, holdings, members
from pipeline.searching.holdings import Holdings
from pipeline.searching.standing import Standing
from pipeline.searching.watching import Watch


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


def uids(corpus: Corpus, version: Version, purpose: Purpose | None = None) -> frozenset[str]:
    """Assets of the version that a purpose does not admit now: the version's own, unless another is told.

    Raises ``ValueError`` if the revocations of the newest version cannot be read.
    """
    now = datetime.now(UTC)
    held = Held.read(corpus, version, now)
    purpose = purpose or deciding.purpose_of(corpus, version)
    shown_N = admission.admitted(held.holdings, held.standing, purpose, now).shown_N
    refused: list[str] = held.table[schema.UID.name].filter(pa.array(np.logical_not(shown_N))).to_pylist()
    return frozenset(refused)
