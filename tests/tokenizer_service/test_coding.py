"""Arrays in, arrays out: shapes, the row-wise law, the batches' size, and what is refused."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tokenizer_service import coding, vq
from tokenizer_service.bodies import ConvolutionalConfig, FoldedConfig
from tokenizer_service.coding import Numerics
from tokenizer_service.quantizers import LookupConfig, UnitConfig
from tokenizer_service.vq import VQConfig

SMALL = VQConfig(
    codebook_size=50, quantizer=UnitConfig(dim=4), body=FoldedConfig(widths=(8, 16), decoder_blocks=1)
)
BODY = ConvolutionalConfig(
    channels=32, multipliers=(1, 1, 2, 2), blocks=1, attention_levels=(3,), z_channels=8
)
CONVOLUTIONAL = VQConfig(codebook_size=50, quantizer=LookupConfig(dim=4), body=BODY)
RNG = np.random.default_rng(0)
PHOTOS_BHWC = RNG.integers(0, 256, (11, 16, 16, 3), dtype=np.uint8)
FOURS = Numerics(batch_images=4)


def drawn(config: VQConfig) -> vq.VQ:
    return vq.new(config, torch.Generator().manual_seed(0)).eval()


MODEL = drawn(SMALL)
CODES_BT = coding.encode_images(MODEL, PHOTOS_BHWC, numerics=FOURS)


def test_an_image_becomes_one_code_for_each_square_and_comes_back() -> None:
    assert CODES_BT.shape == (11, 4)
    assert CODES_BT.dtype == np.uint16
    images_BHWC = coding.decode_codes(MODEL, CODES_BT, numerics=FOURS)
    assert images_BHWC.shape == PHOTOS_BHWC.shape
    assert images_BHWC.dtype == np.uint8


def test_nothing_in_gives_nothing_out() -> None:
    codes_BT = coding.encode_images(MODEL, PHOTOS_BHWC[:0])
    assert codes_BT.shape == (0, 4)
    assert codes_BT.dtype == np.uint16
    assert coding.decode_codes(MODEL, codes_BT).shape == (0, 16, 16, 3)


@pytest.mark.parametrize("config", [SMALL, CONVOLUTIONAL], ids=["folded", "convolutional"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_images_encoded_together_are_encoded_as_alone(config: VQConfig, dtype: str) -> None:
    model, numerics = drawn(config), Numerics.model_validate({"batch_images": 4, "dtype": dtype})
    whole_BT = coding.encode_images(model, PHOTOS_BHWC, numerics=numerics)
    for chosen in ([0], [3, 3, 10], [7, 6, 5, 4, 3], list(range(11))):
        some_BT = coding.encode_images(model, PHOTOS_BHWC[chosen], numerics=numerics)
        assert np.array_equal(some_BT, whole_BT[chosen])


@given(chosen=st.lists(st.integers(0, 10), min_size=1, max_size=9))
def test_codes_decoded_together_are_decoded_as_alone(chosen: list[int]) -> None:
    whole_BHWC = coding.decode_codes(MODEL, CODES_BT, numerics=FOURS)
    assert np.array_equal(coding.decode_codes(MODEL, CODES_BT[chosen], numerics=FOURS), whole_BHWC[chosen])


def test_codes_are_in_raster_order() -> None:
    image_HWC = PHOTOS_BHWC[0].copy()
    image_HWC[8:, :8] = 255
    changed = (
        coding.encode_images(MODEL, image_HWC[None])[0] != coding.encode_images(MODEL, PHOTOS_BHWC[:1])[0]
    )
    tall = coding.encode_images(MODEL, np.concatenate([image_HWC, image_HWC])[None])
    assert changed[2]
    assert tall.shape == (1, 8)


@pytest.mark.parametrize(("size", "dtype"), [(65_536, np.uint16), (65_537, np.uint32)])
def test_codes_take_two_bytes_as_long_as_they_fit(size: int, dtype: type) -> None:
    model = drawn(VQConfig(codebook_size=size, quantizer=UnitConfig(dim=2), body=SMALL.body))
    model.quantizer.codebook_KD[:-1] = model.quantizer.codebook_KD[-1:] * -1
    codes_BT = coding.encode_images(model, PHOTOS_BHWC)
    assert codes_BT.dtype == dtype
    assert codes_BT.max() == size - 1
    assert np.array_equal(
        coding.decode_codes(model, codes_BT), coding.decode_codes(model, codes_BT.astype(np.int64))
    )


def test_levels_become_the_floats_that_the_published_tokenizers_compute() -> None:
    levels = np.arange(256, dtype=np.uint8)
    images_BHWC = np.stack([levels] * 3, axis=-1)[None, None]
    floats = coding.to_floats(images_BHWC)[0, 0, 0].numpy()
    assert np.array_equal(floats, (levels / 127.5 - 1).astype(np.float32))
    assert np.array_equal(floats, (2.0 * (levels / 255) - 1).astype(np.float32))
    assert np.array_equal(coding.to_pixels(coding.to_floats(images_BHWC)), images_BHWC)


@pytest.mark.parametrize(
    ("side", "asked", "images"), [(64, 32, 32), (64, 33, 32), (128, 32, 8), (512, 32, 1), (128, 3, 3)]
)
def test_a_batch_on_a_cpu_is_as_small_as_its_cache_and_never_larger_than_asked(
    side: int, asked: int, images: int
) -> None:
    numerics = Numerics(batch_images=asked)
    assert coding.batch_images(drawn(CONVOLUTIONAL), side * side, numerics) == images


def test_the_demos_images_go_together() -> None:
    assert coding.batch_images(drawn(VQConfig()), 64 * 64, coding.NUMERICS) == coding.NUMERICS.batch_images


def test_kernels_have_their_channels_last() -> None:
    model = vq.load(vq.save(drawn(CONVOLUTIONAL)))
    kernels = [weight for weight in model.parameters() if weight.dim() == 4]
    assert all(weight.is_contiguous(memory_format=torch.channels_last) for weight in kernels)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_compiled_the_model_gives_the_same_codes() -> None:
    model = drawn(SMALL)
    compiled_BT = coding.encode_images(model, PHOTOS_BHWC, numerics=Numerics(batch_images=4, compile=True))
    assert (compiled_BT == CODES_BT).mean() > 0.97
    drawn_BHWC = coding.decode_codes(model, CODES_BT, numerics=Numerics(batch_images=4, compile=True))
    plain_BHWC = coding.decode_codes(model, CODES_BT, numerics=FOURS)
    assert np.abs(drawn_BHWC.astype(int) - plain_BHWC).max() <= 1


@pytest.mark.parametrize(
    "images_BHWC",
    [PHOTOS_BHWC[:, :12], PHOTOS_BHWC[..., :1], PHOTOS_BHWC.astype(np.float32), PHOTOS_BHWC[:, :0]],
)
def test_images_that_do_not_fit_the_grid_are_refused(images_BHWC: np.ndarray) -> None:
    with pytest.raises(ValueError, match="multiples of 8"):
        coding.encode_images(MODEL, images_BHWC)


@pytest.mark.parametrize(
    ("codes", "complaint"),
    [([[0, 1, 2]], "square grid"), ([[50]], "codes must be"), ([[-1]], "codes must be")],
)
def test_codes_that_are_no_image_are_refused(codes: list[list[int]], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        coding.decode_codes(MODEL, np.array(codes))


@pytest.mark.gpu
def test_a_gpu_gives_nearly_the_same_codes() -> None:
    on_gpu = coding.encode_images(drawn(CONVOLUTIONAL).to("cuda"), PHOTOS_BHWC)
    assert (on_gpu == coding.encode_images(drawn(CONVOLUTIONAL), PHOTOS_BHWC)).mean() > 0.95
