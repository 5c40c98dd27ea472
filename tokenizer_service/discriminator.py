"""The patch discriminator, and the schedule that lets it in without wrecking what the tokenizer can do.

A GAN term makes reconstructions sharp; entering late at full weight it has cost whole runs
(taming-transformers issue 44). So the discriminator learns alone first, its weight then grows from nothing,
the ratio of gradients that scales it is capped, and a fall of the watched PSNR halves it.

Surprising rule: GroupNorm stands where pix2pix has BatchNorm, whose statistics of a batch would tell true
images of drawn ones, and would have to be shared by ranks.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from pydantic import Field
from torch import Tensor, distributed, nn
from torch.nn import functional

from infra.settings import Section

# B images, C channels, H height, W width, h x w patches
LECAM_DECAY = 0.999
"""Of the running means that the regularisation compares with, as published."""
MOST_CHANNELS = 8
"""The widest layer, in widths of the first."""
GROUPS = 8


class GanConfig(Section):
    """A patch GAN beside the other losses. Off unless this table is there: it takes time that small machines
    spend better on more steps, and it pays PSNR for looks. The defaults are not tuned.
    """

    weight: float = Field(0.5, gt=0)
    """At its full; relative to the other losses where ``max_ratio`` does not cap it (LlamaGen: 0.5)."""
    begin: int = Field(2000, ge=0)
    """Steps without any discriminator."""
    alone_steps: int = Field(500, ge=0)
    """Steps in which it learns and the tokenizer does not hear of it."""
    ramp_steps: int = Field(2000, ge=1)
    """Steps in which its weight then grows from nothing to ``weight``."""
    max_ratio: float = Field(10.0, gt=0)
    """Cap on the ratio of gradients at the decoder's last layer. VQGAN's own of 10,000 caps nothing: a sure
    discriminator, whose gradient vanishes, takes over."""
    guard_db: float = Field(1.5, gt=0)
    """Halve the weight where the watched PSNR is so far below its best; some loss is the price of looks."""
    lecam_weight: float = Field(0.05, ge=0)
    """LeCam regularisation (Tseng et al., arXiv 2104.03310); IBQ has 0.05."""
    learning_rate: float = Field(1e-4, gt=0)
    """Of the discriminator, constant."""
    channels: int = Field(64, ge=GROUPS, multiple_of=GROUPS)
    """Of its first layer."""
    layers: int = Field(3, ge=1)
    """That halve the sides. With 3, a patch is 70 pixels."""


def ramp(config: GanConfig, step: int) -> float:
    """Share of the weight that counts in a step, the first being 1.

    >>> config = GanConfig(begin=10, alone_steps=5, ramp_steps=4)
    >>> [ramp(config, step) for step in (1, 15, 16, 18, 19, 99)]
    [0.0, 0.0, 0.25, 0.75, 1.0, 1.0]
    """
    return min(1.0, max(0, step - config.begin - config.alone_steps) / config.ramp_steps)


class Discriminator(nn.Module):
    """PatchGAN (Isola et al., arXiv 1611.07004): a logit for each patch, high where it takes it for true."""

    def __init__(self, config: GanConfig) -> None:
        super().__init__()
        widths = [config.channels * min(2**level, MOST_CHANNELS) for level in range(config.layers + 1)]
        layers: list[nn.Module] = [nn.Conv2d(3, widths[0], 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        for level in range(1, config.layers + 1):
            stride = 2 if level < config.layers else 1
            layers += [
                nn.Conv2d(widths[level - 1], widths[level], 4, stride=stride, padding=1, bias=False),
                nn.GroupNorm(GROUPS, widths[level]),
                nn.LeakyReLU(0.2),
            ]
        self.layers = nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, 4, padding=1))

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """[B, 1, h, w]."""
        logits_B1hw: Tensor = self.layers(images_BCHW)
        return logits_B1hw.float()


def new(config: GanConfig, generator: torch.Generator) -> Discriminator:
    """Weights drawn from ``generator``, as pix2pix has them."""
    with torch.device("meta"):
        net = Discriminator(config)
    net.to_empty(device="cpu")
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, 0.0, 0.02, generator=generator)
        elif isinstance(module, nn.GroupNorm):
            nn.init.ones_(module.weight)
        if isinstance(module, nn.Conv2d | nn.GroupNorm) and module.bias is not None:
            nn.init.zeros_(module.bias)
    return net


def smallest_side(config: GanConfig) -> int:
    """Pixels of the smallest image that leaves a patch to judge.

    >>> smallest_side(GanConfig(layers=3)), smallest_side(GanConfig(layers=1))
    (24, 6)
    """
    return 3 << config.layers


def hinge(true_logits: Tensor, drawn_logits: Tensor) -> Tensor:
    """The discriminator's loss (Lim and Ye, arXiv 1705.02894).

    >>> hinge(torch.tensor([2.0, 0.5]), torch.tensor([-2.0])).item()
    0.125
    """
    return 0.5 * (functional.relu(1 - true_logits).mean() + functional.relu(1 + drawn_logits).mean())


def lecam(true_logits: Tensor, drawn_logits: Tensor, means: Tensor) -> Tensor:
    """How far the logits went beyond the running means [2] of those of true and of drawn images."""
    above = functional.relu(true_logits - means[1]).square().mean()
    return above + functional.relu(means[0] - drawn_logits).square().mean()


def ratio(loss: Tensor, adversarial: Tensor, last: Tensor, *, most: float) -> Tensor:
    """What makes the adversarial term's gradient at the decoder's ``last`` weights as long as that of the
    others (Esser et al., arXiv 2012.09841, equation 7), at most ``most``; the mean over ranks.
    """
    (plain,) = torch.autograd.grad(loss, last, retain_graph=True)
    (other,) = torch.autograd.grad(adversarial, last, retain_graph=True)
    found = (plain.norm() / (other.norm() + 1e-4)).clamp(max=most).detach()
    return averaged(found)


def averaged(values: Tensor) -> Tensor:
    """The mean over the ranks, where there are any."""
    if distributed.is_initialized():
        distributed.all_reduce(values)
        values /= distributed.get_world_size()
    return values


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """How much of the weight is left, and the best PSNR that was watched."""

    scale: float = 1.0
    best_db: float = float("-inf")

    def saw(self, psnr_db: float, config: GanConfig) -> Guard:
        """After a validation.

        >>> Guard(best_db=20.0).saw(18.0, GanConfig(guard_db=1.5))
        Guard(scale=0.5, best_db=20.0)
        """
        fell = psnr_db < self.best_db - config.guard_db
        return Guard(scale=self.scale / 2 if fell else self.scale, best_db=max(self.best_db, psnr_db))
