"""How each step grows, read out of its code: the only place where a formula stands.

Most steps are linear, shard by shard, and are described by their rates alone. What is not is said here with
the function that makes it so: a driver or a task that goes over all rows, and what that takes of memory and
time. The surprising rule: bytes in memory are of our own code as it is, copies and Python objects included;
whoever mends a step lowers its number here.

Legend: N images, S shards of a map step, G deliveries, L lists of a segment, D dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from pipeline.captions import FITTED_ROWS
from pipeline.examples import POOL
from pipeline.ids import SEGMENT_ROWS
from pipeline.pack import PackConfig
from pipeline.scale.rates import Rates
from retrieval import building, layouts, segments
from retrieval.exclude import NeighborConfig
from retrieval.judging import MARGIN
from retrieval.layouts import IndexConfig, Layout
from retrieval.tuning import QUERIES

GIB = 1 << 30
WORKER_BYTES = 1.0 * GIB
"""Of a worker with its libraries and models, before any row: the engine's benchmark has 0.95 GiB each."""
SHARD_BYTES = 2_100
"""Of a shard in a manifest that is read: 830 as JSON's dicts, and 1,250 as what they become."""
REF_S = 1.0e-6
"""Of the driver, for a file that a task reads: named, and hashed into the key."""
ASK_S = 0.02
"""Of a store, for one answer, as S3 takes; many are asked at once."""
REF_BYTES = 170
"""Of a file that a task reads, in the driver."""
HASH_S = 2.0e-9
"""Of a byte that is checked by its sha256."""
DRAW_S = 1.6e-6
"""Of a catalog's row that a sample may be drawn from: measured of 300,000 rows in 30 shards."""
SCAN_S, VISIT_S, RERANK_S = 6.4e-9, 0.65e-6, 1.0e-6
"""Of a query: a member's codes (retrieval.tuning); a list of a segment, however short, with its share of what
is kept of the segment; and a candidate judged by its vector in memory: 42 us of 64 lists, 0.55 ms of 576
candidates.
"""
TOGETHER = 8
"""Times as many are judged where segments are searched as one: of 16, each with its share, 0.95 took 32."""
LOOKUP_S, MEETING_S = 28e-9, 6.0e-9
"""Of dedup: a bucket that a row looks into, and a row met there; ``make bench NAME=dedup`` took 21.3 and
23.0 us a row for 100,000 and for 1,000,000."""
LOOKUPS = 3 * 254
"""Buckets that a row looks into: every change of at most 2 bits in each of three keys of 21 or 22."""
BUCKETS, CROWD = 1 << 21, 128
"""Of a key; and the rows that one row meets in a bucket at most (pipeline.likeness.meetings)."""
STRUCTURE_BUCKETS, STRUCTURE_TABLES = 1 << 18, 64
CAPTION_S = 8e-6
"""Of a caption that is read, and may not be fitted on."""
CANDIDATE_BYTES = 62
LOOK_S = 1.0e-3
"""Of a shard of 10,000 rows that is mapped and looked into: 0.97 ms, and 20 us for each row that is taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What is to be built."""

    images: int
    """All of them kept: what is refused costs less."""
    shard_rows: int = 10_000
    deliveries: int = 1
    tokens_per_image: int = 1024
    pairs: float = 2.5
    """Of a document: the target and its neighbors, on average."""
    documents_per_target: int = 1
    targets_per_group: int = 4096
    rows: PackConfig = field(default_factory=PackConfig)
    fit_images: int = 200_000
    """Squares that the image tokenizer is fitted on, in memory."""
    side: int = 256
    index: IndexConfig = field(default_factory=IndexConfig)
    neighbors: NeighborConfig = field(default_factory=NeighborConfig)

    @property
    def shards(self) -> int:
        """A delivery's last shard may be short."""
        return self.deliveries * math.ceil(self.images / self.deliveries / self.shard_rows)

    @property
    def pool_rows(self) -> int:
        """Of the shards that share their groups of packs, as pipeline.examples.pools joins them."""
        shards = max(1, POOL * self.targets_per_group // self.shard_rows)
        return int(min(shards * self.shard_rows, math.ceil(self.images / self.deliveries)))

    @property
    def pools(self) -> int:
        return self.deliveries * math.ceil(math.ceil(self.images / self.deliveries) / self.pool_rows)

    @property
    def groups(self) -> int:
        """Of packs for training, as pipeline.examples.list_tasks counts them: a power of two a pool."""
        pools, rest = divmod(math.ceil(self.images / self.deliveries), self.pool_rows)
        return self.deliveries * (pools * self._groups(self.pool_rows) + (self._groups(rest) if rest else 0))

    def _groups(self, rows: int) -> int:
        return int(2 ** max(0, math.ceil(math.log2(rows / self.targets_per_group))))

    def layout(self, width: int) -> Layout:
        """Of one delivery's segments."""
        return layouts.chosen(math.ceil(self.images / self.deliveries), width, self.index)


Amount = Callable[[Scene, Rates], float]


def none(_at: Scene, _rates: Rates) -> float:
    return 0.0


def every_image(at: Scene, _rates: Rates) -> float:
    return at.images


def by_shard(at: Scene, _rates: Rates) -> float:
    return at.shards


def by_delivery(at: Scene, _rates: Rates) -> float:
    return at.deliveries


def once(_at: Scene, _rates: Rates) -> float:
    return 1.0


def of_shard(at: Scene, rates: Rates) -> float:
    """A shard's pictures twice: as they are read, and as they are written."""
    pictures = rates.steps["images"].files["images.tar"].row
    return WORKER_BYTES + 2 * at.shard_rows * pictures


def all_rows(row_bytes: float) -> Amount:
    """A task, or the driver, that holds the rows of all deliveries at once."""
    return lambda at, _: WORKER_BYTES + row_bytes * at.images


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    tasks: Amount = by_shard
    more_s: Amount = none
    """CPU seconds of workers beside the rates: what is not linear, or cannot be seen in small runs."""
    threads_s: Amount = none
    """Of these, those that a task's threads share."""
    rows: Amount = every_image
    """To which the rate of a row applies."""
    bounded: bool = False
    """Whether files stay as large as the largest run that was measured has them, however many images."""
    sizes: Mapping[str, Amount] = field(default_factory=dict)
    """Bytes of files that are known without a rate: they depend on how many there are, or on the layout."""
    beside_gpu_s: Amount = none
    """CPU seconds that a GPU does not shorten."""
    worker: Amount = of_shard
    """Bytes of memory of one worker."""
    disk: Amount = none
    """Bytes of files of the store that every node comes to look into, and keeps while there is room."""
    disk_of: str = ""
    """What these are."""
    driver: Amount = none
    """Bytes of memory of the driver beside manifests and tasks."""
    driver_row_s: float = 0.0
    """Seconds of the driver for a row, where it reads any."""
    asks: Amount = none
    """Files that the driver reads."""
    refs: Amount = by_shard
    """Files that the driver names in all tasks together."""
    held: Amount | None = None
    """Of these the ones that are objects of their own in the driver; None: all."""
    entry: Amount = none
    """Bytes of a shard's entry in the manifest beside the rate."""
    largest: Amount = none
    """Bytes of the largest object that grows with N or with what is set."""
    on_gpu: bool = False
    by_tokens: bool = False
    """Whether work and bytes are in proportion to the tokens of an image."""
    because: str = ""
    """What in the code is over all rows."""


def judged(at: Scene, _rates: Rates) -> float:
    """A delivery's task judges all rows so far."""
    return at.images * (at.deliveries + 1) / 2


def meetings(at: Scene, rates: Rates) -> float:
    """Each row looks into its buckets, of all rows that came with it or before; again for each delivery."""
    by_structure = STRUCTURE_TABLES * MEETING_S * min(at.images / STRUCTURE_BUCKETS, CROWD)
    return judged(at, rates) * (LOOKUPS * LOOKUP_S + by_structure) + met_by_hash(at, rates)


def met_by_hash(at: Scene, rates: Rates) -> float:
    return judged(at, rates) * LOOKUPS * MEETING_S * min(at.images / BUCKETS, CROWD)


def k_means(at: Scene, rates: Rates) -> float:
    """64 points a list, ten times compared with each of them."""
    lists = at.layout(rates.width).lists
    return at.deliveries * 10 * 64 * lists**2 * rates.width * rates.multiply_add_s


def coding(at: Scene, rates: Rates) -> float:
    """N x L x D: each vector is compared with every centroid."""
    return at.images * at.layout(rates.width).lists * rates.width * rates.multiply_add_s


def measuring(at: Scene, rates: Rates) -> float:
    """512 queries, compared with every vector."""
    return QUERIES * at.images * rates.width * rates.multiply_add_s


def searching(at: Scene, rates: Rates) -> float:
    """Two queries an image in every delivery: L x D for the lists, which its segments share, then the probed
    ones' codes, then the best by their vectors. How many lists are probed is measured when an index is built;
    before, what it is told.
    """
    layout = at.layout(rates.width)
    members = at.images / at.deliveries
    if layout.kind == "flat":
        query = members * rates.width * rates.multiply_add_s
    else:
        scan = SCAN_S if layout.kind == "ivf_pq" else rates.width * rates.multiply_add_s
        probes = min(segments.PROBES, layout.lists)
        visited = probes * (layout.segments * VISIT_S + members / layout.lists * scan)
        times = segments.RERANKED * (TOGETHER if layout.segments > 1 else 1)
        again = times * (at.neighbors.fetch + MARGIN) * RERANK_S
        query = layout.lists * rates.width * rates.multiply_add_s + visited + again
    searched = (at.deliveries + 1) / 2  # of the deliveries, since a row looks back only
    return 2 * at.images * searched * query


def segment(at: Scene, rates: Rates) -> float:
    """A segment as a file."""
    return at.layout(rates.width).file_bytes


def merging(at: Scene, rates: Rates) -> float:
    """Its parts, what FAISS made of them, and what that is written as."""
    return WORKER_BYTES + 3 * segment(at, rates)


def sampled(at: Scene, rates: Rates) -> float:
    """A sample's vectors: as they are drawn, as a matrix, and as codes see them. With the shard that is read,
    96 MiB of them took 292 beside the worker, where this says 333.
    """
    points = building.points(at.layout(rates.width)) * rates.width * layouts.FLOAT32
    return one_shard(at, rates) + 3 * points


def one_shard(at: Scene, rates: Rates) -> float:
    """A shard's vectors: in its file, and as float32."""
    return WORKER_BYTES + 3 * at.shard_rows * rates.steps["embed"].files["embeddings.arrow"].row


def drawing(at: Scene, rates: Rates) -> float:
    """Every catalog is read, and checked, for some of its rows."""
    return (DRAW_S + HASH_S * rates.steps["split"].files["rows.parquet"].row) * at.images


def drawn_on(at: Scene, _rates: Rates) -> float:
    """Images that the image tokenizer is fitted on."""
    return min(at.images, at.fit_images)


def hashed(at: Scene, rates: Rates) -> float:
    """A tar is read, and checked, where one of its pictures was drawn: of 340 million nearly every one."""
    read = 1 - (1 - min(1, at.fit_images / max(1, at.images))) ** at.shard_rows
    tars = HASH_S * rates.steps["images"].files["images.tar"].row * at.images
    return read * tars + drawing(at, rates)


def projecting(at: Scene, rates: Rates) -> float:
    """N x (features)^2, of as many pairs as are looked at: the products of a ridge."""
    features = rates.steps["features"].files["features.arrow"].row / layouts.FLOAT32
    return min(at.images, FITTED_ROWS) * features**2 * rates.multiply_add_s


def asked(at: Scene, rates: Rates) -> float:
    return min(at.images, at.deliveries * QUERIES) * rates.width * layouts.FLOAT32


def all_segments(at: Scene, rates: Rates) -> float:
    return at.deliveries * at.layout(rates.width).segments * segment(at, rates)


def all_members(at: Scene, rates: Rates) -> float:
    return at.images * rates.steps["index"].files["members.arrow"].row


def all_codes(at: Scene, rates: Rates) -> float:
    layout = at.layout(rates.width)
    return at.deliveries * layout.segments * layout.bytes


def all_tokens(at: Scene, rates: Rates) -> float:
    """A pack's pairs lie in shards of tokens all over the corpus."""
    row = rates.steps["tokenize"].files["tokens.arrow"].row
    return row * at.images * at.tokens_per_image / rates.tokens_per_image


def all_parts(at: Scene, rates: Rates) -> float:
    """What all segments are made of, but for the lists: those each segment has, and no part."""
    return all_segments(at, rates) - at.layout(rates.width).segments * centroids(at, rates)


def centroids(at: Scene, rates: Rates) -> float:
    return at.deliveries * at.layout(rates.width).lists * rates.width * layouts.FLOAT32


def fitting(at: Scene, rates: Rates) -> float:
    """The squares, hash and key of twice as many rows, and a shard's pictures."""
    return of_shard(at, rates) + min(at.fit_images, at.images) * (3 * at.side**2 + 600)


def aligning(at: Scene, rates: Rates) -> float:
    """A shard's features, as read and in the order of rows; a block of 8,192 at twice the digits, and three
    times as many pairs of which some judge; sums of (features)^2, four at a time. Shards of 10,000 rows took
    475 MiB beside the worker, where this says 607.
    """
    row = rates.steps["features"].files["features.arrow"].row
    return WORKER_BYTES + (2 * at.shard_rows + 5 * 8192) * row + 32 * (row / layouts.FLOAT32) ** 2


def packs(at: Scene, _rates: Rates) -> float:
    """Of what is held out two a pool: with neighbors, and without."""
    return at.groups + 2 * at.pools


def looked_up(at: Scene, rates: Rates) -> float:
    """Each pack may be the first of its pool that a worker makes, which then reads the pool's neighbors; and
    looks into every shard of tokens in which one of its pairs lies.
    """
    pairs = min(at.targets_per_group, at.images) * at.documents_per_target * at.pairs
    pools = packs(at, rates) * at.pool_rows * rates.listed_row_s
    return pools + at.groups * min(at.shards, pairs) * LOOK_S


def pack_refs(at: Scene, rates: Rates) -> float:
    """Each pack names the neighbors of its pool and two models; where tokens lie is named once a delivery,
    with all that came before.
    """
    named = packs(at, rates) * (at.pool_rows / at.shard_rows + 2)
    return named + at.shards * (at.deliveries + 1) / 2


def packing(at: Scene, _rates: Rates) -> float:
    """The neighbors of a pool, as read and as kept; those of a group, and the tokens of its pairs, as Python
    objects; where every shard of tokens lies.
    """
    candidates, targets = at.neighbors.candidates, min(at.targets_per_group, at.images)
    pairs = targets * at.documents_per_target * at.pairs
    return (
        WORKER_BYTES
        + 2 * CANDIDATE_BYTES * candidates * at.pool_rows
        + 400 * candidates * targets
        + (4_000 + 2 * at.tokens_per_image) * pairs
        + 600 * at.shards
    )


def listed_blocks(at: Scene, rates: Rates) -> float:
    """450 bytes a file and 110 a block, of training packs; those held out have few."""
    pairs = min(at.targets_per_group, at.images) * at.documents_per_target * at.pairs
    tokens = pairs * (at.tokens_per_image + 12)
    files, blocks = 2 * tokens / at.rows.shard_bytes, tokens / at.rows.capacity / at.rows.block_rows
    return (450 * files + 110 * blocks) * at.groups / packs(at, rates)


LINEAR = Shape()
SHAPES: Mapping[str, Shape] = {
    "fetch": LINEAR,
    "records": LINEAR,
    "decide": Shape(
        driver=all_rows(170),
        driver_row_s=1.1e-6,
        asks=by_shard,
        because="deciding.list_tasks reads the revisions of every record in the driver, and counts uids",
    ),
    "images": LINEAR,
    "filter": LINEAR,
    "features": Shape(on_gpu=True),
    "scores": LINEAR,
    "screen": LINEAR,
    "dedup": Shape(
        tasks=by_delivery,
        rows=judged,
        more_s=meetings,
        threads_s=met_by_hash,
        worker=all_rows(2_600),
        refs=lambda at, _: at.shards * (at.deliveries + 1) / 2,
        held=by_shard,
        entry=lambda at, _: 150 * at.shards / at.deliveries,
        because="dedup.judge holds the looks of all rows so far in one task: 1,552 bytes each, once, and "
        "what pairs are found by: 200,000 rows more took 2,614 bytes each",
    ),
    "split": LINEAR,
    "bpe": Shape(
        tasks=once,
        rows=lambda at, _: min(at.images, FITTED_ROWS),
        more_s=lambda at, _: CAPTION_S * at.images,
        bounded=True,
        because="tokens.fit_text reads every catalog in one task; memory is of words",
    ),
    "vq": Shape(
        tasks=once,
        rows=drawn_on,
        beside_gpu_s=hashed,
        bounded=True,
        worker=fitting,
        on_gpu=True,
        because="tokens.training_squares holds the images that are fitted on, in one task: lower "
        "tokenizer.image.max_images, or `pardalis tokenizer fit`, which streams them",
    ),
    "tokenize": Shape(on_gpu=True, by_tokens=True),
    "align": Shape(
        tasks=once,
        more_s=projecting,
        bounded=True,
        worker=aligning,
        because="embed.fit_projection adds up the features of all rows in one task, on one thread",
    ),
    "embed": LINEAR,
    "lists": Shape(
        tasks=by_delivery,
        more_s=k_means,
        sizes={"lists.faiss": centroids},
        worker=sampled,
        on_gpu=True,
        because="indexing.fit_lists holds 64 vectors a list, three times",
    ),
    "codes": Shape(
        more_s=coding,
        sizes={"part.faiss": all_parts},
        driver=all_rows(300),
        driver_row_s=2e-6,
        asks=lambda at, _: 2 * at.shards,
        largest=lambda at, _: 30 * min(at.images, SEGMENT_ROWS),
        because="indexing.register and slots_with_members hold every uid and id, as Python dicts, in the "
        "driver, and read every catalog there",
    ),
    "probes": Shape(
        tasks=by_delivery,
        more_s=drawing,
        sizes={"queries.npy": asked},
        worker=one_shard,
        because="indexing.probe goes over a delivery's catalog in one task",
    ),
    "index": Shape(
        tasks=lambda at, rates: at.deliveries * at.layout(rates.width).segments,
        more_s=measuring,
        sizes={"segment.faiss": all_segments},
        worker=merging,
        largest=segment,
        because="indexing.merge makes a segment in memory, three times",
    ),
    "queries": Shape(on_gpu=True),
    "neighbors": Shape(
        more_s=searching,
        worker=lambda at, rates: all_rows(120)(at, rates) + all_codes(at, rates),
        disk=lambda at, rates: all_segments(at, rates) + all_members(at, rates),
        disk_of="segments and their members",
        refs=lambda at, rates: at.shards * 2 * at.deliveries * at.layout(rates.width).segments,
        on_gpu=True,
        because="neighbors.open_memory holds ids and numbers of every member in each worker, 111 bytes each "
        "of four million; of the segments codes are in memory and vectors on its disk",
    ),
    "pack": Shape(
        tasks=packs,
        more_s=looked_up,
        worker=packing,
        disk=all_tokens,
        disk_of="tokens",
        refs=pack_refs,
        held=lambda at, _: 2 * at.shards,
        by_tokens=True,
        entry=listed_blocks,
        because="examples.pack_group tells of every file and every block in its entry: raise "
        "pipeline.examples.targets_per_group and rows.shard_bytes",
    ),
}
"""By step, every one that the plan has."""
