"""The open_clip encoder, on a tiny model with random weights: it loads what is on disk and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import save_file

from retrieval.clip import OpenClipEncoder

SHAPE: dict[str, Any] = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "head_width": 32, "patch_size": 8},
    "text_cfg": {"context_length": 12, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}
PREPROCESS = {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.25], "interpolation": "bicubic"}
TEXTS = ["a red apple", "a rocket", "an umbrella in the rain"]


def write_model(folder: Path, **preprocess: Any) -> str:
    """A model folder as open_clip's ``local-dir:`` wants it; returns the architecture to load."""
    folder.mkdir(parents=True)
    (folder / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": SHAPE, "preprocess_cfg": PREPROCESS | preprocess})
    )
    torch.manual_seed(0)
    state = open_clip.CLIP(**SHAPE).state_dict()
    save_file(
        {name: tensor.contiguous() for name, tensor in state.items()}, folder / "open_clip_model.safetensors"
    )
    return f"local-dir:{folder}"


@pytest.fixture(scope="module")
def architecture(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_model(tmp_path_factory.mktemp("clip") / "tiny")


@pytest.fixture(scope="module")
def encoder(architecture: str) -> OpenClipEncoder:
    return OpenClipEncoder.load(architecture, None)


def pictures(height: int, width: int) -> NDArray[np.uint8]:
    """Smooth, as photographs are: [3, H, W, 3]."""
    y_HW, x_HW = np.mgrid[:height, :width]
    waves = [
        127 + 120 * np.sin(y_HW / (7 + k) + k) * np.cos(x_HW / (11 + channel))
        for k in range(3)
        for channel in range(3)
    ]
    return np.stack(waves).reshape(3, 3, height, width).transpose(0, 2, 3, 1).astype(np.uint8)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (80, 80), (60, 100)])
@pytest.mark.parametrize("resize_mode", ["shortest", "squash"])
def test_pixels_are_those_of_open_clips_own_transform(
    tmp_path: Path, resize_mode: str, height: int, width: int
) -> None:
    """The random model hardly tells pictures apart, so what goes into it is compared."""
    architecture = write_model(tmp_path / "model", resize_mode=resize_mode)
    _, _, transform = open_clip.create_model_and_transforms(architecture)
    images_BHWC = pictures(height, width)
    expected_BCHW = torch.stack([transform(Image.fromarray(image)) for image in images_BHWC])
    given_BCHW = OpenClipEncoder.load(architecture, None)._pixels(images_BHWC)  # noqa: SLF001  # as said above
    # In levels of 255. Pillow and torch round a resized pixel apart by one now and then.
    apart_BCHW = (given_BCHW - expected_BCHW).abs() * torch.tensor(PREPROCESS["std"])[:, None, None] * 255
    assert apart_BCHW.max() < 1.01
    assert apart_BCHW.mean() < 0.1


def test_images_encode_as_open_clip_encodes_them(architecture: str, encoder: OpenClipEncoder) -> None:
    model, _, transform = open_clip.create_model_and_transforms(architecture)
    images_BHWC = pictures(32, 32)
    batch_BCHW = torch.stack([transform(Image.fromarray(image)) for image in images_BHWC])
    with torch.inference_mode():
        expected_BD = model.eval().encode_image(batch_BCHW, normalize=True).numpy()
    assert np.abs(encoder.image_features(images_BHWC) - expected_BD).max() < 1e-5


def test_texts_encode_as_open_clip_encodes_them(architecture: str, encoder: OpenClipEncoder) -> None:
    model = open_clip.create_model(architecture).eval()
    with torch.inference_mode():
        expected = model.encode_text(open_clip.get_tokenizer(architecture)(TEXTS), normalize=True).numpy()
    assert np.abs(encoder.text_features(TEXTS) - expected).max() < 1e-6


def test_both_sides_have_one_width_and_unit_length(encoder: OpenClipEncoder) -> None:
    assert encoder.image_width == encoder.text_width == SHAPE["embed_dim"]
    for vectors_BD in (encoder.image_features(pictures(40, 40)), encoder.text_features(TEXTS)):
        assert vectors_BD.shape == (3, 16)
        assert vectors_BD.dtype == np.float32
        assert np.abs(np.linalg.norm(vectors_BD, axis=1) - 1).max() < 1e-6
    assert encoder.text_features([]).shape == (0, 16)
    assert encoder.image_features(pictures(40, 40)[:0]).shape == (0, 16)


def test_bfloat16_stays_close(architecture: str, encoder: OpenClipEncoder) -> None:
    low = OpenClipEncoder.load(architecture, None, dtype=torch.bfloat16)
    assert low.fingerprint == encoder.fingerprint
    assert (low.text_features(TEXTS) * encoder.text_features(TEXTS)).sum(axis=1).min() > 0.999
    images_BHWC = pictures(32, 32)
    cosines_B = (low.image_features(images_BHWC) * encoder.image_features(images_BHWC)).sum(axis=1)
    assert cosines_B.min() > 0.999


def test_a_checkpoint_file_loads_and_its_weights_and_preprocessing_make_the_fingerprint(
    encoder: OpenClipEncoder, tmp_path: Path
) -> None:
    (tmp_path / "tiny-for-tests.json").write_text(json.dumps(SHAPE))
    open_clip.add_model_config(tmp_path / "tiny-for-tests.json")
    state = encoder.module.state_dict()
    torch.save(state, tmp_path / "weights.pt")
    loaded = OpenClipEncoder.load("tiny-for-tests", tmp_path / "weights.pt")
    assert np.abs(loaded.text_features(TEXTS) - encoder.text_features(TEXTS)).max() < 1e-6
    torch.save(state | {"logit_scale": state["logit_scale"] + 1}, tmp_path / "other.pt")
    other = OpenClipEncoder.load("tiny-for-tests", tmp_path / "other.pt")
    # The same weights under open_clip's own mean and deviation are another encoder.
    assert len({encoder.fingerprint, loaded.fingerprint, other.fingerprint}) == 3


def test_random_weights_are_never_taken_for_trained_ones() -> None:
    with pytest.raises(RuntimeError, match="could not be loaded"):
        OpenClipEncoder.load("ViT-S-32-alt", None)


def test_preprocessing_that_is_not_reproduced_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="crops or squashes"):
        OpenClipEncoder.load(write_model(tmp_path / "model", resize_mode="longest"), None)


@pytest.mark.slow  # a compiler runs for half a minute
def test_compiled_towers_give_the_same_vectors(architecture: str, encoder: OpenClipEncoder) -> None:
    compiled = OpenClipEncoder.load(architecture, None, compiled=True)
    images_BHWC = pictures(40, 40)
    assert compiled.fingerprint == encoder.fingerprint
    for batch in (images_BHWC, images_BHWC[:2]):
        apart = compiled.image_features(batch) - encoder.image_features(batch)
        assert np.abs(apart).max() < 1e-5
    assert np.abs(compiled.text_features(TEXTS) - encoder.text_features(TEXTS)).max() < 1e-5


def test_bfloat16_gives_nearly_the_same_vectors_of_unit_length(
    architecture: str, encoder: OpenClipEncoder
) -> None:
    halved = OpenClipEncoder.load(architecture, None, dtype=torch.bfloat16)
    found, expected = (one.image_features(pictures(40, 40)) for one in (halved, encoder))
    assert not np.array_equal(found, expected)
    assert (found * expected).sum(1).min() > 0.999
    assert np.abs(np.linalg.norm(found, axis=1) - 1).max() < 1e-6
