"""How a segment lies in memory: chosen by its size, by rule, from what memory and a query may cost.

Flat while a query can afford to see every vector; inverted lists of whole vectors (IVF-Flat) while those fit
the memory; beyond, inverted lists of 4-bit product codes that are scanned in registers, whose best are judged
again by the vectors themselves, at half precision and memory-mapped; and where not even the codes fit, or
the file is more than a store takes in one put, many such segments, each for a machine of its own. The
surprising rule: nothing that cannot forget is ever chosen. HNSW answers well and has no ``remove_ids``, so
it is not here.

Legend: N vectors, D embedding.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any, Literal

import faiss
from pydantic import Field

from infra.settings import Section

Kind = Literal["flat", "ivf_flat", "ivf_pq"]
SCANNED_MB_PER_MS = 8.0
"""Of vectors as float32, one query on one core: an estimate by the memory's speed."""
FLOAT32 = 4
FLOAT16 = 2
ID_BYTES = 8
MIB = 1 << 20
FILE_BYTES = 4 << 30
"""Of a segment's file at most, about: it is written by one put, of which S3 takes 5 GB."""
POINTS_PER_LIST = 39
"""That k-means wants of a list at least, as FAISS's guidelines have it."""
MAX_LISTS = 32_768
"""k-means of so many takes a core three hours, and 10 GB, which grow with the square and by as much; of 340
million, twice as many would save a query a fifth."""
SUBVECTORS = (4, 3, 2, 5, 6, 7, 8)
"""Dimensions that share 4 bits, the best first; 4 are 64 bytes of 512 dimensions."""


class IndexConfig(Section):
    """How a segment is built. A segment keeps its own, so changing these changes new segments only."""

    kind: Literal["auto", "flat", "ivf_flat", "ivf_pq"] = "auto"
    """``auto`` chooses by the two budgets."""
    memory_mib: float = Field(1024, gt=0)
    """For the vectors, or the codes, of one segment. What takes more is cut into several, as is what would be
    a file of more than 4 GiB."""
    latency_ms: float = Field(10.0, gt=0)
    """Of one query on one core: up to what fits, every vector is compared."""
    recall: float = Field(0.95, gt=0, le=1)
    """Share of the ten nearest that must be found; a build that finds fewer fails."""
    lists: int | None = Field(None, ge=1)
    """Inverted lists; default by rule."""
    probes: int | None = Field(None, ge=1)
    """Inverted lists that a query visits; default the fewest that reach ``recall``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    kind: Kind
    lists: int
    """0 where every vector is compared."""
    segments: int
    """Of equal size, that all vectors together are cut into."""
    bytes: int
    """Of memory, about, of one segment; of ``ivf_pq`` without the vectors, which stay on disk."""
    file_bytes: int
    """Of one segment as it is written, about: with the vectors, at half precision, of ``ivf_pq``."""

    def made(self, width: int) -> Any:
        """An empty, untrained FAISS index by inner product, in positions."""
        if self.kind == "flat":
            return faiss.IndexFlatIP(width)
        spelled = f"IVF{self.lists},Flat"
        if self.kind == "ivf_pq":
            spelled = f"IVF{self.lists},PQ{width // subvector(width)}x4fsr,Refine(SQfp16)"
        return faiss.index_factory(width, spelled, faiss.METRIC_INNER_PRODUCT)


def chosen(num: int, width: int, config: IndexConfig) -> Layout:
    """By size: Flat, then IVF-Flat, then IVF-PQ, then IVF-PQ in several segments.

    >>> [chosen(num, 512, IndexConfig()).kind for num in (10_000, 400_000, 1_000_000)]
    ['flat', 'ivf_flat', 'ivf_pq']
    >>> found = chosen(100_000_000, 512, IndexConfig(memory_mib=4096))
    >>> found.segments, found.bytes >> 20, found.file_bytes >> 20
    (27, 318, 3963)
    """
    memory, scanned = config.memory_mib * MIB, config.latency_ms * SCANNED_MB_PER_MS * 1e6
    flat, lists = (cut(num, 1, width, kind, config).bytes for kind in ("flat", "ivf_flat"))
    kind: Kind = "flat" if flat <= min(memory, scanned) else "ivf_flat" if lists <= memory else "ivf_pq"
    if config.kind != "auto":
        kind = config.kind
    least = cut(num, max(num, 1), width, kind, config)
    if least.bytes > memory:
        raise ValueError(
            f"retrieval.index.memory_mib = {config.memory_mib:g}: one vector and {least.lists} centroids "
            f"take {least.bytes / MIB:.3g}; raise it, or lower retrieval.index.lists"
        )
    if least.file_bytes > FILE_BYTES:
        raise ValueError(
            f"retrieval.index.lists = {least.lists}: the centroids alone are a file of "
            f"{least.file_bytes / MIB:.3g} MiB, of which a segment may have {FILE_BYTES // MIB}; lower it"
        )
    every = (cut(num, pieces, width, kind, config) for pieces in itertools.count(1))
    return next(one for one in every if one.bytes <= memory and one.file_bytes <= FILE_BYTES)


def cut(num: int, pieces: int, width: int, kind: Kind, config: IndexConfig) -> Layout:
    """Of ``kind``, in so many segments of the same lists."""
    each = -(-num // pieces)
    lists = 0 if kind == "flat" else config.lists or min(num_lists(num), most_lists(width, config))
    member = width * FLOAT32 if kind != "ivf_pq" else width // subvector(width) // 2
    taken = each * (member + ID_BYTES) + lists * width * FLOAT32
    # Members stand in lists by position, whose ids lie beside them.
    beside = (ID_BYTES if lists else 0) + (width * FLOAT16 if kind == "ivf_pq" else 0)
    return Layout(kind=kind, lists=lists, segments=pieces, bytes=taken, file_bytes=taken + each * beside)


def num_lists(num: int) -> int:
    """About 4 sqrt(N), a power of two, as FAISS's guidelines say, and never so many that k-means starves.

    >>> [num_lists(num) for num in (1, 78, 100_000, 10_000_000, 1_000_000_000)]
    [1, 2, 1024, 8192, 32768]
    """
    wanted = min(4 * num**0.5, num / POINTS_PER_LIST, MAX_LISTS)
    return 1 << max(0, int(wanted).bit_length() - 1)


def most_lists(width: int, config: IndexConfig) -> int:
    """Whose centroids are half of a segment's memory at most, and of its file.

    >>> most_lists(512, IndexConfig(memory_mib=64))
    16384
    """
    most = min(config.memory_mib * MIB, FILE_BYTES) / 2 / (width * FLOAT32)
    return 1 << max(0, int(most).bit_length() - 1)


def subvector(width: int) -> int:
    """Dimensions that share one code of 4 bits, of which two fill a byte."""
    found = [by for by in SUBVECTORS if width % by == 0 and width // by % 2 == 0]
    if not found:
        raise ValueError(
            f"vectors of {width} dimensions cannot be cut into codes; use retrieval.index.kind = ivf_flat"
        )
    return found[0]
