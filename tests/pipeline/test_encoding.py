"""Images to codes: the same with any number of threads; a batch that does not fit says what to lower."""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from pipeline import encoding
from pipeline.step import OutOfMemory
from tokenizer_service import coding, images, vq
from tokenizer_service.coding import Numerics
from tokenizer_service.vq import Preprocessing, VQConfig

SIDE = 32
CONFIG = VQConfig(codebook_size=64)
SQUARE = partial(encoding.square, side=SIDE, preprocessing=CONFIG.preprocessing)
MODEL = vq.new(CONFIG, torch.Generator().manual_seed(0)).eval()


def stored(number: int) -> bytes:
    picture = np.random.default_rng(number).integers(0, 256, (40, 36, 3), dtype=np.uint8)
    sink = io.BytesIO()
    Image.fromarray(picture).save(sink, "PNG")
    return sink.getvalue()


STORED = [stored(number) for number in range(11)]


def codes(count: int, *, batch_images: int = 4, threads: int = 1) -> NDArray[np.integer]:
    numerics = Numerics(batch_images=batch_images)
    return encoding.codes(STORED[:count], model=MODEL, side=SIDE, numerics=numerics, threads=threads)


@pytest.mark.parametrize("count", [0, 1, 4, 11])
def test_codes_are_those_of_the_model_whatever_the_threads(count: int) -> None:
    squares = [SQUARE(image) for image in STORED[:count]]
    together = np.array(squares, np.uint8).reshape(-1, SIDE, SIDE, 3)
    expected = coding.encode_images(MODEL, together, numerics=Numerics(batch_images=4))
    for threads in (1, 3):
        found = codes(count, threads=threads)
        assert found.dtype == expected.dtype
        assert found.tolist() == expected.tolist()


def test_a_picture_is_made_a_square_as_the_tokenizer_was_trained_to_see_it() -> None:
    other = CONFIG.model_copy(update={"preprocessing": Preprocessing(resize="lanczos")})
    model = vq.new(other, torch.Generator().manual_seed(0)).eval()
    found = encoding.codes(STORED, model=model, side=SIDE, numerics=Numerics(), threads=1)
    assert found.tolist() != codes(len(STORED), batch_images=32).tolist()


def test_codes_beyond_two_bytes_take_four() -> None:
    model = vq.new(VQConfig(codebook_size=65_537), torch.Generator().manual_seed(0)).eval()
    found = encoding.codes([], model=model, side=SIDE, numerics=Numerics(), threads=1)
    assert (found.dtype, found.shape) == (np.uint32, (0, (SIDE // CONFIG.downsample) ** 2))


class Watched(Sequence[bytes]):
    """Knows how far it was read."""

    def __init__(self) -> None:
        self.read = 0

    def __len__(self) -> int:
        return len(STORED)

    def __getitem__(self, place: Any) -> Any:
        self.read = max(self.read, min(place.stop, len(self)))
        return STORED[place]


def test_only_a_few_batches_are_decoded_ahead() -> None:
    watched = Watched()
    batches = encoding.decoded(watched, SQUARE, batch_images=2, threads=2)
    read = [watched.read for _ in batches]
    assert read == [min(2 * (number + 1 + encoding.AHEAD), len(STORED)) for number in range(6)]


def test_what_cannot_be_decoded_raises_where_it_is_asked_for() -> None:
    with pytest.raises(images.Undecodable):
        list(encoding.decoded([*STORED, b"no image"], SQUARE, batch_images=4, threads=2))


def test_a_batch_that_does_not_fit_names_the_setting() -> None:
    class Full(torch.nn.Module):
        def forward(self, _x: torch.Tensor) -> torch.Tensor:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has …")

    model = vq.new(CONFIG, torch.Generator().manual_seed(0)).eval()
    model.encoder = Full()
    with pytest.raises(OutOfMemory, match=r"4 images of 32 px .* out of memory; lower .*encode.batch_images"):
        encoding.codes(STORED, model=model, side=SIDE, numerics=Numerics(batch_images=4), threads=1)
