"""Form (i) of a delivery: WebDataset tars beside ``delivery.json`` and ``licenses.jsonl``.

The surprising rule is who suffers for what. A tar that lies (a link, a sparse member, a name given twice, a
wrong sha256) is refused whole, before its first sample. A sample that is merely wrong inside a good tar
becomes a :class:`Fault`, alone: every sample comes out once, as an asset or as a fault with its reason.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator

from infra.guarded import tar
from infra.guarded.refused import Refused
from pipeline.contract import Delivery, DeliveryFile
from pipeline.deliveries import manifest
from pipeline.deliveries.batch import Batch
from pipeline.deliveries.manifest import MANIFEST
from pipeline.deliveries.sample import Delivered, Sample, sample

ROLE = "tar"
"""Of a batch's files among what a task reads."""


def count(delivery: Delivery) -> int | None:
    """Samples, where every shard says how many it has."""
    told = [file.samples for file in delivery.files if file.role == "shard"]
    known = [samples for samples in told if samples is not None]
    return sum(known) if len(known) == len(told) else None


def batches(delivery: Delivery) -> list[Batch]:
    """A batch for each tar, as listed."""
    return [Batch(files=(file,)) for file in delivery.files if file.role == "shard"]


def read(at: Delivered, batch: Batch) -> Iterator[Sample]:
    (shard,) = batch.files
    return read_shard(at, shard)


def read_shard(opened: Delivered, shard: DeliveryFile) -> Iterator[Sample]:
    """Every sample of a shard, in its order, each once.

    The shard is held in memory (at most 2 GiB), so that the bytes that are parsed are the bytes that were
    hashed; the whole tar is walked before the first sample comes out. Raises :class:`Refused`.
    """
    data, where = manifest.verified(opened.store, shard), opened.store.where(shard.path)
    keys = [name.partition(".")[0] for name, _ in tar.members(io.BytesIO(data), file=where)]
    _check_adjacent(keys, where)
    _check_samples(shard, len(set(keys)), where)
    members = tar.members(io.BytesIO(data), file=where)
    for key, group in itertools.groupby(members, key=lambda member: member[0].partition(".")[0]):
        yield sample(key, {name.partition(".")[2]: content for name, content in group}, opened.delivery)


def _check_adjacent(keys: list[str], where: str) -> None:
    runs = [key for key, _ in itertools.groupby(keys)]
    seen: set[str] = set()
    for key in runs:
        if key in seen:
            raise Refused(
                where, key, "scattered", "members of one key are not adjacent; sort the tar by name"
            )
        seen.add(key)


def _check_samples(shard: DeliveryFile, num: int, where: str) -> None:
    if shard.samples not in (None, num):
        fix = "send the whole tar, or correct the number"
        raise Refused(where, "", "samples", f"it holds {num}, {MANIFEST} says {shard.samples}; {fix}")
