import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pipeline.likeness.perceptual import LOWEST, hashes

from .test_duplicates import Pixels, altered, photo


def bits_apart(one: Pixels, two: Pixels) -> int:
    found_N, _ = hashes([one, two])
    return int(np.bitwise_count(found_N[0] ^ found_N[1]))


@pytest.mark.parametrize("change", altered(photo(0)))
def test_an_altered_copy_stays_within_eight_bits_and_another_picture_does_not(change: str) -> None:
    for seed in range(6):
        copy = np.asarray(altered(photo(seed))[change])
        assert bits_apart(np.asarray(photo(seed)), copy) <= 8
        assert bits_apart(np.asarray(photo(seed)), np.asarray(photo(seed + 1))) > 8


def test_a_batch_gives_the_hashes_of_its_pictures_alone() -> None:
    pictures = [np.asarray(photo(seed, width=40 + 30 * seed, height=90)) for seed in range(5)]
    together, alone = hashes(pictures), [hashes([picture]) for picture in pictures]
    for side in (0, 1):
        assert np.array_equal(together[side], np.concatenate([one[side] for one in alone]))


def test_the_hash_of_the_mirror_image_is_told_without_looking_again() -> None:
    pictures = [np.asarray(photo(seed, width=128, height=128)) for seed in range(8)]
    _, told_N = hashes(pictures)
    seen_N, _ = hashes([np.ascontiguousarray(picture[:, ::-1]) for picture in pictures])
    assert np.bitwise_count(told_N ^ seen_N).max() <= 2  # Pillow rounds to 8 bits on the way


def wave(vertical: int, horizontal: int) -> NDArray[np.uint8]:
    """One frequency of a picture of 32 pixels a side."""
    centers = (np.arange(32) + 0.5) * np.pi / 32
    plane = np.cos(vertical * centers)[:, None] * np.cos(horizontal * centers)
    return np.repeat(np.rint(128 + 100 * plane).astype(np.uint8)[..., None], 3, 2)


@pytest.mark.parametrize("place", [0, 1, 31, 63])
def test_a_bit_is_set_by_its_own_frequency(place: int) -> None:
    found_N, mirrored_N = hashes([wave(*LOWEST[place])])
    assert int(found_N[0]) >> place & 1 == 1
    assert int(mirrored_N[0]) >> place & 1 == 1 - LOWEST[place][1] % 2


@pytest.mark.parametrize("color", [0, 7, 255])
def test_a_picture_of_one_colour_has_no_bit_set(color: int) -> None:
    assert [one.tolist() for one in hashes([np.full((20, 30, 3), color, np.uint8)])] == [[0], [0]]


def test_no_picture_has_no_hash() -> None:
    assert [len(one) for one in hashes([])] == [0, 0]


def test_a_picture_squeezed_before_has_nearly_the_same_hash() -> None:
    for seed in range(6):
        whole = photo(seed, width=300, height=200)
        small = whole.resize((64, 64), Image.Resampling.BILINEAR)
        assert bits_apart(np.asarray(whole), np.asarray(small)) <= 4
