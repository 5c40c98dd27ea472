"""Fit the image tokenizer: counted in steps, never in seconds, so that it repeats byte for byte.

Here it begins, and here it runs on images that fit in memory; :mod:`tokenizer_service.descent` has the step,
and a corpus too large for memory comes as another stream of the same batches. The text tokenizer's fit is
:func:`text.fit`.

Surprising rule: a codebook without gradient moves after each step, in ``Quantizer.settle``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from tokenizer_service import discriminator, vq
from tokenizer_service.adversary import Adversary
from tokenizer_service.coding import Pixels
from tokenizer_service.descent import Batch, Descent
from tokenizer_service.perceptual import Perceptual
from tokenizer_service.recipe import VQFitConfig
from tokenizer_service.vq import VQ

# B images, C channels, H height, W width, N images in all
WATCHED = 64
"""Images of a fit in memory by which the adversary is guarded."""

Report = Callable[[int, dict[str, float]], None]
"""Called with the number of finished steps and what they measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    model: VQ
    curves: tuple[dict[str, float], ...]
    """What was reported, with its ``step``."""


def fit_vq(
    images_NHWC: Pixels,
    config: VQFitConfig,
    *,
    report: Report,
    perceptual: Perceptual | None = None,
    device: str = "cpu",
) -> Fitted:
    """Fit on uint8 images [N, H, W, 3]; on one kind of CPU, with as many threads, the same bytes every time.

    All that is random is drawn on the CPU, so a GPU sees the same batches and begins with the same weights.

    ``report`` is called every ``report_every`` steps and after the last.
    """
    check(images_NHWC, config, perceptual)
    if config.crops is not None:
        raise ValueError("fit.crops looks at boxes, which only `pardalis tokenizer fit` finds; leave it out")
    batches = Squares(images_NHWC, config)
    descent = begin(config, next(batches), perceptual=perceptual, device=device)
    curves: list[dict[str, float]] = []
    while descent.step < config.steps:
        descent.advance(next(batches))
        if descent.step % config.report_every == 0 or descent.step == config.steps:
            curves.append(descent.facts())
            if config.gan is not None:
                curves[-1] |= descent.watch(images_NHWC[:WATCHED])
            report(descent.step, curves[-1])
    return Fitted(model=descent.average, curves=tuple(curves))


def check(images_NHWC: Pixels, config: VQFitConfig, perceptual: Perceptual | None) -> None:
    """Refuse images that the settings cannot be fitted on."""
    f, shape = config.vq.downsample, images_NHWC.shape
    if not shape[0] or shape[3] != 3 or shape[1] % f or shape[2] % f:
        raise ValueError(f"images must be [N, H, W, 3] with sides that are multiples of {f}, got {shape}")
    if config.compares and perceptual is None:
        weight = config.perceptual_weight
        raise ValueError(f"perceptual_weight is {weight} but no perceptual loss was given")
    if config.gan is not None and min(shape[1:3]) < (least := discriminator.smallest_side(config.gan)):
        raise ValueError(
            f"gan.layers = {config.gan.layers} judges patches of images of at least {least} px, got {shape}; "
            "lower it"
        )


def begin(
    config: VQFitConfig,
    first: Batch,
    *,
    perceptual: Perceptual | None,
    device: str,
    init: VQ | None = None,
) -> Descent:
    """A fit that has taken no step; the ``first`` batch seeds the codebook, or weighs that of ``init``."""
    generator = torch.Generator().manual_seed(config.seed)
    model = vq.new(config.vq, generator) if init is None else init.requires_grad_()
    # Tensor cores read channels last; kernels in another layout would be turned around in every step.
    layout = torch.channels_last if device != "cpu" else torch.preserve_format
    model = model.to(device).to(memory_format=layout)
    descent = Descent(
        model,
        config,
        perceptual=perceptual,
        adversary=adversary(config, device),
        generator=generator,
    )
    descent.seed(first, keep=init is not None)
    return descent


def adversary(config: VQFitConfig, device: str) -> Adversary | None:
    """From a generator of its own: until its weight grows, the fit is the same as without it."""
    if config.gan is None:
        return None
    generator = torch.Generator().manual_seed(config.seed)
    return Adversary(discriminator.new(config.gan, generator).to(device), config.gan)


class Squares:
    """Endless batches of images in memory: every one once in a random order, then again in another."""

    def __init__(self, images_NHWC: Pixels, config: VQFitConfig) -> None:
        self.images_NHWC, self.config = images_NHWC, config
        self.generator = torch.Generator().manual_seed(config.seed)
        self.waiting_N = torch.empty(0, dtype=torch.long)

    def __next__(self) -> Batch:
        size = self.config.batch_images
        while len(self.waiting_N) < size:
            order_N = torch.randperm(len(self.images_NHWC), generator=self.generator)
            self.waiting_N = torch.cat([self.waiting_N, order_N])
        now_B, self.waiting_N = self.waiting_N[:size], self.waiting_N[size:]
        flips_B = torch.rand(size, generator=self.generator) < self.config.flip_share
        batch_BHWC = self.images_NHWC[now_B.numpy()]
        batch_BHWC[flips_B.numpy()] = batch_BHWC[flips_B.numpy(), :, ::-1]
        return Batch(images_BHWC=batch_BHWC)
