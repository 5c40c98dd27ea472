"""The autoencoder as arrays in, arrays out: shapes, the row-wise law, saving, and what it refuses."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tokenizer_service import vq
from tokenizer_service.vq import Numerics, VQConfig

SMALL = VQConfig(codebook_size=50, code_dim=4, widths=(8, 16), decoder_blocks=1)
RNG = np.random.default_rng(0)
PHOTOS_BHWC = RNG.integers(0, 256, (11, 16, 16, 3), dtype=np.uint8)
FOURS = Numerics(batch_images=4)


def drawn(config: VQConfig, seed: int = 0) -> vq.VQ:
    return vq.new(config, torch.Generator().manual_seed(seed)).eval()


MODEL = drawn(SMALL)
CODES_BT = vq.encode_images(MODEL, PHOTOS_BHWC, numerics=FOURS)


def test_an_image_becomes_one_code_for_each_square_and_comes_back() -> None:
    assert CODES_BT.shape == (11, 4)
    assert CODES_BT.dtype == np.uint16
    images_BHWC = vq.decode_codes(MODEL, CODES_BT, numerics=FOURS)
    assert images_BHWC.shape == PHOTOS_BHWC.shape
    assert images_BHWC.dtype == np.uint8


def test_nothing_in_gives_nothing_out() -> None:
    codes_BT = vq.encode_images(MODEL, PHOTOS_BHWC[:0])
    assert codes_BT.shape == (0, 4)
    assert vq.decode_codes(MODEL, codes_BT).shape == (0, 16, 16, 3)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@given(chosen=st.lists(st.integers(0, 10), min_size=1, max_size=9))
def test_images_encoded_together_are_encoded_as_alone(dtype: str, chosen: list[int]) -> None:
    numerics = Numerics(batch_images=4, dtype=dtype)
    whole_BT = vq.encode_images(MODEL, PHOTOS_BHWC, numerics=numerics)
    assert np.array_equal(vq.encode_images(MODEL, PHOTOS_BHWC[chosen], numerics=numerics), whole_BT[chosen])


@given(chosen=st.lists(st.integers(0, 10), min_size=1, max_size=9))
def test_codes_decoded_together_are_decoded_as_alone(chosen: list[int]) -> None:
    whole_BHWC = vq.decode_codes(MODEL, CODES_BT, numerics=FOURS)
    assert np.array_equal(vq.decode_codes(MODEL, CODES_BT[chosen], numerics=FOURS), whole_BHWC[chosen])


def test_codes_are_in_raster_order() -> None:
    image_HWC = PHOTOS_BHWC[0].copy()
    image_HWC[8:, :8] = 255
    changed = vq.encode_images(MODEL, image_HWC[None])[0] != vq.encode_images(MODEL, PHOTOS_BHWC[:1])[0]
    tall = vq.encode_images(MODEL, np.concatenate([image_HWC, image_HWC])[None])
    assert changed[2]
    assert tall.shape == (1, 8)


def test_the_code_is_the_nearest_of_the_codebook() -> None:
    vectors_ND = torch.nn.functional.normalize(torch.from_numpy(RNG.standard_normal((200, 4))).float())
    distance_NK = torch.cdist(vectors_ND, MODEL.codebook_KD)
    assert torch.equal(MODEL.nearest(vectors_ND), distance_NK.argmin(dim=1))
    assert MODEL.nearest(MODEL.codebook_KD).tolist() == list(range(50))


@pytest.mark.parametrize(
    "config",
    [
        SMALL,
        VQConfig(codebook_size=50, stem=8, widths=(16,), decoder_blocks=0),
        VQConfig(codebook_size=50, stem=1, widths=(8, 8, 8, 16), attention_blocks=1),
    ],
)
def test_the_shape_of_the_model_sets_the_pixels_a_code_stands_for(config: VQConfig) -> None:
    model = drawn(config)
    assert config.downsample == 8
    codes_BT = vq.encode_images(model, PHOTOS_BHWC[:2])
    assert codes_BT.shape == (2, 4)
    assert vq.decode_codes(model, codes_BT).shape == (2, 16, 16, 3)


def test_a_saved_model_is_the_same_model() -> None:
    data = vq.save(MODEL)
    again = vq.load(data)
    assert vq.save(again) == data
    assert vq.fingerprint(again) == vq.fingerprint(MODEL)
    assert again.config == SMALL
    assert np.array_equal(vq.encode_images(again, PHOTOS_BHWC, numerics=FOURS), CODES_BT)


def test_weights_are_those_of_the_seed() -> None:
    assert vq.fingerprint(drawn(SMALL)) == vq.fingerprint(MODEL)
    assert vq.fingerprint(drawn(SMALL, seed=1)) != vq.fingerprint(MODEL)


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", vq.save(MODEL)[:100], vq.save(MODEL)[:-1]])
def test_what_was_not_saved_here_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"not an image tokenizer written by vq\.save"):
        vq.load(data)


@pytest.mark.parametrize(
    "images_BHWC",
    [PHOTOS_BHWC[:, :12], PHOTOS_BHWC[..., :1], PHOTOS_BHWC.astype(np.float32), PHOTOS_BHWC[:, :0]],
)
def test_images_that_do_not_fit_the_grid_are_refused(images_BHWC: np.ndarray) -> None:
    with pytest.raises(ValueError, match="multiples of 8"):
        vq.encode_images(MODEL, images_BHWC)


@pytest.mark.parametrize(
    ("codes", "complaint"),
    [([[0, 1, 2]], "square grid"), ([[50]], "codes must be"), ([[-1]], "codes must be")],
)
def test_codes_that_are_no_image_are_refused(codes: list[list[int]], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        vq.decode_codes(MODEL, np.array(codes))


@pytest.mark.parametrize("widths", [[], [12], [8, 0]])
def test_widths_that_cannot_be_normalised_in_groups_are_refused(widths: list[int]) -> None:
    with pytest.raises(ValidationError):
        VQConfig.model_validate({"widths": widths})
