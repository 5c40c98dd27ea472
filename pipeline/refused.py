"""What a version holds that may not be trained on now: loaders blank it as they read.

The surprising rule: it is now that decides, and not the day of the build. What a newer version takes back,
and what a licence that has ended no longer grants, is refused at once; the version is rewritten when somebody
gets round to it.
"""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pyarrow as pa

from infra.corpus import Corpus, Version
from pipeline import deciding, schema
from pipeline.searching import admission, holdings, members
from pipeline.searching.watching import Watch


def uids(corpus: Corpus, version: Version) -> frozenset[str]:
    """Assets of the version that its purpose does not admit now.

    Raises ``ValueError`` if the revocations of the newest version cannot be read.
    """
    now = datetime.now(UTC)
    table = members.read(corpus, version)
    held = holdings.read(corpus, version, table)
    standing = Watch(corpus=corpus, place=None, holdings=held, now=lambda: now).begin()
    shown_N = admission.admitted(held, standing, deciding.purpose_of(corpus, version), now).shown_N
    refused: list[str] = table[schema.UID.name].filter(pa.array(np.logical_not(shown_N))).to_pylist()
    return frozenset(refused)
