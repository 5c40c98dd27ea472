import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tokenizer_service import vocabulary
from trainer import lookup
from trainer.lookup import Lookup, captioned, captions, run_lengths

E, B, X, S = vocabulary.EOS, vocabulary.BREAK, vocabulary.EOSS, vocabulary.sentinel(0)
T, I = vocabulary.TEXT_START, vocabulary.IMAGE_START  # noqa: E741  # text and image ids


@given(st.lists(st.booleans(), min_size=1, max_size=30))
def test_a_run_counts_the_image_tokens_up_to_here(is_image: list[bool]) -> None:
    ids = torch.tensor([[I if flag else B for flag in is_image]])
    expected, run = [], 0
    for flag in is_image:
        run = run + 1 if flag else 0
        expected.append(run)
    assert run_lengths(ids)[0].tolist() == expected


def bags(ids: list[int]) -> list[set[int]]:
    words, real = captions(torch.tensor([ids]))
    return [set(w[r].tolist()) for w, r in zip(words[0], real[0], strict=True)]


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        ([E, T, T + 1, B, I, I, E], [None, None, None, {T, T + 1}, {T, T + 1}, {T, T + 1}, None]),
        ([E, T, B, I, B, T + 1, B, I, E], [None, None, {T}, {T}, {T}, None, {T + 1}, {T + 1}, None]),
        ([E, S, B, I, E, S, T, X], [None, None, {S}, {S}, None, None, None, None]),
        ([E, T, B, S, E, S, I, X], [None, None, {T}, None, None, None, {S}, None]),
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


def test_a_place_is_told_from_others_and_the_order_of_words_is_not() -> None:
    memory = remembering()
    forward, backward = (
        memory(captioned(torch.tensor([[E, *words, B, I, I]])))[:, 3:] for words in ((T, T + 1), (T + 1, T))
    )
    assert torch.allclose(forward, backward)
    assert not torch.allclose(forward[0, 1], forward[0, 2])


def test_each_word_speaks_for_itself() -> None:
    memory = remembering()
    one, other, both = (
        memory(captioned(torch.tensor([[E, *words, B]])))[:, -1] for words in ((T,), (T + 1,), (T, T + 1))
    )
    assert torch.allclose(both, (one + other) / 2**0.5, atol=1e-5)


def test_only_what_precedes_an_image_token_is_spoken_to() -> None:
    said = remembering()(captioned(torch.tensor([[E, T, B, I, E]])))
    assert said.abs().sum(dim=-1)[0].gt(0).tolist() == [False, False, True, True, False]
