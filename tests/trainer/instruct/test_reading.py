import cv2
import numpy as np
import pytest

from trainer.instruct import reading, signs
from trainer.instruct.reading import Reader

READS = pytest.mark.skipif(reading.missing() is not None, reason="rapidocr is not installed")


@pytest.fixture(scope="module")
def reader() -> Reader:
    return Reader.load()


@READS
@pytest.mark.long
def test_signs_are_read_as_they_were_written_also_blurred(reader: Reader) -> None:
    rng = np.random.default_rng(11)
    for text in ["STOP", "1991", "NO ENTRY", *signs.words(rng, 5)]:
        picture = signs.sign(text, 128, rng)
        blurred = np.asarray(cv2.GaussianBlur(picture, (0, 0), 1.5), np.uint8)
        assert reading.same(reader.read(picture), text)
        assert reading.same(reader.read(blurred), text)


@READS
@pytest.mark.long
def test_nothing_is_read_on_a_board_without_text_and_another_text_is_not_the_same(reader: Reader) -> None:
    assert reader.read(np.full((128, 128, 3), (200, 30, 40), np.uint8)) == ""
    assert not reading.same(reader.read(signs.sign("1997", 128, np.random.default_rng(0))), "1991")
