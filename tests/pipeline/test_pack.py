from __future__ import annotations

from collections import Counter
from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipeline import pack
from pipeline.pack import Document, PackConfig, Pair, fewest_rows, fullest
from pipeline.packed import Laid, Modality, Role, Via
from tokenizer_service import vocabulary

CHARGES = st.lists(st.integers(1, 64), max_size=200)


def first_entries(entries: NDArray[np.integer], limit: int) -> NDArray[np.integer]:
    """A cut for texts in which every entry is a word."""
    return entries[:limit]


def pair(uid: str, num_text: int, num_codes: int, *, score: float = 0.0) -> Pair:
    return Pair(
        uid=uid,
        revision=3,
        text_ids=np.arange(num_text, dtype=np.uint16),
        code_ids=np.arange(num_codes, dtype=np.uint16),
        via=Via.IMAGE,
        score=score,
    )


def document(name: str, pairs: list[tuple[int, int, float]]) -> Document:
    return Document(
        example_id=name,
        pairs=tuple(pair(f"{name}/{i}", *lengths, score=score) for i, (*lengths, score) in enumerate(pairs)),
    )


DOCUMENTS = st.lists(
    st.lists(st.tuples(st.integers(0, 40), st.integers(1, 16), st.floats(0, 1)), min_size=1, max_size=4),
    max_size=30,
).map(lambda drawn: [document(f"d{i}", pairs) for i, pairs in enumerate(drawn)])
CONFIG = st.builds(
    PackConfig,
    context=st.integers(64, 200),
    max_spans=st.integers(0, 4),
    neighbor_text_tokens=st.just(10),
    target_text_tokens=st.just(20),
)


@given(CHARGES)
def test_every_document_lands_in_exactly_one_row(charges: list[int]) -> None:
    rows = fullest(charges, capacity=64)
    assert sorted(number for row in rows for number in row) == list(range(len(charges)))


@given(CHARGES)
def test_no_row_overflows(charges: list[int]) -> None:
    assert all(sum(charges[i] for i in row) <= 64 for row in fullest(charges, capacity=64))


@given(CHARGES)
def test_no_two_rows_could_be_one(charges: list[int]) -> None:
    full = sorted(sum(charges[i] for i in row) for row in fullest(charges, capacity=64))
    assert len(full) < 2 or full[0] + full[1] > 64


@given(st.lists(st.integers(1, 24), max_size=9))
def test_each_row_is_as_full_as_what_is_left_allows_around_the_longest(charges: list[int]) -> None:
    """Against every choice that there is."""
    left = Counter(charges)
    for row in sorted_by_making(fullest(charges, capacity=24), charges):
        found = sorted(charges[i] for i in row)
        others = list((left - Counter([max(left)])).elements())
        best = max(
            (
                sum(chosen)
                for size in range(len(others) + 1)
                for chosen in combinations(others, size)
                if sum(chosen) <= 24 - max(left)
            ),
        )
        assert max(found) == max(left)
        assert sum(found) == max(left) + best
        left -= Counter(found)
    assert not left


def sorted_by_making(rows: list[list[int]], charges: list[int]) -> list[list[int]]:
    """Rows around longer documents come first, and of equal ones the fuller: what is left only shrinks."""
    return sorted(rows, key=lambda row: (-max(charges[i] for i in row), -sum(charges[i] for i in row)))


def test_a_mixture_of_neighbors_fills_rows_better_than_best_fit_does() -> None:
    """Documents of 1 to 4 pairs of 256 tokens and a text: best fit decreasing stops at 98.1 %."""
    rng = np.random.default_rng(0)
    texts = rng.gamma(3, 12, (4000, 4)).astype(int).clip(3, 128)
    charges = (13 + ((texts + 258) * (np.arange(4) <= rng.integers(0, 4, 4000)[:, None])).sum(1)).tolist()
    rows = fullest(charges, 4097)
    assert sum(charges) / (4097 * len(rows)) > 0.99


def test_three_neighbors_of_1024_codes_fill_the_default_row_as_far_as_any_packing_can() -> None:
    """Captions of 13 tokens in the mean: a document is a row, less what its texts leave."""
    texts = np.random.default_rng(0).gamma(3, 4.5, (4000, 4)).astype(int).clip(3, 24)
    charges = (13 + (texts + 1026).sum(1)).tolist()
    capacity = PackConfig().capacity
    rows = fullest(charges, capacity)
    assert len(rows) == fewest_rows(charges, capacity)
    assert sum(charges) / (capacity * len(rows)) > 0.97


@given(CHARGES)
def test_the_ceiling_is_never_beaten_and_never_below_the_volume(charges: list[int]) -> None:
    bound = fewest_rows(charges, 64)
    assert -(-sum(charges) // 64) <= bound <= len(fullest(charges, capacity=64))


def test_the_ceiling_knows_that_two_long_documents_never_share_a_row() -> None:
    assert fewest_rows([33, 33, 33], 64) == 3
    assert fewest_rows([32, 32, 32], 64) == 2


def test_a_document_longer_than_a_row_is_refused() -> None:
    with pytest.raises(ValueError, match="document of 9 tokens cannot fit a row of 8"):
        fullest([9], capacity=8)


def check_layout(laid: Laid, source: Document) -> None:
    """Between boundaries lie the texts and images of the pairs, each with its span."""
    assert laid.ids[0] == laid.ids[-1] == vocabulary.EOS
    assert len(laid.ids) == source.num_tokens
    expected = [(p, m) for p in source.pairs for m in (Modality.TEXT, Modality.IMAGE)]
    for span, (of, modality) in zip(laid.spans, expected, strict=True):
        ids = laid.ids[span.start : span.start + span.length]
        assert (span.uid, span.revision, span.modality, span.via) == (of.uid, 3, modality, Via.IMAGE)
        raw = vocabulary.to_text(ids) if modality is Modality.TEXT else vocabulary.to_codes(ids)
        assert raw.tolist() == (of.text_ids if modality is Modality.TEXT else of.code_ids).tolist()
        assert span.role is (Role.TARGET if of is source.pairs[-1] else Role.NEIGHBOR)
    for one, next_ in pairwise(laid.spans):
        assert one.start + one.length + 1 == next_.start
        assert laid.ids[next_.start - 1] == vocabulary.BREAK


@given(DOCUMENTS, CONFIG)
def test_packing_loses_nothing_and_overflows_nothing_even_after_masking(
    documents: list[Document], config: PackConfig
) -> None:
    packed = pack.pack(documents, config, cut=first_entries)
    rows = list(packed.rows())
    assert Counter(laid.example_id for row in rows for laid in row) == {d.example_id: 1 for d in documents}
    for row in rows:
        assert sum(len(laid.ids) + 3 * config.max_spans for laid in row) <= config.context + 1
        for laid in row:
            check_layout(laid, next(d for d in packed.documents if d.example_id == laid.example_id))


@given(DOCUMENTS, CONFIG)
def test_the_statistics_are_those_of_the_rows(documents: list[Document], config: PackConfig) -> None:
    packed = pack.pack(documents, config, cut=first_entries)
    rows = list(packed.rows())
    lengths = [len(laid.ids) for row in rows for laid in row]
    fill = packed.fill
    assert (fill.documents, fill.rows, fill.tokens) == (len(documents), len(rows), sum(lengths))
    assert fill.charge == sum(lengths) + 3 * config.max_spans * len(documents)
    pairs = sum(len(d.pairs) for d in packed.documents)
    assert pairs + len(packed.dropped) == sum(len(d.pairs) for d in documents)
    shares = (fill + fill).shares()
    assert shares == fill.shares()
    assert shares["tokens"] <= shares["charged"] <= shares["ceiling"] or not rows


@given(DOCUMENTS, CONFIG)
def test_a_cut_stream_is_the_documents_end_to_end_with_room_for_masking_in_every_piece(
    documents: list[Document], config: PackConfig
) -> None:
    config = config.model_copy(update={"mode": "cut"})
    packed = pack.pack(documents, config, cut=first_entries)
    assert not packed.dropped
    rows = list(packed.rows())
    found: dict[str, list[int]] = {}
    for row in rows:
        assert sum(len(laid.ids) + 3 * config.max_spans for laid in row) <= config.capacity
        for laid in row:
            assert len(laid.ids)
            found.setdefault(laid.example_id, []).extend(laid.ids.tolist())
    whole = {document.example_id: pack.lay_out(document) for document in packed.documents}
    assert found == {name: laid.ids.tolist() for name, laid in whole.items()}
    pieces = [laid for row in rows for laid in row]
    for one, next_ in pairwise(pieces):
        assert one.continues == (one.example_id == next_.example_id)
    assert not pieces or not pieces[-1].continues
    in_spans = {name: sum(span.length for span in laid.spans) for name, laid in whole.items()}
    told = Counter[str]()
    for laid in pieces:
        told[laid.example_id] += sum(span.length for span in laid.spans)
        for span in laid.spans:
            assert 0 <= span.start <= span.start + span.length <= len(laid.ids)
    assert dict(told) == in_spans
    shares = packed.fill.shares()
    assert shares["charged"] <= shares["ceiling"] <= 1
    for row in rows[:-1]:  # a row is left only where no token more would fit
        assert config.capacity - sum(len(d.ids) + 3 * config.max_spans for d in row) <= 3 * config.max_spans


def test_the_lowest_scored_neighbors_are_dropped_first_and_named() -> None:
    """Four pairs of 20 tokens take 89 tokens, two take 45; the row holds 61."""
    config = PackConfig(context=60, max_spans=0)
    source = document("d", [(4, 16, 0.9), (4, 16, 0.2), (4, 16, 0.8), (4, 16, 0.0)])
    packed = pack.pack([source], config, cut=first_entries)
    assert [p.uid for p in packed.documents[0].pairs] == ["d/0", "d/3"]
    assert [(one.example_id, one.uid) for one in packed.dropped] == [("d", "d/1"), ("d", "d/2")]


def test_a_target_that_fills_the_row_is_kept_and_one_token_more_is_refused() -> None:
    config = PackConfig(context=60, max_spans=4)
    fits, over = document("fits", [(10, 36, 0.0)]), document("over", [(10, 37, 0.0)])
    assert pack.pack([fits], config, cut=first_entries).fill.charge == 61
    with pytest.raises(ValueError, match="document over takes 50 tokens"):
        pack.pack([over], config, cut=first_entries)


def test_texts_of_neighbors_and_targets_have_their_own_limits() -> None:
    config = PackConfig(context=200, neighbor_text_tokens=5, target_text_tokens=7)
    source = document("d", [(5, 4, 0.0), (6, 4, 0.0), (9, 4, 0.0)])
    packed = pack.pack([source], config, cut=first_entries)
    assert [len(p.text_ids) for p in packed.documents[0].pairs] == [5, 5, 7]
    assert packed.num_cut_texts == 2


def test_a_document_never_changes_its_group() -> None:
    """These buckets are in published artifacts: another hash would move every document."""
    assert [pack.hashed(name) % 16 for name in ("fluent:1f34e", "", "ä")] == [15, 2, 4]


def test_groups_share_documents_evenly() -> None:
    counts = Counter(pack.hashed(f"fluent:{i}") % 4 for i in range(4000))
    assert sorted(counts) == [0, 1, 2, 3]
    assert min(counts.values()) > 900


def test_an_id_beyond_the_vocabulary_is_refused_when_it_is_laid_out() -> None:
    outside = Pair(
        uid="a:1",
        revision=0,
        text_ids=np.array([1], np.uint16),
        code_ids=np.array([vocabulary.MAX_CODES], np.uint16),
        via=Via.NOTHING,
    )
    with pytest.raises(ValueError, match="image codes must be in"):
        pack.lay_out(Document(example_id="d", pairs=(outside,)))
