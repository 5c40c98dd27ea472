"""What a version holds that may not be trained on now: loaders blank it as they read.

The surprising rule: it is now that decides, and not the day of the build. What newer versions or files of
revocations take back, and what a licence that has ended no longer grants, is refused at once; the version is
rewritten when somebody gets round to it.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa

from infra.corpus import Corpus, Version
from pipeline import schema
from pipeline.grants import Purpose
from pipeline.searching import admission, holdings, members
from pipeline.searching.watching import Place, Watch


def uids(
    corpus: Corpus,
    version: Version,
    *,
    place: Place | None = None,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> frozenset[str]:
    """Assets of the version that its purpose does not admit now.

    ``place`` holds revocations that no version has yet. Raises ``ValueError`` if they cannot be read.
    """
    purpose = Purpose.model_validate(dict(corpus.artifact(version, "decide").settings), strict=False)
    table = members.read(corpus, version)
    held = holdings.read(corpus, version, table)
    standing = Watch(corpus=corpus, place=place, holdings=held, now=now).begin()
    shown_N = admission.admitted(held, standing, purpose, now()).shown_N
    refused: list[str] = table[schema.UID.name].filter(pa.array(np.logical_not(shown_N))).to_pylist()
    return frozenset(refused)
