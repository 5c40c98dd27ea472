import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.colors import LINEAR, Pixels
from trainer.instruct import lettering, signs
from trainer.instruct.signs import BOARDS, GROUNDS, LEAST, ROOM

texts = st.integers(0, 2**32).map(lambda seed: signs.words(np.random.default_rng(seed), 1)[0])


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def contrast(one: tuple[int, int, int], other: tuple[int, int, int]) -> float:
    """WCAG 2.2's, from 1 to 21."""
    lights = sorted(float(LINEAR[list(color)] @ (0.2126, 0.7152, 0.0722)) for color in (one, other))
    return (lights[1] + 0.05) / (lights[0] + 0.05)


@pytest.mark.parametrize(("board", "ink"), BOARDS)
def test_text_stands_out_from_its_board_and_no_board_looks_like_the_ground(
    board: tuple[int, int, int], ink: tuple[int, int, int]
) -> None:
    assert contrast(board, ink) >= 4.5
    assert min(np.abs(np.subtract(board, ground)).max() for ground in GROUNDS) > 25


@given(texts)
def test_letters_of_a_drawn_word_are_at_least_a_fifth_of_the_side_high_on_every_board(text: str) -> None:
    assert 2 <= len(text) <= 5
    (one,) = signs.lines(text)
    for height, width in ROOM.values():
        room = round(height * 128), round(width * 128)
        (ink,) = lettering.fitted([lettering.line(one)], room, round(LEAST * 128))
        assert LEAST * 128 - 1 <= ink.shape[0] <= room[0]
        assert ink.shape[1] <= room[1]


@given(st.lists(st.text("ABMW190 ", min_size=1, max_size=6).filter(str.strip), min_size=1, max_size=2))
def test_lines_fit_their_room_one_under_the_other_whatever_they_say(written: list[str]) -> None:
    fitted = lettering.fitted([lettering.line(one.strip()) for one in written], (60, 90), 26)
    assert sum(ink.shape[0] for ink in fitted) <= 60
    assert all(ink.shape[1] <= 90 and ink.max() > 0.5 for ink in fitted)


def test_letters_stand_a_fixed_gap_apart_whatever_the_pair() -> None:
    gap = round(lettering.GAP * lettering.CAP)
    for pair in ("AV", "HH", "LT"):
        assert all(lettering.glyph(character)[:, [0, -1]].any(axis=0).all() for character in pair)
        first, second = (lettering.glyph(character).shape[1] for character in pair)
        assert lettering.line(pair).shape[1] == first + gap + second
    assert lettering.line("H").shape[0] == lettering.CAP


def ink_of(text: str, seed: int) -> Pixels:
    """What the text alone changes on a sign: against one with the thinnest of texts."""
    other = signs.sign("I", 128, rng(seed))
    return np.asarray((signs.sign(text, 128, rng(seed)) != other).any(axis=2))


@pytest.mark.parametrize("seed", range(12))
def test_text_is_centred_on_its_board_and_leaves_the_border_free(seed: int) -> None:
    rows, columns = np.nonzero(ink_of("HOH", seed))
    assert abs((rows.min() + rows.max()) / 2 - 63.5) <= 2
    assert abs((columns.min() + columns.max()) / 2 - 63.5) <= 9
    assert min(columns.min(), 127 - columns.max()) >= 8


def test_two_lines_are_two_rows_of_ink_with_board_between() -> None:
    marked = ink_of("NO ENTRY", 3)
    empty = ~marked[:, 20:108].any(axis=1)
    edges = np.diff(np.flatnonzero(~empty))
    assert (edges > 1).sum() <= 2
    assert marked[40:55].any()
    assert marked[75:90].any()


def test_a_sign_is_the_same_again_and_all_shapes_and_colours_are_drawn() -> None:
    assert np.array_equal(signs.sign("STOP", 64, rng(1)), signs.sign("STOP", 64, rng(1)))
    drawn = [signs.sign("A", 64, rng(seed)) for seed in range(300)]
    assert {picture.shape for picture in drawn} == {(64, 64, 3)}
    boards = {tuple(picture[48, 12].tolist()) for picture in drawn}
    assert {board for board, _ in BOARDS} <= boards


def test_stop_signs_alone_are_always_red_and_white() -> None:
    octagons = 0
    for seed in range(100):
        picture = signs.sign("STOP", 128, rng(seed)).astype(int)
        ground = picture[0, 0]
        # At an octagon's corner the ground shows, while the rows of its flat edge are full in the middle.
        flat, corner, side = picture[8, 64], picture[16, 16], picture[64, 8]
        if (flat != ground).any() and (corner == ground).all() and np.array_equal(picture[8, 42], flat):
            octagons += 1
            assert side.tolist() == list(signs.STOP[0])
    assert octagons > 5


@pytest.mark.parametrize("text", ["", "   ", "A" * 13])
def test_a_text_that_no_board_holds_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="1 to 12 characters"):
        signs.sign(text, 128, rng())


def test_a_character_that_the_font_lacks_is_refused() -> None:
    with pytest.raises(ValueError, match="has no '日'"):
        signs.sign("A日B", 128, rng())


@given(st.integers(0, 2**32))
def test_words_are_said_numbers_or_codes_that_mean_one_thing(seed: int) -> None:
    for word in signs.words(rng(seed), 20):
        letters = word.rstrip("0123456789")
        digits = word[len(letters) :]
        if not digits:
            assert all(a in signs.VOWELS or b in signs.VOWELS for a, b in itertools.pairwise(word))
        elif not letters:
            assert 10 <= int(digits) < 2030
        else:
            assert not set("IOQSZ01") & set(word)


def test_words_vary_and_are_the_same_again() -> None:
    drawn = signs.words(rng(0), 200)
    assert drawn == signs.words(rng(0), 200)
    assert len(set(drawn)) > 150
    kinds = [word.isalpha() + 2 * word.isdigit() for word in drawn]
    assert all(kinds.count(kind) > 20 for kind in (0, 1, 2))
