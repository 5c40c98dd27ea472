import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tokenizer_service import vocabulary
from trainer import lookup
from trainer.cm3 import rotate
from trainer.lookup import Captioned, Cuts, Lookup, captioned, captions, image_places
from trainer.spans import Layout, Spans

E, B, X, S = vocabulary.EOS, vocabulary.BREAK, vocabulary.EOSS, vocabulary.sentinel(0)
S2 = vocabulary.sentinel(1)
T, I = vocabulary.TEXT_START, vocabulary.IMAGE_START  # noqa: E741  # text and image ids


def places(ids: list[int], num_places: int = 0) -> list[int]:
    ids_BT = torch.tensor([ids])
    return image_places(ids_BT, Cuts.of(ids_BT, torch.arange(len(ids))[None]), num_places)[0].tolist()


@given(st.lists(st.booleans(), min_size=1, max_size=30))
def test_a_whole_image_counts_its_tokens(is_image: list[bool]) -> None:
    expected, run = [], 0
    for flag in is_image:
        run = run + 1 if flag else 0
        expected.append(run)
    assert places([I if flag else B for flag in is_image], 30) == expected


@given(data=st.data(), num_pairs=st.integers(1, 3))
def test_what_was_cut_and_what_stands_behind_know_their_places(data: st.DataObject, num_pairs: int) -> None:
    """One cut an image, none, or all of it; texts lose anything. Two documents a row."""
    num_codes, ids = 6, list[int]()
    spans, documents = list[tuple[int, int, int]](), list[tuple[int, int, int]]()
    segments: list[tuple[int, int, int, bool]] = []
    for document in range(2):
        start = len(ids)
        ids.append(E)
        for _ in range(num_pairs):
            for is_text, length in ((True, data.draw(st.integers(0, 3))), (False, num_codes)):
                segments.append((document, len(ids), length, is_text))
                first = data.draw(st.integers(0, length))
                stop = data.draw(st.integers(first, length))
                if stop > first:
                    spans.append((document, len(ids) + first, stop - first))
                ids += [T if is_text else I] * length + [B]
        ids[-1] = E
        documents.append((0, start, len(ids) - start))
    before = places(ids, num_codes)
    width = len(ids) + 3 * len(spans)
    rows_BT = np.zeros((1, width), np.uint16)
    rows_BT[0, : len(ids)] = ids
    columns = [np.array(column) for column in (*zip(*documents, strict=True), *zip(*segments, strict=True))]
    layout = Layout(
        num_rows=1,
        document_row_D=columns[0],
        document_start_D=columns[1],
        document_length_D=columns[2],
        segment_document_S=columns[3],
        segment_start_S=columns[4],
        segment_length_S=columns[5],
        segment_text_S=columns[6],
        segment_given_S=np.zeros(len(segments), np.bool_),
    )
    document_N, start_N, length_N = np.array(spans, np.int64).reshape(-1, 3).T
    cut = Spans(document_N=document_N, start_N=start_N, length_N=length_N)
    batch = rotate(rows_BT, layout, cut)
    after_BT = image_places(batch.ids_BT, Cuts.of(batch.ids_BT, batch.positions_BT), num_codes)
    got = [(t, p) for t, p in zip(batch.ids_BT[0].tolist(), after_BT[0].tolist(), strict=True) if t == I]
    moved = order_after(ids, spans, documents)
    assert [p for _, p in got] == [before[i] for i in moved if ids[i] == I]


def order_after(
    ids: list[int], spans: list[tuple[int, int, int]], documents: list[tuple[int, int, int]]
) -> list[int]:
    """Where the tokens stood, in the order of the rotated row."""
    order = []
    for number, (_, start, length) in enumerate(documents):
        cut = [range(first, first + num) for of, first, num in spans if of == number]
        gone = {i for span in cut for i in span}
        order += [i for i in range(start, start + length) if i not in gone]
        order += [i for span in cut for i in span]
    return order


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        ([E, T, B, I, S, I, E, S, I, X], [0, 0, 0, 1, 0, 4, 0, 1, 2, 0]),  # the hole goes on behind place 1
        ([E, T, B, S, I, I, E, S, I, X], [0, 0, 0, 0, 3, 4, 0, 0, 1, 0]),
        ([E, T, B, S, E, S, I, I, X], [0, 0, 0, 0, 0, 0, 1, 2, 0]),  # cut whole
        ([E, T, B, I, S, I, S2, I, E, S], [0, 0, 0, 1, 0, 1, 0, 4, 0, 1]),  # between two cuts: counted anew
        ([E, T, B, I, S, I], [0, 0, 0, 1, 0, 1]),  # it may go on
        ([E, T, B, S, *[I] * 5, E], [0, 0, 0, 0, 1, 2, 3, 4, 5, 0]),  # longer than an image: never below 1
        ([E, S, B, I, E, S, T, X], [0, 0, 0, 1, 0, 0, 0, 0]),  # a text was cut
    ],
)
def test_places_about_cuts(ids: list[int], expected: list[int]) -> None:
    assert places(ids, 4) == expected


def test_a_cut_of_another_document_is_not_looked_at() -> None:
    one = [E, T, B, I, I, S, I, E, S, I, X]
    ids, positions = torch.tensor([[*one, E, T, B, S, E, S, I]]), [*range(11), *range(7)]
    cuts = Cuts.of(ids, torch.tensor([positions]))
    assert image_places(ids, cuts, 4)[0, 11:].tolist() == [0, 0, 0, 0, 0, 0, 1]


def bags(ids: list[int]) -> list[set[int]]:
    ids_BS = torch.tensor([ids])
    words, real = captions(ids_BS, Cuts.of(ids_BS, torch.arange(len(ids))[None]))
    return [set(w[r].tolist()) for w, r in zip(words[0], real[0], strict=True)]


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        ([E, T, T + 1, B, I, I, E], [None, None, None, {T, T + 1}, {T, T + 1}, {T, T + 1}, None]),
        ([E, T, B, I, B, T + 1, B, I, E], [None, None, {T}, {T}, {T}, None, {T + 1}, {T + 1}, None]),
        ([E, S, B, I, E, S, T, X], [None, None, {S}, {S}, None, None, None, None]),
        ([E, T, B, S, E, S, I, X], [None, None, {T}, None, None, None, {T}, None]),
        ([E, T, B, I, S, I, E, S, I, X], [None, None, {T}, {T}, None, {T}, None, None, {T}, None]),
        ([E, T, B, S, I, E, S, I, I, X], [None, None, {T}, None, {T}, None, None, {T}, {T}, None]),
        ([E, S, B, S2, E, S, T, X, S2, I], [None, None, {S}, None, None, None, None, None, None, {S}]),
        ([E, 0, T, B, I], [None, None, None, {T}, {T}]),
        ([E, T, B, I, E, E, B, I, E], [None, None, {T}, {T}, None, None, None, None, None]),
        ([0, 0, E, T, B, I], [None, None, None, None, {T}, {T}]),
    ],
)
def test_an_image_has_the_words_of_the_latest_text_of_its_document(
    ids: list[int], expected: list[set[int] | None]
) -> None:
    assert bags(ids) == [words or set() for words in expected]


def test_of_a_long_caption_the_last_words_count() -> None:
    text = list(range(T, T + lookup.WORDS + 5))
    assert bags([E, *text, B, I])[-1] == set(text[5:])


def remembering() -> Lookup:
    memory = Lookup(10_000, 8)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        memory.rows.weight.copy_(torch.randn(memory.rows.weight.shape, generator=generator))
        memory.out.weight.copy_(torch.randn(memory.out.weight.shape, generator=generator))
    return memory


def told(*ids: int) -> Captioned:
    ids_BS = torch.tensor([ids])
    return captioned(ids_BS, torch.arange(len(ids))[None])


def test_a_place_is_told_from_others_and_the_order_of_words_is_not() -> None:
    memory = remembering()
    forward, backward = (memory(told(E, *words, B, I, I))[:, 3:] for words in ((T, T + 1), (T + 1, T)))
    assert torch.allclose(forward, backward)
    assert not torch.allclose(forward[0, 1], forward[0, 2])


def test_each_word_speaks_for_itself() -> None:
    memory = remembering()
    one, other, both = (memory(told(E, *words, B))[:, -1] for words in ((T,), (T + 1,), (T, T + 1)))
    assert torch.allclose(both, (one + other) / 2**0.5, atol=1e-5)


def test_only_what_precedes_an_image_token_is_spoken_to() -> None:
    said = remembering()(told(E, T, B, I, E))
    assert said.abs().sum(dim=-1)[0].gt(0).tolist() == [False, False, True, True, False]
