"""Laws of the stream: each sequence once an epoch, equal steps for any ranks, resume as if never stopped."""

from __future__ import annotations

from collections import Counter
from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from pipeline import shards
from pipeline.pack import Document, PackConfig, Pair, lay_out
from pipeline.packed import Row, Via
from tokenizer_service import vocabulary
from trainer import stream
from trainer.cm3 import Batch
from trainer.order import EpochOrder, Part, StreamSection, Walk, state_at
from trainer.spans import MaskingSection
from trainer.stream import PackedStream, Shard

NUM_ROWS = 61
MASKING = MaskingSection(max_spans=2)
CAUSAL = MaskingSection(max_spans=0)


def row(number: int) -> Row:
    """One document, whose first image token is its number."""
    pair = Pair(
        uid=f"a:{number}",
        revision=0,
        text_ids=np.arange(4, dtype=np.uint16),
        code_ids=np.array([number, *range(100, 107)], np.uint16),
        via=Via.NOTHING,
    )
    return (lay_out(Document(example_id=f"e{number}", pairs=(pair,))),)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> list[Shard]:
    """61 rows in blocks of 4, the last of each shard shorter."""
    folder = tmp_path_factory.mktemp("packs")
    config = PackConfig(context=23, max_spans=2, block_rows=4, shard_bytes=5000)
    found = []
    rows = [row(number) for number in range(NUM_ROWS)]
    parts = (rows[:22], rows[22:39], rows[39:])
    written = [one for part in parts for one in shards.write(part, config, fingerprint="f")]
    for number, (data, info) in enumerate(written):
        path = folder / f"{number}.arrow"
        path.write_bytes(data)
        found.append(Shard(path=path, info=info))
    assert len(found) > 3
    return found


ORDER = st.builds(
    StreamSection,
    seed=st.integers(0, 2**32),
    rows_per_step=st.just(12),
    lanes=st.integers(1, 10),
    window_blocks=st.integers(1, 4),
)
PARTS = st.tuples(st.sampled_from([1, 2, 3, 4, 6, 12]), st.integers(1, 3))
"""Ranks and workers."""
BLOCK_ROWS = np.array([4, 4, 1, 4, 2, 4, 4, 3])
EPOCH = 26


def walks(order: StreamSection, shape: tuple[int, int]) -> list[list[Walk]]:
    """By rank, then by worker."""
    ranks, workers = shape
    return [
        [
            Walk(BLOCK_ROWS, order, Part(rank=r, ranks=ranks, worker=w, workers=workers))
            for w in range(workers)
        ]
        for r in range(ranks)
    ]


def steps(of: list[list[Walk]], num_steps: int) -> list[list[tuple[int, int]]]:
    """(epoch, sequence) of the rows of each global step, workers taking turns; sorted."""
    taken = [[next(of_rank[step % len(of_rank)]) for of_rank in of] for step in range(num_steps)]
    return [
        sorted(
            (int(e), int(s)) for epoch_B, sequence_B in step for e, s in zip(epoch_B, sequence_B, strict=True)
        )
        for step in taken
    ]


@pytest.mark.long
@settings(max_examples=25)
@given(ORDER, PARTS)
def test_every_sequence_comes_once_an_epoch(order: StreamSection, shape: tuple[int, int]) -> None:
    """13 steps of 12 rows are 6 epochs of 26 rows."""
    seen = Counter(row for step in steps(walks(order, shape), 13) for row in step)
    assert seen == {(epoch, sequence): 1 for epoch in range(6) for sequence in range(EPOCH)}


@given(ORDER, st.integers(0, 5), st.lists(st.integers(0, EPOCH - 1), max_size=40))
def test_a_position_holds_the_same_sequence_however_it_is_asked_for(
    order: StreamSection, epoch: int, asked: list[int]
) -> None:
    together = EpochOrder(BLOCK_ROWS, order, epoch).sequences(np.arange(EPOCH))
    found = EpochOrder(BLOCK_ROWS, order, epoch).sequences(np.array(asked, np.int64))
    assert found.tolist() == together[asked].tolist()


@pytest.mark.long
@settings(max_examples=25)
@given(ORDER, PARTS)
def test_a_step_holds_the_same_sequences_for_any_ranks_and_workers(
    order: StreamSection, shape: tuple[int, int]
) -> None:
    assert steps(walks(order, shape), 9) == steps(walks(order, (1, 1)), 9)


@pytest.mark.long
@settings(max_examples=25)
@given(ORDER, PARTS, PARTS, st.integers(0, 14))
def test_a_run_stopped_anywhere_goes_on_elsewhere_with_the_same_steps(
    order: StreamSection, before: tuple[int, int], after: tuple[int, int], stop: int
) -> None:
    first = steps(walks(order, before), stop)
    resumed = walks(order, after)
    for walk in (walk for of_rank in resumed for walk in of_rank):
        walk.seek(state_at(12 * stop, EPOCH, order))
    assert first + steps(resumed, 5) == steps(walks(order, (1, 1)), stop + 5)


@given(ORDER)
def test_the_first_turn_of_the_lanes_touches_as_many_blocks(order: StreamSection) -> None:
    num_lanes = min(order.lanes, len(BLOCK_ROWS))
    first = EpochOrder(BLOCK_ROWS, order, 0).sequences(np.arange(num_lanes))
    block_of = np.repeat(np.arange(len(BLOCK_ROWS)), BLOCK_ROWS)
    assert len(set(block_of[first].tolist())) == num_lanes


@given(st.integers(0, 2**32), st.integers(1, 4))
def test_one_lane_finishes_a_window_before_it_begins_the_next(seed: int, window_blocks: int) -> None:
    order = StreamSection(seed=seed, lanes=1, window_blocks=window_blocks)
    found = EpochOrder(np.full(6, 5), order, 0).sequences(np.arange(30))
    windows = np.split(found // 5, range(5 * window_blocks, 30, 5 * window_blocks))
    assert all(len(set(blocks.tolist())) * 5 == len(blocks) for blocks in windows)


def numbers(batch: Batch) -> list[int]:
    """Which rows a batch holds, by the token that numbers them: the smallest of the image."""
    images = [ids[vocabulary.is_image(ids)] - vocabulary.IMAGE_START for ids in batch.ids_BT]
    return [int(codes.min()) for codes in images]


@pytest.mark.long
@settings(max_examples=20)
@given(order=ORDER, rank=st.integers(0, 2))
def test_a_batch_holds_the_rows_that_the_order_names(
    corpus: list[Shard], order: StreamSection, rank: int
) -> None:
    batches = iter(PackedStream(corpus, stream=order, masking=MASKING, rank=rank, ranks=3))
    block_rows = np.array([block["rows"] for shard in corpus for block in shard.info["blocks"]])
    walk = Walk(block_rows, order, Part(rank=rank, ranks=3))
    for batch, (_, sequence_B) in islice(zip(batches, walk, strict=True), 8):
        assert numbers(batch) == sequence_B.tolist()


def same(one: Batch, other: Batch) -> bool:
    names = ("ids_BT", "documents_BT", "positions_BT")
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in names)


@pytest.mark.long
@settings(max_examples=20)
@given(order=ORDER, stop=st.integers(0, 14))
def test_a_resumed_stream_is_bit_identical_masks_included(
    corpus: list[Shard], order: StreamSection, stop: int
) -> None:
    whole = iter(PackedStream(corpus, stream=order, masking=MASKING))
    stopped = PackedStream(corpus, stream=order, masking=MASKING)
    for batch, expected in zip(islice(iter(stopped), stop), islice(whole, stop), strict=True):
        assert same(batch, expected)
    resumed = PackedStream(corpus, stream=order, masking=MASKING)
    resumed.load_state_dict(stopped.state_dict())
    for batch, expected in zip(islice(iter(resumed), 6), islice(whole, 6), strict=True):
        assert same(batch, expected)


def test_masks_change_from_epoch_to_epoch_and_with_the_seed(corpus: list[Shard]) -> None:
    """Each epoch of 61 rows is one step, put into one order."""

    def epoch(seed: int, number: int) -> list[list[int]]:
        order = StreamSection(seed=seed, rows_per_step=NUM_ROWS)
        batches = islice(iter(PackedStream(corpus, stream=order, masking=MASKING)), number + 1)
        return sorted(list(batches)[number].ids_BT.tolist())

    assert epoch(0, 0) == epoch(0, 0)
    assert epoch(0, 0) != epoch(0, 1)
    assert epoch(0, 0) != epoch(1, 0)


def test_an_epoch_is_shuffled_and_another_epoch_otherwise() -> None:
    """2,016 rows in blocks of 32: neighbours in the file share a batch of 16 no more often than by chance."""
    block_rows = np.full(63, 32)
    first = EpochOrder(block_rows, StreamSection(), 0).sequences(np.arange(2016))
    second = EpochOrder(block_rows, StreamSection(), 1).sequences(np.arange(2016))
    assert (first == second).mean() < 0.01
    batches = np.sort(first.reshape(-1, 16), axis=1)
    assert (np.diff(batches, axis=1) == 1).mean() < 0.02
    place = np.argsort(first)
    assert abs(np.corrcoef(place, np.arange(2016))[0, 1]) < 0.2


def test_lanes_and_windows_are_shuffled_each_in_its_own_way() -> None:
    """Four lanes of two blocks of 8, a window a block: eight windows, hardly two of them in one order."""
    order = StreamSection(lanes=4, window_blocks=1)
    turns = EpochOrder(np.full(8, 8), order, 0).sequences(np.arange(64)).reshape(2, 8, 4) % 8
    assert len({tuple(turns[half, :, lane].tolist()) for half in range(2) for lane in range(4)}) == 8


@pytest.mark.parametrize("workers", [1, 2])
def test_a_data_loader_gives_the_batches_of_the_stream(corpus: list[Shard], workers: int) -> None:
    order = StreamSection(rows_per_step=12)
    walk = PackedStream(corpus, stream=order, masking=MASKING)
    loader = iter(DataLoader(walk, batch_size=None, num_workers=workers))
    for batch, expected in zip(
        islice(loader, 11),
        islice(iter(PackedStream(corpus, stream=order, masking=MASKING)), 11),
        strict=True,
    ):
        assert same(batch, expected)
    assert walk.state_dict()["position"] == 0
    assert walk.state_after(11)["epoch"] == 2


def test_validation_is_every_row_once_in_order_and_the_same_each_time(corpus: list[Shard]) -> None:
    once = list(stream.validation(corpus, masking=CAUSAL, batch_rows=16))
    again = list(stream.validation(corpus, masking=CAUSAL, batch_rows=16))
    assert [len(batch.ids_BT) for batch in once] == [16, 16, 16, 13]
    assert [n for batch in once for n in numbers(batch)] == list(range(NUM_ROWS))
    assert all(same(*pair) for pair in zip(once, again, strict=True))
    assert not any(vocabulary.is_sentinel(batch.ids_BT).any() for batch in once)


def test_what_masking_does_is_counted_over_all_rows(corpus: list[Shard]) -> None:
    counts = stream.mask_counts(corpus, masking=MASKING, seed=0)
    batches = list(stream.validation(corpus, masking=MASKING, batch_rows=16))
    assert (counts.rows, counts.documents) == (NUM_ROWS, NUM_ROWS)
    assert 2 * counts.spans == sum(int(vocabulary.is_sentinel(batch.ids_BT).sum()) for batch in batches)
    assert 0 < counts.whole_captions < counts.spans


def test_a_state_of_another_order_is_refused(corpus: list[Shard]) -> None:
    state = PackedStream(corpus, stream=StreamSection(seed=1), masking=MASKING).state_dict()
    for order, rows in ((StreamSection(seed=2), corpus), (StreamSection(seed=1), corpus[1:])):
        with pytest.raises(ValueError, match="belongs to another order"):
            PackedStream(rows, stream=order, masking=MASKING).load_state_dict(state)


def test_masks_that_the_rows_have_no_room_for_are_refused(corpus: list[Shard]) -> None:
    with pytest.raises(
        ValueError, match=r"max_spans is 3 and the rows leave room for 2; .* pipeline\.examples\.rows"
    ):
        next(stream.validation(corpus, masking=MaskingSection(max_spans=3), batch_rows=4))


def test_a_step_that_ranks_cannot_share_is_refused(corpus: list[Shard]) -> None:
    walk = PackedStream(corpus, stream=StreamSection(rows_per_step=12), masking=MASKING, ranks=5)
    with pytest.raises(ValueError, match="rows_per_step 12 is no multiple of 5 ranks"):
        next(iter(walk))


def test_shards_of_different_corpora_and_empty_corpora_are_refused(corpus: list[Shard]) -> None:
    stranger = Shard(path=corpus[1].path, info={**corpus[1].info, "vocabulary": "g"})
    with pytest.raises(ValueError, match="shards differ in vocabulary"):
        next(stream.validation([corpus[0], stranger], masking=MASKING, batch_rows=4))
    with pytest.raises(ValueError, match="0 shards hold no rows"):
        next(stream.validation([], masking=CAUSAL, batch_rows=4))
