"""Small catalogs of rows that were drawn, as files of a store."""

from __future__ import annotations

import hashlib

import numpy as np
import pyarrow as pa

from infra.storage import Store
from pipeline import refs, schema

COLUMNS = (schema.UID, schema.KEY, schema.OUTCOME, schema.SPLIT, schema.MAY_BE_NEIGHBOR)


def catalog(shard: int, num: int, *, share: float = 0.6) -> pa.Table:
    """Rows of which some are refused, some held out, and some may be no neighbor."""
    rng = np.random.default_rng([shard, num])
    uids = [f"acme:{shard}-{row}" for row in range(num)]
    return pa.table(
        [
            pa.array(uids),
            pa.array([uid.replace(":", "_") for uid in uids]),
            pa.array(np.where(rng.random(num) < share, "kept", "rejected")),
            pa.array(np.where(rng.random(num) < share, "train", "validation")),
            pa.array(rng.random(num) < share),
        ],
        schema=pa.schema(COLUMNS),
    )


def stored(store: Store, name: str, data: bytes) -> refs.Ref:
    store.write(name, data)
    return refs.Ref(store, name, hashlib.sha256(data).hexdigest())
