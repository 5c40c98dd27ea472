"""Laws of the stream: each sequence once an epoch, equal steps for any ranks, resume as if never stopped."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader
from torchdata.stateful_dataloader import StatefulDataLoader

from pipeline import shards
from pipeline.blocks import Shard
from pipeline.pack import Document, PackConfig, Pair, lay_out
from pipeline.packed import Row, Via
from tokenizer_service import vocabulary
from trainer import stream
from trainer.cm3 import Batch
from trainer.loader import Loader, LoaderSection
from trainer.order import CYCLE, EpochOrder, Mixture, Part, Source, State, StreamSection, Taken, Walk
from trainer.spans import MaskingSection
from trainer.stream import Masked, Mixed, PackedStream, Rows, tokens

NUM_ROWS = 61
MASKING = MaskingSection(max_spans=2)
CAUSAL = MaskingSection(max_spans=0)


def masked(packs: list[Shard], order: StreamSection, **more: Any) -> PackedStream[Batch]:
    return PackedStream(packs, stream=order, view=Masked(masking=MASKING), **more)


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
        found.append(Shard.file(path, info))
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
ONE = [Source(block_rows=BLOCK_ROWS)]
TWO = [Source(block_rows=BLOCK_ROWS, weight=3), Source(name="edits", block_rows=np.array([5, 3]), weight=2)]


def walks(order: StreamSection, shape: tuple[int, int], sources: list[Source] = ONE) -> list[list[Walk]]:
    """By rank, then by worker."""
    ranks, workers = shape
    return [
        [Walk(sources, order, Part(rank=r, ranks=ranks, worker=w, workers=workers)) for w in range(workers)]
        for r in range(ranks)
    ]


Row3 = tuple[int, int, int]
"""Source, epoch and sequence."""


def rows_of(taken: Taken) -> list[Row3]:
    return [*zip(*(column.tolist() for column in taken), strict=True)]


def steps(of: list[list[Walk]], num_steps: int) -> list[list[Row3]]:
    """The rows of each global step, workers taking turns; sorted."""
    taken = [[next(of_rank[step % len(of_rank)]) for of_rank in of] for step in range(num_steps)]
    return [sorted(row for part in step for row in rows_of(part)) for step in taken]


def state_after(order: StreamSection, num_steps: int, sources: list[Source] = ONE) -> State:
    return Walk(sources, order, Part()).state_after(num_steps)


@pytest.mark.long
@settings(max_examples=25)
@given(ORDER, PARTS)
def test_every_sequence_comes_once_an_epoch(order: StreamSection, shape: tuple[int, int]) -> None:
    """13 steps of 12 rows are 6 epochs of 26 rows."""
    seen = Counter(row for step in steps(walks(order, shape), 13) for row in step)
    assert seen == {(0, epoch, sequence): 1 for epoch in range(6) for sequence in range(EPOCH)}


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
        walk.seek(state_after(order, stop))
    assert first + steps(resumed, 5) == steps(walks(order, (1, 1)), stop + 5)


@pytest.mark.long
@settings(max_examples=25)
@given(ORDER, PARTS, PARTS, st.lists(st.integers(0, 9), max_size=4))
def test_a_mixture_stopped_anywhere_any_number_of_times_skips_and_repeats_nothing(
    order: StreamSection, before: tuple[int, int], after: tuple[int, int], stops: list[int]
) -> None:
    """The state is told by the walks that were stopped, and each source goes through its epochs whole."""
    seen: list[list[Row3]] = []
    state = state_after(order, 0, TWO)
    for number, stop in enumerate([*stops, 12]):
        shape = (before, after)[number % 2]
        running = walks(order, shape, TWO)
        for walk in (walk for of_rank in running for walk in of_rank):
            walk.seek(json.loads(json.dumps(state)))
        seen += steps(running, stop)
        begun = Walk(TWO, order, Part())
        begun.seek(state)
        state = begun.state_after(stop)
    assert seen == steps(walks(order, (1, 1), TWO), sum(stops) + 12)
    for source, rows in ((0, EPOCH), (1, 8)):
        mine = [row for step in seen for row in step if row[0] == source]
        whole = Counter(epoch for _, epoch, _ in mine)
        assert len(set(mine)) == len(mine)
        assert all(count == rows for epoch, count in whole.items() if epoch < max(whole))


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
    batches = iter(masked(corpus, order, rank=rank, ranks=3))
    source = Source(block_rows=np.array([b["rows"] for shard in corpus for b in shard.info["blocks"]]))
    walk = Walk([source], order, Part(rank=rank, ranks=3))
    for batch, taken in islice(zip(batches, walk, strict=True), 8):
        assert numbers(batch) == taken.sequence_B.tolist()


def same(one: Batch, other: Batch) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.long
@settings(max_examples=20)
@given(order=ORDER, stop=st.integers(0, 14))
def test_a_resumed_stream_is_bit_identical_masks_included(
    corpus: list[Shard], order: StreamSection, stop: int
) -> None:
    whole = iter(masked(corpus, order))
    stopped = masked(corpus, order)
    for batch, expected in zip(islice(iter(stopped), stop), islice(whole, stop), strict=True):
        assert same(batch, expected)
    resumed = masked(corpus, order)
    resumed.load_state_dict(json.loads(json.dumps(stopped.state_dict())))
    for batch, expected in zip(islice(iter(resumed), 6), islice(whole, 6), strict=True):
        assert same(batch, expected)


def test_masks_change_from_epoch_to_epoch_and_with_the_seed(corpus: list[Shard]) -> None:
    """Each epoch of 61 rows is one step, put into one order."""

    def epoch(seed: int, number: int) -> list[list[int]]:
        order = StreamSection(seed=seed, rows_per_step=NUM_ROWS)
        batches = islice(iter(masked(corpus, order)), number + 1)
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


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_a_loader_gives_the_batches_of_the_stream_and_counts_those_that_were_taken(
    corpus: list[Shard], workers: int
) -> None:
    order = StreamSection(rows_per_step=12)
    expected = list(islice(iter(masked(corpus, order)), 14))
    loader = Loader(masked(corpus, order), LoaderSection(workers=workers))
    assert all(same(*pair) for pair in zip(islice(loader, 11), expected, strict=False))
    state = json.loads(json.dumps(loader.state()))
    loader.close()
    assert loader.state() == state
    assert state["sources"][""]["epoch"] == 2
    other = Loader(masked(corpus, order), LoaderSection(workers=(workers + 1) % 3))
    other.seek(state)
    assert all(same(*pair) for pair in zip(islice(other, 3), expected[11:], strict=True))
    other.close()


@pytest.mark.long
def test_a_data_loader_takes_the_stream_as_it_is(corpus: list[Shard]) -> None:
    order = StreamSection(rows_per_step=12)
    stream = PackedStream(corpus, stream=order, view=tokens, epochs=1)
    for context in ("fork", "spawn"):
        loader = DataLoader(stream, batch_size=None, num_workers=2, multiprocessing_context=context)
        found = torch.cat([*loader])
        assert found.dtype == torch.int64
        whole = torch.cat([*PackedStream(corpus, stream=order, view=tokens, epochs=1)])
        assert torch.equal(found, whole)
        assert len(whole) == NUM_ROWS


@pytest.mark.long
@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated")  # torchdata 0.11 calls it
@pytest.mark.parametrize("workers", [0, 2])
def test_torchdatas_stateful_loader_goes_on_with_as_many_workers_bit_for_bit(
    corpus: list[Shard], workers: int
) -> None:
    order = StreamSection(rows_per_step=12)
    expected = list(islice(iter(PackedStream(corpus, stream=order, view=tokens)), 17))
    begun = StatefulDataLoader(
        PackedStream(corpus, stream=order, view=tokens), batch_size=None, num_workers=workers
    )
    found = list(islice(begun, 9))
    state = begun.state_dict()
    resumed = StatefulDataLoader(
        PackedStream(corpus, stream=order, view=tokens), batch_size=None, num_workers=workers
    )
    resumed.load_state_dict(state)
    found += islice(resumed, 8)
    assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))


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
    state = masked(corpus, StreamSection(seed=1)).state_dict()
    for order, rows in ((StreamSection(seed=2), corpus), (StreamSection(seed=1), corpus[1:])):
        with pytest.raises(ValueError, match="belongs to another order"):
            masked(rows, order).load_state_dict(state)


def test_masks_that_the_rows_have_no_room_for_are_refused(corpus: list[Shard]) -> None:
    with pytest.raises(
        ValueError, match=r"max_spans is 3 and the rows leave room for 2; .* pipeline\.examples\.rows"
    ):
        next(stream.validation(corpus, masking=MaskingSection(max_spans=3), batch_rows=4))


def test_a_step_that_ranks_cannot_share_is_refused(corpus: list[Shard]) -> None:
    with pytest.raises(ValueError, match="rows_per_step 12 is no multiple of 5 ranks"):
        masked(corpus, StreamSection(rows_per_step=12), rank=0, ranks=5)


def test_a_rank_without_its_number_and_epochs_of_many_ranks_are_refused(corpus: list[Shard]) -> None:
    order = StreamSection(rows_per_step=12)
    for more, told in (
        ({"rank": 3}, "rank=3, ranks=None: give both"),
        ({"rank": 2, "ranks": 2}, "rank 2 of 2"),
        ({"rank": 0, "ranks": 2, "epochs": 1}, "1 epochs end for some of 2 ranks"),
    ):
        with pytest.raises(ValueError, match=told):
            masked(corpus, order, **more)


def test_a_step_that_could_not_be_read_has_not_been_taken(corpus: list[Shard]) -> None:
    order = StreamSection(rows_per_step=12)
    expected = list(islice(iter(masked(corpus, order)), 4))

    class Failing(Masked):
        calls = 0

        def __call__(self, rows: Rows) -> Batch:
            Failing.calls += 1
            if Failing.calls == 3:
                raise OSError("the disk is away")
            return super().__call__(rows)

    stream = PackedStream(corpus, stream=order, view=Failing(masking=MASKING))
    loader = Loader(stream)
    found = [next(loader), next(loader)]
    with pytest.raises(OSError, match="the disk is away"):
        next(loader)
    assert loader.state()["position"] == 24
    found += [next(loader), next(loader)]
    assert all(same(*pair) for pair in zip(found, expected, strict=True))


def test_a_mixture_does_not_hang_on_how_it_was_written_down(corpus: list[Shard]) -> None:
    order = StreamSection(rows_per_step=12)
    parts = {"b": Mixed(shards=corpus[:2], weight=2), "a": Mixed(shards=corpus[2:]), "": Mixed(shards=corpus)}
    one = PackedStream(parts, stream=order, view=tokens)
    other = PackedStream(dict(sorted(parts.items())), stream=order, view=tokens)
    assert all(torch.equal(*pair) for pair in islice(zip(one, other, strict=True), 9))


def test_shards_of_different_corpora_and_empty_corpora_are_refused(corpus: list[Shard]) -> None:
    stranger = Shard(store=corpus[1].store, name=corpus[1].name, info={**corpus[1].info, "vocabulary": "g"})
    with pytest.raises(ValueError, match="shards differ in vocabulary"):
        next(stream.validation([corpus[0], stranger], masking=MASKING, batch_rows=4))
    with pytest.raises(ValueError, match="0 shards hold no rows"):
        next(stream.validation([], masking=CAUSAL, batch_rows=4))


def test_sources_come_as_often_as_their_weights_say_in_every_cycle() -> None:
    mixture = Mixture(
        [Source(name=n, block_rows=BLOCK_ROWS, weight=w) for n, w in zip("abc", (7, 2, 1), strict=True)], 5
    )
    for cycle in range(3):
        sources, _ = mixture.at(np.arange(cycle * CYCLE, (cycle + 1) * CYCLE))
        assert np.bincount(sources).tolist() == [2867, 819, 410]


@given(st.integers(0, 3 * CYCLE), st.integers(0, 9))
def test_rows_taken_of_each_source_are_those_before_a_position(position: int, seed: int) -> None:
    mixture = Mixture(TWO, seed)
    sources, indices = mixture.at(np.arange(position))
    assert mixture.taken(position).tolist() == np.bincount(sources, minlength=2).tolist()
    for source in range(2):
        assert indices[sources == source].tolist() == list(range((sources == source).sum()))


def test_a_source_that_joins_or_changes_its_weight_leaves_the_others_where_they_stood() -> None:
    order = StreamSection(rows_per_step=12)
    state = state_after(order, 5)
    for sources in (TWO, [replace(ONE[0], weight=2.0), TWO[1]]):
        walk = Walk(sources, order, Part())
        with pytest.raises(ValueError, match="belongs to another order"):
            walk.seek(state)
        walk.seek(state, remix=True)
        mine = [row for taken in islice(walk, 20) for row in rows_of(taken) if row[0] == 0]
        alone = [row for step in islice(Walk(ONE, order, Part()), 40) for row in rows_of(step)]
        assert mine == alone[60 : 60 + len(mine)]


def test_a_weight_that_no_cycle_can_keep_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"source 'b' has weight 0.0001 of 1.0001; give each source at least"
    ):
        Mixture([Source(name=n, block_rows=BLOCK_ROWS, weight=w) for n, w in (("a", 1.0), ("b", 1e-4))], 0)


def test_two_corpora_are_mixed_and_each_has_masks_of_its_own(corpus: list[Shard]) -> None:
    mixed = {"": Mixed(shards=corpus, weight=1), "again": Mixed(shards=corpus, weight=1)}
    order = StreamSection(rows_per_step=2 * NUM_ROWS)
    batches = islice(PackedStream(mixed, stream=order, view=Masked(masking=MASKING)), 8)
    seen = Counter(number for batch in batches for number in numbers(batch))
    assert sum(seen.values()) == 16 * NUM_ROWS
    assert set(seen) == set(range(NUM_ROWS))


def test_what_is_revoked_is_blanked_and_nothing_else_moves(corpus: list[Shard]) -> None:
    order = StreamSection(rows_per_step=12)
    less = [replace(shard, revoked=frozenset({"a:7", "a:40"})) for shard in corpus]
    whole = islice(masked(corpus, order), 10)
    for batch, other in zip(whole, islice(masked(less, order), 10), strict=True):
        gone_B = torch.tensor([number in {7, 40} for number in numbers(batch)])
        assert same(Batch(*(t[~gone_B] for t in batch)), Batch(*(t[~gone_B] for t in other)))
        assert (other.ids_BT[gone_B] == vocabulary.PAD).all()
        assert (other.documents_BT[gone_B] == -1).all()
