"""Form (i) of a delivery: WebDataset tars beside ``delivery.json`` and ``licenses.jsonl``.

The surprising rule is who suffers for what. A tar that lies (a link, a sparse member, a name given twice, a
wrong sha256) is refused whole, before its first sample. A sample that is merely wrong inside a good tar
becomes a :class:`Fault`, alone: every sample comes out once, as an asset or as a fault with its reason.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from infra.guarded import tar
from infra.guarded.hashed import Hashed
from infra.guarded.refused import Refused
from pipeline.contract import DeliveryFile
from pipeline.deliveries import listing
from pipeline.deliveries.batch import Batch
from pipeline.deliveries.listing import MANIFEST
from pipeline.deliveries.sample import MIME_OF, SIDE_BYTES, Delivered, Sample, sample


def batches(at: Delivered) -> list[Batch]:
    """A batch for each tar, as listed."""
    return [Batch(files=(file,), samples=file.samples) for file in at.delivery.files if file.role == "shard"]


def read(at: Delivered, batch: Batch) -> Iterator[Sample]:
    (shard,) = batch.files
    return read_shard(at, shard)


def read_shard(opened: Delivered, shard: DeliveryFile) -> Iterator[Sample]:
    """Every sample of a shard, in its order, each once; one is in memory at a time.

    The tar is read twice, and hashed both times: it is walked whole before the first sample comes out, and a
    tar that was changed in between is refused after the last, before anybody may believe them. Raises
    :class:`Refused`.
    """
    check_samples(shard, len(keys(opened, shard)), opened.store.where(shard.path))
    for key, parts in groups(opened, shard):
        yield sample(key, parts, opened.delivery)


def keys(opened: Delivered, shard: DeliveryFile) -> list[str]:
    """Of a tar that was walked to its end; the members of each are adjacent."""
    found = (name.partition(".")[0] for name, _ in members(opened, shard, wanted=lambda _: 0))
    runs = [key for key, _ in itertools.groupby(found)]
    seen: set[str] = set()
    for key in runs:
        if key in seen:
            told = "members of one key are not adjacent; sort the tar by name"
            raise Refused(opened.store.where(shard.path), key, "scattered", told)
        seen.add(key)
    return runs


def groups(opened: Delivered, shard: DeliveryFile) -> Iterator[tuple[str, dict[str, bytes]]]:
    """(key, contents by extension) in the tar's order; one key's are in memory at a time.

    Of several images under one key the first is whole and the others are empty, since they are a fault
    whatever is in them. Of the other members their readers' limits are there, and one byte more.
    """
    found = members(opened, shard, wanted=Wanted().num_bytes)
    for key, group in itertools.groupby(found, key=lambda it: it[0].partition(".")[0]):
        yield key, {name.partition(".")[2]: content for name, content in group}


@dataclass(slots=True)
class Wanted:
    """How much of a member is held: six of 128 MiB each may share a key."""

    pictured: str = ""
    """The last key that had an image; the members of a key are adjacent."""

    def num_bytes(self, name: str) -> int:
        key, _, extension = name.partition(".")
        if extension not in MIME_OF:
            return SIDE_BYTES[extension]
        if key == self.pictured:
            return 0
        self.pictured = key
        return tar.SHARD.max_member_bytes


def members(
    opened: Delivered, shard: DeliveryFile, *, wanted: Callable[[str], int]
) -> Iterator[tuple[str, bytes]]:
    """(name, bytes) of every member of a tar that, in the end, was the one that is listed."""
    listing.check_size(opened.store, shard, shard.bytes)
    with opened.store.open(shard.path) as file:
        stream = Hashed(file, most=shard.bytes + 1)
        yield from tar.members(stream, file=opened.store.where(shard.path), wanted=wanted)
    listing.check_size(opened.store, shard, stream.num_bytes)
    listing.check_digest(opened.store, shard, stream.sha256.hexdigest())


def check_samples(file: DeliveryFile, num: int, where: str) -> None:
    if file.samples not in (None, num):
        fix = "send the whole file, or correct the number"
        raise Refused(where, "", "samples", f"it holds {num}, {MANIFEST} says {file.samples}; {fix}")
