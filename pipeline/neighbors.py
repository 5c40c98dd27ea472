"""For every asset, the ordered candidates it may see as context: the reference form of augmented examples.

The memory is the training split, for training and for validation targets alike, as at inference: nothing
held out is ever shown to a model that trains. Candidates belong to the generation of their target and look
back only, so a later delivery leaves them as they are.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from infra.artifact import Made
from pipeline import embed, erasing, numerics, refs, rows, schema, tables
from pipeline.embed import EMBEDDINGS
from pipeline.indexing import MEMBERS, SEGMENT
from pipeline.outcomes import KEPT
from pipeline.split import TRAIN
from pipeline.step import ROWS, Before, Report, Source, Step, Task, generation
from retrieval import align, exclude
from retrieval.exclude import NeighborConfig
from retrieval.index import Index
from retrieval.segments import Floats, Ids

NEIGHBORS = "neighbors.parquet"
REACH = "reach.arrow"
OF_MEMBERS = pa.schema([schema.UID, schema.ID, schema.REVISION, schema.SLOT])
NEARLY = 1e-4
"""Of cosines: sums of 512 products in another order differ by 1e-6."""


def step(config: NeighborConfig) -> Step:
    device = numerics.device()
    return Step(
        name="neighbors",
        revision=6,
        inputs=("split", "embed", "queries", "index"),
        settings=config,
        numerics=numerics.profile(threads=1, libraries=("faiss-gpu", "numpy"), device=device),
        tasks=list_tasks,
        open=lambda: functools.partial(choose, config=config, gpus=device == "cuda"),
        workers=numerics.workers(cpus=1, gpus=1.0),
        erase=functools.partial(chosen_again, config=config, gpus=device == "cuda"),
        erasable=lambda _: config.max_citations is None and config.max_contributor_share is None,
    )


def list_tasks(source: Source) -> Sequence[Task]:
    """One task a slot; it reads the index as it was when the slot's delivery came."""
    split, embed, queries = (source.artifact(name).shards for name in ("split", "embed", "queries"))
    segments = sorted(source.artifact("index").shards.items())
    return [
        Task(
            slot=slot,
            reads={
                "rows": (refs.of(source.store, shard, ROWS),),
                "embeddings": (refs.of(source.store, embed[slot], EMBEDDINGS),),
                "queries": (refs.of(source.store, queries[slot], EMBEDDINGS),),
                **{
                    role: refs.each(
                        source.store,
                        (part for name, part in segments if generation(name) <= generation(slot)),
                        file,
                    )
                    for role, file in (("segments", SEGMENT), ("members", MEMBERS))
                },
            },
        )
        for slot, shard in split.items()
    ]


def choose(task: Task, _report: Report, *, config: NeighborConfig, gpus: bool = False) -> Made:
    table = rows.kept(task.only("rows"))
    if table.num_rows == 0:  # duplicates alone: their vectors have no width
        return written(schema.NEIGHBORS.empty_table(), np.zeros((0, 2), np.float32))
    whole, dropped = (
        exclude.Sides(*embed.vectors(tables.read_ipc(task.only(role)))) for role in ("embeddings", "queries")
    )
    memory = open_memory(task.reads["segments"], task.reads["members"], gpus=gpus)
    targets = table.select([schema.UID.name, schema.REVISION.name, schema.SPLIT.name])
    ids = memory.ids_of(task.slot, table[schema.UID.name])
    chosen, reach = candidates(ids, whole, dropped, memory, config)
    return written(targets.append_column(schema.CANDIDATES, chosen).cast(schema.NEIGHBORS), reach)


def candidates(
    ids: Ids, whole: exclude.Sides, dropped: exclude.Sides, memory: Memory, config: NeighborConfig
) -> tuple[pa.ListArray, Floats]:
    """Of each target, as the column has them; and how far its searches reached [B, 2]."""
    targets = exclude.Targets(ids=ids, whole=whole, queries=dropped)
    found = exclude.choose(targets, memory.index, memory.members, config)
    return listed(found, memory), found.reach_B2


def written(neighbors: pa.Table, reach_B2: Floats) -> Made:
    reach = {name: pa.array(reach_B2[:, side]) for side, name in enumerate(exclude.VIA)}
    files = {
        NEIGHBORS: tables.to_parquet(neighbors),
        REACH: tables.to_ipc(pa.table({schema.UID.name: neighbors[schema.UID.name], **reach})),
    }
    return Made(files=files, counts={KEPT: neighbors.num_rows})


def chosen_again(task: Task, before: Before, *, config: NeighborConfig, gpus: bool) -> Made:
    """Without what is gone; lists that its going may move are chosen anew.

    Only what a search fetched can have moved a list, though it stands in none: it may have been refused, and
    others taken its place in turn. The rest stay as they are, unread.
    """
    table, reach = (erasing.table_of(name, before.read(name)) for name in (NEIGHBORS, REACH))
    left, reach = (erasing.dropped(one, before.gone) for one in (table, reach))
    if not left.num_rows:  # the index may be empty too
        return written(left, np.zeros((0, len(exclude.VIA)), np.float32))
    wanted = left[schema.UID.name]
    whole, dropped = (
        exclude.Sides(*embed.vectors(found.take(pc.index_in(wanted, found[schema.UID.name]))))
        for found in (tables.read_ipc(task.only(role)) for role in ("embeddings", "queries"))
    )
    reach_B2 = np.stack([np.asarray(reach[name]) for name in exclude.VIA], axis=1)
    memory = open_memory(task.reads["segments"], task.reads["members"], gpus=gpus)
    moved_B = reached(dropped, reach_B2, gone_vectors(before.embedded, before.gone))
    # Product codes are ranked before they are judged: what ranked well may have kept others out.
    moved_B |= any(segment.kind == "ivf_pq" for segment in memory.index.segments)
    (asked,) = np.nonzero(moved_B)
    if not len(asked):
        if left.num_rows == table.num_rows:
            return Made(files={}, kept=before.shard.lent(NEIGHBORS, REACH), counts=before.shard.counts)
        return written(left, reach_B2)
    ids = memory.ids_of(task.slot, wanted.take(pa.array(asked)))
    found, reach_B2[asked] = candidates(ids, whole[asked], dropped[asked], memory, config)
    at = left.schema.get_field_index(schema.CANDIDATES.name)
    places = np.arange(left.num_rows)
    places[asked] = left.num_rows + np.arange(len(asked))
    both = pa.chunked_array([*left.column(at).chunks, found])
    return written(left.set_column(at, schema.CANDIDATES, both.take(pa.array(places))), reach_B2)


def reached(queries: exclude.Sides, reach_B2: Floats, vectors_GD: Floats) -> NDArray[np.bool_]:
    """[B]: whether a search of the target fetched one of these vectors, or may have: sums differ in their
    last bits.
    """
    if not len(vectors_GD):
        return np.zeros(len(reach_B2), np.bool_)
    best_B2 = np.stack([(side_BD @ vectors_GD.T).max(axis=1) for side_BD in queries.both], axis=1)
    return np.asarray((best_B2 >= reach_B2 - NEARLY).any(axis=1))


@functools.lru_cache(maxsize=1)
def gone_vectors(embedded: tuple[refs.Ref, ...], gone: frozenset[str]) -> Floats:
    """[G, D] of the documents of what is gone, as the index had them."""
    held = []
    for ref in embedded:
        table = tables.read_ipc(ref)
        named = pc.is_in(table[schema.UID.name], value_set=pa.array(sorted(gone), pa.string()))
        if (mine := table.filter(named)).num_rows:
            held.append(align.document_vectors(*embed.vectors(mine)))
    return np.concatenate(held) if held else np.zeros((0, 0), np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """The index with what the choice asks of its members: 33 bytes of each; their names are mapped."""

    index: Index
    members: exclude.Members
    tables: tuple[pa.Table, ...]
    """Of each segment: the members of a slot one after the other."""
    starts: NDArray[np.int64]
    """The first row of each table among those of all."""
    rows: NDArray[np.int64]
    """Of all tables, by :attr:`exclude.Members.ids`."""
    slots: Mapping[str, tuple[int, slice]]
    """Table, and rows of it."""

    def ids_of(self, slot: str, uids: pa.ChunkedArray) -> Ids:
        """Of assets that lie in a slot."""
        place, rows_ = self.slots.get(slot, (0, slice(0)))
        mine = self.tables[place][rows_]
        places = pc.index_in(uids, value_set=mine[schema.UID.name])
        if places.null_count:
            unknown = uids.filter(pc.is_null(places))[0]
            raise ValueError(f"{unknown} of slot {slot} is no member of the index; build the index again")
        return np.asarray(mine[schema.ID.name].take(places))

    def named(self, ids: Ids) -> pa.Table:
        """OF_MEMBERS of these, in their order."""
        rows_ = self.rows[self.members.rows(ids)]
        of_table = np.searchsorted(self.starts, rows_, side="right") - 1
        places = np.empty(len(ids), np.int64)
        places[np.argsort(of_table, kind="stable")] = np.arange(len(ids))
        found = [
            self.tables[place].select(OF_MEMBERS.names).take(rows_[of_table == place] - self.starts[place])
            for place in np.unique(of_table).tolist()
        ]
        return pa.concat_tables([OF_MEMBERS.empty_table(), *found]).combine_chunks().take(places)


@functools.lru_cache(maxsize=1)
def open_memory(segments: tuple[refs.Ref, ...], members: tuple[refs.Ref, ...], *, gpus: bool) -> Memory:
    mapped = tuple(tables.map_ipc(path) for path in refs.Ref.each_mapped(members))
    ids = numbers(mapped, schema.ID)
    rows_ = np.argsort(ids)
    slots: dict[str, tuple[int, slice]] = {}
    for place, table in enumerate(mapped):
        of_table = slots_of(table[schema.SLOT.name])
        if twice := slots.keys() & of_table:
            raise ValueError(f"the members of slot {min(twice)} lie in two segments; build the index again")
        slots |= {name: (place, of_slot) for name, of_slot in of_table.items()}
    return Memory(
        index=Index.open(refs.Ref.each_mapped(segments), gpus=gpus),
        members=exclude.Members(
            ids=ids[rows_],
            groups=numbers(mapped, schema.GROUP_NUMBER)[rows_],
            contributors=numbers(mapped, schema.CONTRIBUTOR_NUMBER)[rows_],
            admissible=np.concatenate([admissible(table) for table in mapped])[rows_],
        ),
        tables=mapped,
        starts=np.cumsum([0, *(table.num_rows for table in mapped[:-1])]),
        rows=rows_,
        slots=slots,
    )


def numbers(mapped: Sequence[pa.Table], column: pa.Field) -> NDArray[np.int64]:
    return np.concatenate([np.asarray(table[column.name]) for table in mapped])


def admissible(table: pa.Table) -> NDArray[np.bool_]:
    trains = pc.equal(table[schema.SPLIT.name], TRAIN)
    return np.asarray(pc.and_(table[schema.MAY_BE_NEIGHBOR.name], trains))


def slots_of(column: pa.ChunkedArray) -> dict[str, slice]:
    encoded = column.combine_chunks().dictionary_encode()
    return runs(np.asarray(encoded.indices), encoded.dictionary.to_pylist())


def runs(codes: NDArray[np.int64], names: Sequence[str]) -> dict[str, slice]:
    """Where each slot begins and ends. ValueError for one that lies in two places.

    >>> runs(np.array([0, 0, 1]), ["00000-000000", "00000-000001"])["00000-000001"]
    slice(2, 3, None)
    """
    starts = np.flatnonzero(np.diff(codes, prepend=-1))
    stops = [*starts[1:].tolist(), len(codes)]
    if len(starts) > len(names):
        raise ValueError(
            f"the members of {len(names)} slots lie in {len(starts)} runs; build the index again"
        )
    return {
        names[codes[start]]: slice(start, stop) for start, stop in zip(starts.tolist(), stops, strict=True)
    }


def listed(found: exclude.Candidates, memory: Memory) -> pa.ListArray:
    """The candidates of each target as the column has them."""
    members = memory.named(found.ids)
    columns = {
        **{field.name: members[field.name].combine_chunks() for field in OF_MEMBERS},
        "score": pa.array(found.scores, pa.float32()),
        "via": pa.array(exclude.VIA).take(pa.array(found.via)),
    }
    fields = list(schema.CANDIDATE)
    structs = pa.StructArray.from_arrays([columns[field.name] for field in fields], fields=fields)
    return pa.ListArray.from_arrays(pa.array(found.starts, pa.int32()), structs, schema.CANDIDATES.type)
