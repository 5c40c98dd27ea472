"""Look again at the faces and the words: Make-A-Scene's emphasis (arXiv 2203.13131, section 3.2) as a loss.

A face of 20 pixels is a hundredth of a picture and most of what people look at. Its box is cut from the drawn
and the true picture, enlarged to one size, and compared once more. Who finds the boxes is not said here.

Surprising rule: Make-A-Scene compares faces by a network that recognises people. We recognise nobody: crops
go through the same losses as the whole picture.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from infra.settings import Section
from tokenizer_service.perceptual import Perceptual

# B images, C channels, H height, W width, N boxes


class CropConfig(Section):
    """An extra loss over boxes; none unless boxes are given."""

    side: int = Field(64, ge=16)
    """Pixels that a box is resampled to."""
    l1_weight: float = Field(0.2, ge=0)
    perceptual_weight: float = Field(0.1, ge=0)
    most: int = Field(32, ge=1)
    """Boxes of a batch, the largest: a page of text has hundreds."""


def loss(
    drawn_BCHW: Tensor,
    true_BCHW: Tensor,
    boxes_N5: Tensor,
    config: CropConfig,
    *,
    perceptual: Perceptual | None,
) -> Tensor:
    """Of boxes [N, 5]: row of the batch, left, top, right, bottom in pixels. 0 without boxes."""
    boxes_N5 = largest(boxes_N5, config.most)
    if not len(boxes_N5):
        return drawn_BCHW.new_zeros(())
    drawn, true = (cut(images, boxes_N5, config.side) for images in (drawn_BCHW, true_BCHW))
    found = config.l1_weight * functional.l1_loss(drawn, true)
    if perceptual is not None and config.perceptual_weight:
        found = found + config.perceptual_weight * perceptual(drawn, true)
    return found


def largest(boxes_N5: Tensor, most: int) -> Tensor:
    areas_N = (boxes_N5[:, 3] - boxes_N5[:, 1]) * (boxes_N5[:, 4] - boxes_N5[:, 2])
    return boxes_N5[areas_N.argsort(descending=True, stable=True)[:most]]


def cut(images_BCHW: Tensor, boxes_N5: Tensor, side: int) -> Tensor:
    """Crops [N, C, side, side], bilinear; what lies outside the picture repeats its edge."""
    rows_N = boxes_N5[:, 0].long()
    height, width = images_BCHW.shape[2:]
    low_N2 = boxes_N5[:, 1:3] / torch.tensor([width, height], device=boxes_N5.device) * 2 - 1
    high_N2 = boxes_N5[:, 3:5] / torch.tensor([width, height], device=boxes_N5.device) * 2 - 1
    theta_N23 = torch.diag_embed((high_N2 - low_N2) / 2)
    theta_N23 = torch.cat([theta_N23, ((high_N2 + low_N2) / 2).unsqueeze(2)], dim=2)
    places = functional.affine_grid(theta_N23, [len(rows_N), 3, side, side], align_corners=False)
    return functional.grid_sample(
        images_BCHW[rows_N].float(), places.float(), padding_mode="border", align_corners=False
    )
