"""What is held once tells what everything at hand would, byte for byte."""

from __future__ import annotations

import tracemalloc
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import accumulate, chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipeline import dedup, outcomes, schema, tables
from pipeline.duplicates import DuplicateConfig, alike
from pipeline.likeness import candidates, grouping, linking, lookalikes, semantic
from pipeline.likeness.gathering import READS, gathered
from pipeline.likeness.keepers import ranks
from pipeline.likeness.linking import JUDGED, PASSES, Seen, verdict
from pipeline.likeness.lookalikes import Looks
from pipeline.likeness.signatures import Rows, from_columns
from pipeline.step import slot_name
from retrieval.encoders import normalised

from .test_dedup import CHANGES, FEATURES_OF, Row, photo, row, shelved
from .test_duplicates import looks

KINDS = pa.schema([*READS])
BY_PIXELS = DuplicateConfig(mirrored=True)
CONFIGS = {
    "as it is": DuplicateConfig(),
    "mirrored": BY_PIXELS,
    "by hash alone": DuplicateConfig(variants=False, mirrored=True, keeper=("resolution",)),
    "by features": DuplicateConfig(semantic_threshold=0.95),
}
NOTHING = np.zeros((0, 2), np.int64)


def flipped(picture: int) -> Row:
    found = looks([np.ascontiguousarray(np.asarray(photo(picture))[:, ::-1])])
    return {
        "phash": int(found.hashes_N[0]),
        "phash_mirrored": int(found.mirrored_N[0]),
        "structure": found.signatures.structure_NGGF.tobytes(),
        "tint": found.signatures.tint_NGGC.tobytes(),
    }


def world(seed: int) -> list[list[list[Row]]]:
    """Three deliveries of three shards, one of them empty: copies of four pictures as they are, altered,
    mirrored, and the same to look at in other bytes; some rows were out before.
    """
    rng = np.random.default_rng(seed)
    found: list[list[list[Row]]] = [[[] for _ in range(3)] for _ in range(3)]
    for number in rng.permutation(40).tolist():
        picture = int(rng.integers(4))
        one = row(number, picture, str(rng.choice(CHANGES)), width=int(rng.integers(100, 104)))
        kind = rng.integers(5)
        if kind == 0:
            one |= {"sha256": f"{number:064x}", **flipped(picture)}
        elif kind == 1:
            one |= {"sha256": f"{number:064x}"}
        elif kind == 2:
            one |= {"outcome": str(rng.choice(["rejected", "kept"]))}
        found[int(rng.integers(3))][int(rng.integers(2))].append(one)
    return found


def first_equal(values: Sequence[object]) -> Rows:
    return np.array([values.index(value) for value in values], np.int64)


def in_order(pairs_P2: Rows) -> Rows:
    return np.unique(np.concatenate([NOTHING, pairs_P2]), axis=0)


def near(table: pa.Table, config: DuplicateConfig) -> Rows:
    """Each row with each before it; what repeats another's looks only with the first of them."""
    hashes_N, turned_N = (np.asarray(table[name]) for name in ("phash", "phash_mirrored"))
    found, num = from_columns(table), len(table)
    both = lookalikes.beside(found, lookalikes.mirror_images(found))
    pairs_P2 = np.stack(np.tril_indices(num, -1), 1)
    late_P, early_P = pairs_P2.T
    worth_P = np.bitwise_count(hashes_N[late_P] ^ hashes_N[early_P]) <= config.max_hamming
    if config.variants:
        met = {tuple(pair) for some in candidates.pairs(found.structure_NGGF) for pair in some.tolist()}
        worth_P |= np.array([tuple(pair) in met for pair in pairs_P2.tolist()], np.bool_)
    is_one_P = worth_P & alike(found, pairs_P2, config)
    if config.mirrored:
        worth_P = np.bitwise_count(hashes_N[late_P] ^ turned_N[early_P]) <= config.max_hamming
        is_one_P |= worth_P & alike(both, pairs_P2 + np.array([0, num]), config)
    columns = ("phash", "phash_mirrored", "structure", "tint")
    first_N = first_equal(list(zip(*(table[name].to_pylist() for name in columns), strict=True)))
    repeats_P = first_N[late_P] != late_P
    told_P = np.where(repeats_P, first_N[late_P] == early_P, is_one_P & (first_N[early_P] == early_P))
    return pairs_P2[told_P]


def plainly(deliveries: list[list[list[Row]]], config: DuplicateConfig) -> dict[str, bytes]:
    """The files of the last delivery, of which everything is at hand and compared with everything."""
    kept = [[[one for one in shard if one["outcome"] == "kept"] for shard in part] for part in deliveries]
    by_uid = [sorted((one for shard in part for one in shard), key=lambda one: one["uid"]) for part in kept]
    rows = [one for part in by_uid for one in part]
    starts = [0, *accumulate(map(len, by_uid))]
    table, uids = tables.of_rows(rows, KINDS), [one["uid"] for one in rows]
    vectors_ND = normalised(np.array([FEATURES_OF[int(uid[-1]) % 4] for uid in uids]).astype(np.float32))
    first_N = first_equal([one["sha256"] for one in rows])
    distinct = np.flatnonzero(first_N == np.arange(len(rows)))
    again = np.flatnonzero(first_N != np.arange(len(rows)))
    passes = [np.stack([again, first_N[again]], 1), distinct[near(table.take(distinct), config)]]
    if config.semantic_threshold is not None:
        pairs_P2 = np.stack(np.tril_indices(len(distinct), -1), 1)
        cosines_P = semantic.cosines(vectors_ND[distinct], pairs_P2)
        passes.append(distinct[pairs_P2[cosines_P >= config.semantic_threshold]])
    passes = [in_order(pairs_P2) for pairs_P2 in passes]
    groups = grouping.grouped(starts, passes, ranks(table, config.keeper))
    elsewhere = grouping.linked_elsewhere(groups, passes).tolist()

    def link(number: int) -> dict[str, Any]:
        keeper = int(groups.keeper_N[number])
        ways = ("phash", "phash_mirrored") if config.mirrored else ("phash",)
        pair = np.array([[number, keeper]])
        by_features = config.semantic_threshold is not None
        return {
            "uid": uids[number],
            "revision": rows[number]["revision"],
            "group": uids[groups.first_N[number]],
            "keeper": uids[keeper],
            "found_by": PASSES[groups.pass_N[number]],
            "hamming": min((rows[number][way] ^ rows[keeper]["phash"]).bit_count() for way in ways),
            "cosine": float(semantic.cosines(vectors_ND, pair)[0]) if by_features else None,
            "also_like": [uids[other] for late, other in elsewhere if late == number],
        }

    own = range(*starts[-2:])
    links = tables.of_rows((link(n) for n in own if groups.pass_N[n] != grouping.KEEPER), schema.LINKS)
    told = {one["uid"]: verdict(one) for one in links.to_pylist()}
    judged = {
        uids[n]: {"uid": uids[n], "group": uids[groups.first_N[n]], "verdict": told.get(uids[n])} for n in own
    }
    return {dedup.LINKS: tables.to_parquet(links)} | {
        f"{slot_name(len(kept) - 1, place)}.parquet": tables.to_parquet(
            tables.of_rows((judged[one["uid"]] for one in shard), JUDGED)
        )
        for place, shard in enumerate(kept[-1])
    }


@pytest.mark.long
@pytest.mark.parametrize("name", CONFIGS)
def test_every_byte_is_what_comparing_everything_at_hand_gives(tmp_path: Path, name: str) -> None:
    config, found_by = CONFIGS[name], set()
    step = dedup.step(config)
    for seed in range(4):
        deliveries = world(seed)
        for number, task in enumerate(step.tasks(shelved(tmp_path / str(seed), deliveries))):
            made = step.open()(task, lambda *_: None)
            assert dict(made.files) == plainly(deliveries[: number + 1], config)
            found_by |= set(made.counts)
    wanted = {"kept", "rejected:exact_duplicate", "rejected:near_duplicate"}
    assert found_by == wanted | ({"rejected:semantic_duplicate"} if name == "by features" else set())


@pytest.mark.parametrize("seed", range(2))
def test_as_many_pairs_are_judged_as_of_looks_that_stand_in_order(tmp_path: Path, seed: int) -> None:
    deliveries = world(seed)
    parts = [outcomes.kept(tables.of_rows(chain(*one), KINDS)).sort_by("uid") for one in deliveries]
    table, starts = pa.concat_tables(parts), [0, *accumulate(map(len, parts))]
    first_N = first_equal(table["sha256"].to_pylist())
    distinct = np.flatnonzero(first_N == np.arange(len(table)))
    counts: Counter[str] = Counter()
    found = Looks.from_columns(table.take(distinct))
    assert found.at_N is None
    lookalikes.pairs(found, BY_PIXELS, np.searchsorted(distinct, starts).tolist(), counts)
    step = dedup.step(BY_PIXELS)
    task = step.tasks(shelved(tmp_path, deliveries))[-1]
    assert step.open()(task, lambda *_: None).facts == {"comparisons": dict(sorted(counts.items()))}


def shard(number: int, num: int) -> pa.Table:
    """Random rows; their uids do not come in order."""
    rng = np.random.default_rng(number)
    ids = rng.permutation(num) + number * num
    columns = {
        "uid": [f"acme:{-one & 0xFFFFFF:08d}" for one in ids.tolist()],
        "sha256": [rng.bytes(32).hex() for _ in range(num)],
        "phash": rng.integers(0, 2**64, num, np.uint64),
        "phash_mirrored": rng.integers(0, 2**64, num, np.uint64),
        "structure": [rng.bytes(768) for _ in range(num)],
        "tint": [rng.bytes(768) for _ in range(num)],
    }
    constant = {key: [value] * num for key, value in row(0, 0, CHANGES[0]).items()}
    return tables.typed(constant | columns, KINDS)


def peak(num_shards: int) -> int:
    """Bytes of Python and numpy, and of Arrow, as so many shards are gathered and judged."""
    pool, most = pa.default_memory_pool(), 0

    def shards() -> Iterator[pa.Table]:
        nonlocal most
        for number in range(num_shards):
            yield shard(number, 2000)
            most = max(most, pool.bytes_allocated())

    tracemalloc.start()
    rows = gathered([shards()], ("first_seen",))
    linking.judged(Seen(rows=rows, vectors_ND=None), DuplicateConfig(mirrored=True))
    most += tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return most


@pytest.mark.long
@pytest.mark.timeout(120)
def test_looks_are_in_memory_once() -> None:
    """1,552 bytes a row, and as much again would be a copy of them."""
    few, many = 5, 12
    assert peak(many) - peak(few) < 2 * 1552 * 2000 * (many - few)
