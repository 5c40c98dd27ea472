"""The autoencoder and its file: shapes, configurations, and that equal models are equal bytes."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from tokenizer_service import coding, vq
from tokenizer_service.bodies import ConvolutionalConfig, FoldedConfig
from tokenizer_service.quantizers import FSQConfig, UnitConfig
from tokenizer_service.vq import VQ, VQConfig, Weights

SMALL = VQConfig(
    codebook_size=50, quantizer=UnitConfig(dim=4), body=FoldedConfig(widths=(8, 16), decoder_blocks=1)
)
PHOTOS_BHWC = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
BOUGHT = Weights(license="MIT", noncommercial=False, layout="taming", sha256="0" * 64)


def drawn(config: VQConfig, seed: int = 0) -> VQ:
    return vq.new(config, torch.Generator().manual_seed(seed)).eval()


MODEL = drawn(SMALL)


@pytest.mark.parametrize(
    "body",
    [
        SMALL.body,
        FoldedConfig(stem=8, widths=(16,), decoder_blocks=0),
        FoldedConfig(stem=1, widths=(8, 8, 8, 16), attention_blocks=1),
        ConvolutionalConfig(channels=32, multipliers=(1, 1, 1, 2), blocks=1, attention_levels=(1, 3)),
    ],
)
def test_the_shape_of_the_model_sets_the_pixels_a_code_stands_for(
    body: FoldedConfig | ConvolutionalConfig,
) -> None:
    config = VQConfig(codebook_size=50, body=body)
    model = drawn(config)
    assert config.downsample == 8
    codes_BT = coding.encode_images(model, PHOTOS_BHWC)
    assert codes_BT.shape == (3, 4)
    assert coding.decode_codes(model, codes_BT).shape == PHOTOS_BHWC.shape


@pytest.mark.parametrize("kind", vq.QUANTIZERS)
def test_a_saved_model_is_the_same_model_whatever_its_quantiser(kind: str) -> None:
    size = FSQConfig().size if kind == "fsq" else 50
    config = VQConfig.model_validate({"codebook_size": size, "quantizer": {"kind": kind}, "body": SMALL.body})
    model = drawn(config)
    data = vq.save(model)
    again = vq.load(data)
    assert vq.save(again) == data
    assert vq.fingerprint(again) == vq.fingerprint(model)
    assert again.config == config
    assert again.weights is None
    assert np.array_equal(coding.encode_images(again, PHOTOS_BHWC), coding.encode_images(model, PHOTOS_BHWC))
    again.quantizer.keep(again.embed(coding.to_floats(PHOTOS_BHWC)))  # and can be fitted further


def test_where_weights_come_from_is_in_the_file_and_part_of_its_identity() -> None:
    model = drawn(SMALL)
    model.weights = BOUGHT
    data = vq.save(model)
    assert vq.load(data).weights == BOUGHT
    assert vq.save(vq.load(data)) == data
    assert vq.fingerprint(model) != vq.fingerprint(MODEL)


@pytest.mark.parametrize("name", vq.PRESETS)
def test_a_preset_can_be_built_and_written_down(name: str) -> None:
    config = vq.PRESETS[name]
    assert VQConfig.model_validate_json(config.model_dump_json()) == config
    assert config.downsample == int(name.rpartition("f")[2])
    with torch.device("meta"):
        model = VQ(config)
    assert model.quantizer.size == config.codebook_size


def test_the_papers_setting_makes_1024_codes_of_8192_from_256_pixels() -> None:
    config = vq.PRESETS["cm3leon-256-f8"]
    assert ((256 // config.downsample) ** 2, config.codebook_size) == (1024, 8192)


def test_weights_are_those_of_the_seed() -> None:
    assert vq.fingerprint(drawn(SMALL)) == vq.fingerprint(MODEL)
    assert vq.fingerprint(drawn(SMALL, seed=1)) != vq.fingerprint(MODEL)


def test_nothing_is_drawn_from_the_randomness_of_the_process() -> None:
    before = torch.get_rng_state()
    for kind in vq.QUANTIZERS:
        size = FSQConfig().size if kind == "fsq" else 50
        drawn(VQConfig.model_validate({"codebook_size": size, "quantizer": {"kind": kind}}))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", vq.save(MODEL)[:100], vq.save(MODEL)[:-1]])
def test_what_was_not_saved_here_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"not an image tokenizer written by vq\.save"):
        vq.load(data)


@pytest.mark.parametrize(
    "body",
    [
        {"kind": "folded", "widths": []},
        {"kind": "folded", "widths": [12]},
        {"kind": "folded", "widths": [8, 0]},
        {"kind": "convolutional", "channels": 48},
        {"kind": "convolutional", "multipliers": [1, 2], "attention_levels": [2]},
    ],
)
def test_bodies_that_cannot_be_are_refused(body: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        VQConfig.model_validate({"body": body})


@pytest.mark.parametrize(("size", "fits"), [(262_144, True), (262_145, False), (1, False)])
def test_a_codebook_has_up_to_a_quarter_of_a_million_codes(size: int, *, fits: bool) -> None:
    if fits:
        assert VQConfig(codebook_size=size).codebook_size == size
    else:
        with pytest.raises(ValidationError):
            VQConfig(codebook_size=size)
