"""Objects of S3 that the rows of a batch name: read several at a time, and compared with their sha256.

The surprising rule: an object that does not fit any more has been read before that is known. It is dropped,
and comes first with the next try.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from infra.guarded import s3
from infra.guarded.https import Unreachable
from infra.guarded.refused import Refused
from pipeline.deliveries.download import Effort, Wanted
from pipeline.deliveries.fetched import Missed

OVER = Missed(code="budget", message="the batch is full; its rest comes with the next try", again=True)


def read(
    wanted: Sequence[Wanted], *, buckets: Collection[str], max_bytes: int, effort: Effort
) -> dict[int, bytes | Missed]:
    """An object by row, or why there is none; of bytes no more than ``effort`` allows in all."""
    found: dict[int, bytes | Missed] = {}
    reading = functools.partial(_read, buckets=buckets, max_bytes=max_bytes)
    with ThreadPoolExecutor(effort.threads) as pool:
        for start in range(0, len(wanted), effort.threads):
            some = wanted[start : start + effort.threads]
            if OVER in found.values():
                found |= {one.row: OVER for one in some}
                continue
            for one, answer in zip(some, pool.map(reading, some), strict=True):
                fits = isinstance(answer, Missed) or held(found) + len(answer) <= effort.max_total_bytes
                found[one.row] = answer if fits else OVER
    return found


def held(found: Mapping[int, bytes | Missed]) -> int:
    """Bytes of images that are in memory."""
    return sum(len(image) for image in found.values() if isinstance(image, bytes))


def _read(one: Wanted, *, buckets: Collection[str], max_bytes: int) -> bytes | Missed:
    try:
        data = s3.read(one.uri, one.version, buckets=buckets, max_bytes=max_bytes)
    except (Refused, Unreachable) as error:
        return Missed.of(error)
    digest = hashlib.sha256(data).hexdigest()
    if digest != one.sha256:
        told = f"file.sha256: got {one.sha256}; the object has {digest}"
        return Missed(code="sha256_mismatch", message=told, again=False)
    return data
