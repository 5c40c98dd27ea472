import numpy as np
import pytest
import torch

from tokenizer_service import crops
from tokenizer_service.crops import CropConfig

IMAGES = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
CONFIG = CropConfig(side=16)


def boxes(*rows: tuple[float, ...]) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float32).reshape(-1, 5)


def test_a_crop_of_its_own_size_is_the_slice() -> None:
    cut = crops.cut(IMAGES, boxes((1, 8, 4, 24, 20)), 16)
    assert torch.allclose(cut[0], IMAGES[1, :, 4:20, 8:24], atol=1e-5)


def test_a_crop_is_enlarged_evenly() -> None:
    slope = torch.linspace(0, 1, 32).expand(1, 3, 32, 32)
    (cut,) = crops.cut(slope, boxes((0, 8, 8, 16, 16)), 16)
    steps = cut[0, 0, 1:-1].diff()
    assert torch.allclose(steps, torch.full_like(steps, 1 / 31 / 2), atol=1e-5)


def test_only_what_is_in_a_box_has_a_gradient() -> None:
    drawn = torch.zeros_like(IMAGES, requires_grad=True)
    crops.loss(drawn, IMAGES, boxes((0, 8, 8, 24, 24)), CONFIG, perceptual=None).backward()
    assert drawn.grad is not None
    inside = torch.zeros(2, 1, 32, 32)
    inside[0, :, 7:25, 7:25] = 1
    assert (drawn.grad[0, :, 9:23, 9:23] != 0).all()
    assert (drawn.grad * (1 - inside) == 0).all()


def test_without_boxes_or_without_a_difference_there_is_no_loss() -> None:
    assert crops.loss(IMAGES, IMAGES + 1, boxes(), CONFIG, perceptual=None).item() == 0.0
    assert crops.loss(IMAGES, IMAGES, boxes((0, 1, 1, 9, 9)), CONFIG, perceptual=None).item() == 0.0


def test_the_largest_boxes_are_looked_at() -> None:
    three = boxes((0, 0, 0, 2, 2), (1, 0, 0, 9, 9), (0, 0, 0, 4, 4))
    assert crops.largest(three, 2).tolist() == [three[1].tolist(), three[2].tolist()]


def test_the_perceptual_network_is_shown_the_crops() -> None:
    shapes = []

    def judge(drawn: torch.Tensor, true: torch.Tensor) -> torch.Tensor:
        shapes.append((drawn.shape, true.shape))
        return torch.tensor(2.0)

    found = crops.loss(IMAGES, IMAGES, boxes((0, 1, 1, 9, 9)), CONFIG, perceptual=judge)
    assert shapes == [((1, 3, 16, 16), (1, 3, 16, 16))]
    assert found.item() == pytest.approx(2.0 * CONFIG.perceptual_weight)
    assert np.isfinite(found.item())
