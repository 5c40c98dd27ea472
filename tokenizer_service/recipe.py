"""How the image tokenizer is fitted: the settings of the losses, of the steps and of the numerics."""

from __future__ import annotations

import math
from typing import Literal, Self

from pydantic import Field, model_validator

from infra.settings import Section
from tokenizer_service.crops import CropConfig
from tokenizer_service.discriminator import GanConfig
from tokenizer_service.perceptual import LpipsFiles
from tokenizer_service.vq import VQConfig


class VQFitConfig(Section):
    """How the image tokenizer is fitted. The defaults suit some thousand images of 64 px on two CPU cores."""

    vq: VQConfig = VQConfig()
    seed: int = 0
    steps: int = Field(1400, ge=1)
    batch_images: int = Field(32, ge=1)
    """Of a step, over all workers."""
    learning_rate: float = Field(2e-3, gt=0)
    """The peak, reached after ``warmup_steps``; half a cosine brings it to zero."""
    warmup_steps: int = Field(50, ge=0)
    weight_decay: float = Field(0.02, ge=0)
    clip_norm: float = Field(1.0, gt=0)
    mse_weight: float = Field(1.0, ge=0)
    l1_weight: float = Field(0.0, ge=0)
    perceptual_weight: float = Field(0.0, ge=0)
    """By EfficientNet-Lite0, or by LPIPS where ``lpips`` names its files."""
    lpips: LpipsFiles | None = None
    crops: CropConfig | None = None
    """Look again at boxes, where boxes are given."""
    gan: GanConfig | None = None
    """Off by default: it takes time, and it pays PSNR for looks."""
    revive_until: float = Field(0.8, ge=0, le=1)
    """Share of the steps after which dead codes stay where they are, so that the decoder can settle."""
    average_decay: float = Field(0.99, ge=0, lt=1)
    """Of the moving average of the weights, which is what is kept."""
    flip_share: float = Field(0.5, ge=0, le=1)
    """Images mirrored left to right in training."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """bfloat16 is autocast: weights, losses and the search for codes stay float32."""
    engine: Literal["eager", "compile"] = "eager"
    """compile: ``torch.compile`` of encoder and decoder; needs a C++ compiler, or Triton on a GPU."""
    report_every: int = Field(50, ge=1)

    @model_validator(mode="after")
    def _something_is_asked_of_the_pixels(self) -> Self:
        if not (self.mse_weight or self.l1_weight or self.perceptual_weight):
            raise ValueError("mse_weight, l1_weight and perceptual_weight are all 0; raise one of them")
        return self

    @property
    def compares(self) -> bool:
        """Whether a perceptual network is asked for."""
        return self.perceptual_weight > 0 or (self.crops is not None and self.crops.perceptual_weight > 0)

    def by_content(self) -> VQFitConfig:
        """With the sha256 of weights where their paths stood: what an identity may depend on."""
        return self if self.lpips is None else self.model_copy(update={"lpips": self.lpips.by_content()})


def learning_rate(config: VQFitConfig, step: int) -> float:
    """Of a step, the first being 1.

    >>> config = VQFitConfig(steps=100, learning_rate=1.0, warmup_steps=4)
    >>> [round(learning_rate(config, step), 3) for step in (1, 2, 51, 100)]
    [0.25, 0.5, 0.5, 0.0]
    """
    cosine = 0.5 * (1 + math.cos(math.pi * (step - 1) / config.steps))
    return config.learning_rate * cosine * min(1.0, step / max(1, config.warmup_steps))
