"""The Inception of FID: its tensors and its two ways of pooling, and files of something else."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional

from tokenizer_service import inception
from tokenizer_service.inception import Inception

pytestmark = pytest.mark.long

IMAGES = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drawn at random, as the published file lays them out."""
    torch.manual_seed(0)
    state = {
        name: tensor if tensor.dtype == torch.int64 else 0.05 * torch.rand_like(tensor)
        for name, tensor in inception.network().state_dict().items()
    }
    file = tmp_path_factory.mktemp("weights") / inception.FILE
    torch.save(state, file)
    return file


def test_the_layout_is_that_of_the_published_file(weights: Path) -> None:
    state = torch.load(weights, weights_only=True)
    assert state["Conv2d_1a_3x3.conv.weight"].shape == (32, 3, 3, 3)
    assert state["Mixed_7c.branch_pool.bn.running_var"].shape == (192,)
    assert state["fc.weight"].shape == (inception.NUM_CLASSES, inception.WIDTH)
    assert not any(name.startswith("AuxLogits") for name in state)


@pytest.fixture(scope="module")
def loaded(weights: Path) -> Inception:
    return inception.load(weights)


def test_features_are_told_with_the_sum_of_the_file(loaded: Inception) -> None:
    assert loaded.features(IMAGES).shape == (2, inception.WIDTH)
    assert not loaded.is_published
    assert len(loaded.sha256) == 64


@pytest.mark.parametrize(
    ("name", "pooled"),
    [
        ("Mixed_5b", "average"),
        ("Mixed_6e", "average"),
        ("Mixed_7b", "average"),
        ("Mixed_7c", "largest"),
    ],
)
def test_the_last_block_takes_the_largest_and_the_others_average_without_padding(
    loaded: Inception, name: str, pooled: str
) -> None:
    block = getattr(loaded.module, name)
    channels = block.branch_pool.conv.in_channels
    x = torch.rand(1, channels, 4, 4, generator=torch.Generator().manual_seed(0))
    corner = x[:, :, :2, :2].flatten(2)  # what a window of three sees at the corner
    expected = corner.mean(2) if pooled == "average" else corner.amax(2)
    last = block.branch_pool.conv.out_channels
    seen = block(x)[:, -last:, 0, 0]
    kernel = block.branch_pool.conv.weight[:, :, 0, 0]
    bn = block.branch_pool.bn
    normal = (expected @ kernel.T - bn.running_mean) / torch.sqrt(bn.running_var + bn.eps)
    assert torch.allclose(seen, functional.relu(normal * bn.weight + bn.bias), atol=1e-5)


def test_another_file_is_refused_by_its_name(tmp_path: Path) -> None:
    file = tmp_path / "other.pth"
    torch.save({"conv1.weight": torch.zeros(3)}, file)
    with pytest.raises(ValueError, match=r"other.pth holds no weights of the Inception of FID"):
        inception.load(file)
    save_file({"conv1.weight": torch.zeros(3)}, file)
    with pytest.raises(ValueError, match=r"other\.pth"):
        inception.load(file)
