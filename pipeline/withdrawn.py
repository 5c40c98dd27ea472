"""Assets that were taken out of the index, by a person: ``pardalis index remove``, and ``add`` beside it.

A corpus register of uids with a reason. The surprising rule: a removal rewrites nothing. From the next
version on no search answers with the asset, since its id is a tombstone; the next ``build`` leaves its vector
out of the segments. Its licence is untouched, and it stays in the training data: what has to go everywhere is
revoked.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa

from infra.corpus import Corpus, Version
from infra.storage import Store
from pipeline import ids, refs, schema, tables
from retrieval.segments import Ids

REGISTER = "withdrawn"
MAX_NAMED = 5


def uids(store: Store, version: Version) -> set[str]:
    segments = refs.registered(store, version, REGISTER)
    return {uid for ref in segments for uid in tables.read_parquet(ref)["uid"].to_pylist()}


def tombstones(store: Store, version: Version) -> Ids:
    """Their ids, sorted."""
    gone = uids(store, version)
    if not gone:
        return np.zeros(0, np.int64)
    known = ids.table(store, version)
    return np.array(sorted(known[uid] for uid in gone), np.int64)


def withdraw(corpus: Corpus, version: Version, gone: Sequence[str], reason: str) -> Version:
    """A version in which they answer no search; ValueError for a uid that the index never knew."""
    known = ids.table(corpus.store, version)
    unknown = [uid for uid in gone if uid not in known]
    if unknown:
        named = ", ".join(unknown[:MAX_NAMED]) + (" …" if len(unknown) > MAX_NAMED else "")
        told = f"{len(unknown)} of {len(gone)} are not in the index: {named}"
        raise ValueError(f"{told}; write them as PROVIDER:ASSET_ID")
    before = uids(corpus.store, version)
    new = [uid for uid in dict.fromkeys(gone) if uid not in before]
    if not new:
        return version
    at = datetime.now(UTC).replace(microsecond=0).isoformat()
    rows = pa.table([new, [reason] * len(new), [at] * len(new)], schema=schema.WITHDRAWN)
    return corpus.append(version, REGISTER, tables.to_parquet(rows))
