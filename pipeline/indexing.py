"""The index artifact: segments for each generation, and beside their vectors who their members are.

Four steps make it. ``lists`` fits a generation's centroids and codes on a sample, once; ``codes`` fills them
slot by slot, wherever there is a worker; ``probes`` are the queries by which ``index``, which merges what was
coded into one segment or as many as fit a machine's memory each, measures its recall. A delivery that arrives
later adds its own and leaves the others alone. Every kept asset is a member, with its id and its duplicate
group; a vector has only one whose licences grant ``retrieval_index``. What may be shown is a column that the
searcher checks.

The surprising rule: centroids outlive the assets that they were fitted on. Who is taken back leaves vectors,
codes and probes, and means of hundreds stay, as the residue that a receipt names.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from infra.artifact import Made, Shard, fingerprint
from infra.corpus import Corpus, Version
from infra.settings import Section
from infra.storage import Store
from pipeline import captions, embed, ids, numerics, outcomes, refs, rows, schema, tables, withdrawn
from pipeline.embed import EMBEDDINGS
from pipeline.outcomes import KEPT
from pipeline.split import TRAIN
from pipeline.step import ROWS, Before, Report, Source, Step, Task, generation, nothing_told
from retrieval import align, building, layouts, tuning
from retrieval.layouts import IndexConfig
from retrieval.segments import Floats

UID = schema.UID.name
LISTS = "lists.faiss"
QUERIES = "queries.npy"
PART = "part.faiss"
SEGMENT = "segment.faiss"
MEMBERS = "members.arrow"
"""To be mapped: a search names few of them."""
NUMBERED = (
    (schema.GROUP_NUMBER, schema.GROUP),
    (schema.CONTRIBUTOR_NUMBER, schema.CONTRIBUTOR),
)
LIBRARIES = ("faiss-gpu", "numpy")


SEEN = np.dtype([("hash", np.uint64), ("file", np.int32), ("row", np.int32)])
HIGHEST = np.iinfo(np.uint64).max
DRAWN_BY = (schema.UID, schema.OUTCOME, schema.SPLIT, schema.MAY_BE_NEIGHBOR)
"""Of a catalog, to draw a sample: most of a row's 1,560 bytes are two signatures."""
STRETCHED = 2.0
"""Centroids are fitted anew for a generation that has twice or half the members they were fitted for."""


def steps(config: IndexConfig) -> tuple[Step, ...]:
    on_device = numerics.profile(threads=1, libraries=LIBRARIES, device=numerics.device())
    on_cpu = numerics.profile(threads=1, libraries=LIBRARIES)
    return (
        Step(
            name="lists",
            revision=5,
            inputs=("split", "embed"),
            settings=config,
            numerics=on_device,
            tasks=by_generation,
            open=lambda: functools.partial(fit_lists, config=config),
            workers=numerics.workers(cpus=1, gpus=1.0),
            fitted=True,
            stays=still_fits,
        ),
        Step(
            name="codes",
            revision=5,
            inputs=("split", "embed", "lists"),
            settings=Section(),
            numerics=on_cpu,
            tasks=slots_with_members,
            open=lambda: code,
            erase=code_again,
        ),
        Step(
            name="probes",
            inputs=("split", "embed"),
            settings=Section(),
            tasks=by_generation,
            open=lambda: probe,
        ),
        Step(
            name="index",
            revision=6,
            inputs=("codes", "lists", "probes"),
            settings=config,
            numerics=on_cpu,
            tasks=parts_of_segments,
            open=lambda: functools.partial(merge, config=config),
            erase=functools.partial(merge_again, config=config),
            alike=same_probes,
        ),
    )


def register(corpus: Corpus, version: Version) -> Version:
    """Give ids to the kept assets of the split artifact that have none. Only the lease's holder may call
    it.
    """
    shards = corpus.artifact(version, "split").shards
    found = kept_uids(corpus.store, [shard for _, shard in sorted(shards.items())])
    return ids.extend(corpus, version, list(found))


def kept_uids(store: Store, shards: Iterable[Shard]) -> Iterator[str]:
    """Of shards of the split artifact."""
    return chain.from_iterable(kept_of_each(store, shards))


def kept_of_each(store: Store, shards: Iterable[Shard]) -> Iterator[list[str]]:
    for table in tables.read_each(refs.each(store, shards, ROWS), (schema.UID, schema.OUTCOME)):
        yield outcomes.kept(table)[UID].to_pylist()


def by_generation(source: Source) -> Sequence[Task]:
    """One task a generation, if anything of it was kept."""
    split, embedded = source.artifact("split").shards, source.artifact("embed").shards
    return [
        Task(
            slot=name,
            reads={
                "rows": refs.each(source.store, (split[slot] for slot in slots), ROWS),
                "embeddings": refs.each(source.store, (embedded[slot] for slot in slots), EMBEDDINGS),
            },
        )
        for name, slots in generations(split)
        if any(split[slot].counts.get(KEPT) for slot in slots)
    ]


def generations(slots: Iterable[str]) -> list[tuple[str, list[str]]]:
    names = sorted({generation(slot) for slot in slots})
    return [(name, sorted(slot for slot in slots if generation(slot) == name)) for name in names]


def still_fits(source: Source, generation_: str, fitted: Shard) -> bool:
    """Whether a generation has about as many members as its centroids were fitted for."""
    split = source.artifact("split").shards
    members = sum(split[slot].counts.get(KEPT, 0) for slot in split if generation(slot) == generation_)
    kept = fitted.facts["kept"]
    return bool(kept <= STRETCHED * members and members <= STRETCHED * kept)


def fit_lists(task: Task, _report: Report, *, config: IndexConfig) -> Made:
    """The layout that so many members call for, trained on some of them."""
    num = sum(num_members(ref) for ref in task.reads["rows"])
    layout = layouts.chosen(num, width_of(task), config)
    chosen, kept = smallest(task.reads["rows"], max(1, building.points(layout)))
    sample_ND = np.concatenate([align.document_vectors(*sides) for sides in drawn(task, chosen)])
    trained = building.train(sample_ND, config, num=num)
    return Made(files={LISTS: trained}, facts={"members": num, "segments": layout.segments, "kept": kept})


def probe(task: Task, _report: Report) -> Made:
    """Queries by which a generation's segments are measured."""
    chosen, kept = smallest(task.reads["rows"], tuning.QUERIES)
    images_ND, texts_ND = (np.concatenate(side) for side in zip(*drawn(task, chosen), strict=True))
    queries = io.BytesIO()
    np.save(queries, tuning.sampled(images_ND, texts_ND), allow_pickle=False)
    return Made(files={QUERIES: queries.getvalue()}, counts={KEPT: kept})


def num_members(ref: refs.Ref) -> int:
    table = rows.kept(ref, (schema.OUTCOME, schema.MAY_BE_NEIGHBOR))
    return int(pc.sum(table[schema.MAY_BE_NEIGHBOR.name]).as_py() or 0)


def width_of(task: Task) -> int:
    """Of the vectors; a shard of no rows does not know it."""
    images = (sides_of(ref)[0] for ref in task.reads["embeddings"])
    return int(next(images_ND.shape[1] for images_ND in images if len(images_ND)))


def drawn(task: Task, chosen: Sequence[NDArray[np.int32]]) -> Iterator[tuple[Floats, Floats]]:
    """Pictures' and captions' vectors of the rows chosen, shard by shard: one pair at least, of no rows."""
    if not any(map(len, chosen)):
        nothing_ND = np.zeros((0, width_of(task)), np.float32)
        yield nothing_ND, nothing_ND
    for ref, rows_N in zip(task.reads["embeddings"], chosen, strict=True):
        if len(rows_N):
            images_ND, texts_ND = sides_of(ref)
            yield images_ND[rows_N], texts_ND[rows_N]


def sides_of(ref: refs.Ref) -> tuple[Floats, Floats]:
    return embed.vectors(tables.read_ipc(ref))


def smallest(files: Sequence[refs.Ref], wanted: int) -> tuple[list[NDArray[np.int32]], int]:
    """For each file, which of its kept rows are among the ``wanted`` of all whose hashes are smallest; and
    how many rows are kept in all. Only those are chosen that are in the index and in the training split.
    """
    lowest, kept = Lowest(wanted), 0
    for number, ref in enumerate(files):
        table = rows.kept(ref, DRAWN_BY)
        kept += table.num_rows
        eligible = pc.and_(table[schema.MAY_BE_NEIGHBOR.name], pc.equal(table[schema.SPLIT.name], TRAIN))
        hashes = [captions.place("lists", uid) for uid in table.filter(eligible)[UID].to_pylist()]
        seen = np.zeros(len(hashes), SEEN)
        seen["hash"] = hashes
        seen["file"], seen["row"] = number, np.flatnonzero(np.asarray(eligible, np.bool_))
        lowest.add(seen)
    every = lowest.found()
    starts = np.searchsorted(every["file"], np.arange(1, len(files)))
    return np.split(every["row"], starts), kept


@dataclass(slots=True)
class Lowest:
    """Of all that is added the ``wanted`` whose hashes are smallest, and who ties with the last of them, in
    the order in which they came. Twice as many are held.
    """

    wanted: int
    held: list[NDArray[np.void]] = field(default_factory=lambda: [np.zeros(0, SEEN)])
    _num: int = 0
    _most: int = HIGHEST

    def add(self, seen: NDArray[np.void]) -> None:
        self.held.append(seen[seen["hash"] <= self._most])
        self._num += len(self.held[-1])
        if self._num > 2 * self.wanted:
            self.held = [self.found()]
            self._num = len(self.held[0])

    def found(self) -> NDArray[np.void]:
        every = np.concatenate(self.held)
        if self.wanted < len(every):
            self._most = np.partition(every["hash"], self.wanted - 1)[self.wanted - 1]
        return every[every["hash"] <= self._most]


def slots_with_members(source: Source) -> Sequence[Task]:
    """One task a slot of which anything was kept."""
    split, embedded, lists = (source.artifact(name).shards for name in ("split", "embed", "lists"))
    known = ids.table(source.store, source.version)
    gone = withdrawn.uids(source.store, source.version)
    tasks = []
    for (slot, shard), uids in zip(split.items(), kept_of_each(source.store, split.values()), strict=True):
        if uids:
            reads = {
                "rows": (refs.of(source.store, shard, ROWS),),
                "embeddings": (refs.of(source.store, embedded[slot], EMBEDDINGS),),
                "lists": (refs.of(source.store, lists[generation(slot)], LISTS),),
            }
            # Of the id table its members' rows alone: what is given or erased elsewhere moves no key.
            numbers = [known[uid] for uid in uids]
            out = sorted(gone.intersection(uids))
            facts = {"ids": fingerprint(numbers), **({"withdrawn": out} if out else {})}
            tasks.append(Task(slot=slot, reads=reads, facts=facts, hints={"ids": numbers}))
    return tasks


def code(task: Task, _report: Report) -> Made:
    table = rows.kept(task.only("rows"))
    table = table.add_column(0, schema.ID, pa.array(task.hints["ids"], schema.ID.type))
    for number, name in NUMBERED:
        table = table.append_column(number, numbered(table[name.name]))
    members = tables.with_slot(table, task.slot).select(schema.MEMBERS.names)
    gone = set(task.facts.get("withdrawn", ()))
    stays_N = np.array([uid not in gone for uid in members[UID].to_pylist()], np.bool_)
    granted = np.asarray(members[schema.MAY_BE_NEIGHBOR.name]) & stays_N
    at = members.schema.get_field_index(schema.MAY_BE_NEIGHBOR.name)
    members = members.set_column(at, schema.MAY_BE_NEIGHBOR, pa.array(granted))
    vectors_ND = align.document_vectors(*sides_of(task.only("embeddings")))
    numbers_N = np.asarray(members[schema.ID.name])[granted]
    part = building.part(numbers_N, vectors_ND[granted], task.only("lists").read())
    return Made(
        files={PART: part, MEMBERS: tables.to_ipc(members)},
        counts={KEPT: members.num_rows},
        facts={"vectors": len(numbers_N)},
    )


def numbered(names: pa.ChunkedArray) -> pa.Array:
    """Equal for equal names. That any two of 340 million others are equal has a chance of 0.3 %, and would
    keep one candidate from one target.
    """
    hashes = [captions.place("number", name) for name in names.to_pylist()]
    return pa.array(np.array(hashes, np.uint64).view(np.int64))


def code_again(task: Task, _before: Before) -> Made:
    """A slot is coded in a second: by the same centroids, what is left has the codes that it had."""
    return code(task, nothing_told)


def merge_again(task: Task, _before: Before, *, config: IndexConfig) -> Made:
    """Of the same parts, less some vectors."""
    return merge(task, nothing_told, config=config)


def same_probes(before: Shard, after: Shard) -> bool:
    """Whether a query visits as many lists as it did: how many reach the recall is measured anew."""
    return all(before.facts[name] == after.facts[name] for name in ("kind", "probes"))


def parts_of_segments(source: Source) -> Sequence[Task]:
    """One task a segment, of slots that follow each other."""
    codes, lists, probes = (source.artifact(name).shards for name in ("codes", "lists", "probes"))
    tasks = []
    for name, slots in generations(codes):
        sizes = [codes[slot].facts["vectors"] for slot in slots]
        pieces = in_pieces(sizes, lists[name].facts["segments"])
        for number, (start, stop) in enumerate(pieces):
            mine = slots[start:stop]
            reads = {
                "parts": refs.each(source.store, (codes[slot] for slot in mine), PART),
                "members": refs.each(source.store, (codes[slot] for slot in mine), MEMBERS),
                "lists": (refs.of(source.store, lists[name], LISTS),),
                "queries": (refs.of(source.store, probes[name], QUERIES),),
            }
            several = len(pieces) > 1  # who is one alone keeps its key
            slot = f"{name}-{number:04}" if several else name
            tasks.append(Task(slot=slot, reads=reads, facts={"pieces": len(pieces)} if several else {}))
    return tasks


def in_pieces(sizes: Sequence[int], pieces: int) -> list[tuple[int, int]]:
    """Where each of at most so many pieces starts and stops, about equal by the sum of sizes; none is empty.

    >>> in_pieces([5, 5, 5, 5], 2), in_pieces([9, 1, 1, 1], 3)
    ([(0, 2), (2, 4)], [(0, 1), (1, 4)])
    """
    ends = np.cumsum(sizes)
    # A slot belongs to the piece in which its middle lies; one without vectors may lie on the last edge.
    middles = ends - np.asarray(sizes) / 2
    of_slot = np.minimum(middles * pieces / max(1, ends[-1]), pieces - 1).astype(np.int64)
    starts = np.flatnonzero(np.diff(of_slot, prepend=-1)).tolist()
    return list(zip(starts, [*starts[1:], len(sizes)], strict=True))


def merge(task: Task, _report: Report, *, config: IndexConfig) -> Made:
    merged = building.merge([ref.read() for ref in task.reads["parts"]], task.only("lists").read())
    queries_BD = np.load(io.BytesIO(task.only("queries").read()), allow_pickle=False)
    built = tuning.tuned(merged, queries_BD, config, pieces=task.facts.get("pieces", 1))
    members = pa.concat_tables([tables.read_ipc(ref) for ref in task.reads["members"]])
    files = {SEGMENT: built.segment, MEMBERS: tables.to_ipc(members)}
    return Made(files=files, counts={KEPT: members.num_rows}, facts=built.facts)
