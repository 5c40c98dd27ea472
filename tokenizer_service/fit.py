"""Fit the image tokenizer: counted in steps, never in seconds, so that it repeats byte for byte.

Surprising rule: the codebook has no gradient. Each code follows the moving average of the vectors that chose
it, and a code that nothing chooses is moved onto a vector of the current batch (VQ-VAE-2, arXiv 1906.00446,
appendix A.1; Jukebox, arXiv 2005.00341, section 3.1). The text tokenizer's fit is :func:`text.fit`.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional
from torch.nn.utils import clip_grad_norm_

from infra.settings import Section
from tokenizer_service import vq
from tokenizer_service.vq import VQ, Pixels, VQConfig

# B images, C channels, H height, W width, D code dimensions, K codebook size, N vectors, h x w grid

Report = Callable[[int, dict[str, float]], None]
"""Called with the number of finished steps and what they measured."""
Perceptual = Callable[[Tensor, Tensor], Tensor]
"""A scalar from drawn and true images [B, 3, H, W] in [-1, 1]."""


class VQFitConfig(Section):
    """How the image tokenizer is fitted. The defaults suit some thousand images of 64 px on two CPU cores."""

    vq: VQConfig = VQConfig()
    seed: int = 0
    steps: int = Field(1400, ge=1)
    batch_images: int = Field(32, ge=1)
    learning_rate: float = Field(2e-3, gt=0)
    """The peak, reached after ``warmup_steps``; half a cosine brings it to zero."""
    warmup_steps: int = Field(50, ge=0)
    weight_decay: float = Field(0.02, ge=0)
    clip_norm: float = Field(1.0, gt=0)
    mse_weight: float = Field(1.0, ge=0)
    l1_weight: float = Field(0.0, ge=0)
    perceptual_weight: float = Field(0.0, ge=0)
    commitment_weight: float = Field(0.25, ge=0)
    """Pulls vectors towards the code they chose."""
    code_decay: float = Field(0.95, ge=0, lt=1)
    """Of the moving averages behind the codebook. At 0.99 a code takes 350 steps to be found dead."""
    dead_share: float = Field(0.03, ge=0, lt=1)
    """A code chosen less often than this share of the mean is dead."""
    revive_until: float = Field(0.8, ge=0, le=1)
    """Share of the steps after which dead codes stay where they are, so that the decoder can settle."""
    average_decay: float = Field(0.99, ge=0, lt=1)
    """Of the moving average of the weights, which is what is kept."""
    flip_share: float = Field(0.5, ge=0, le=1)
    """Images mirrored left to right in training."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    report_every: int = Field(50, ge=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    model: VQ
    curves: tuple[dict[str, float], ...]
    """What was reported, with its ``step``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Choices:
    """Moving averages, a step, of what chose each code: how many vectors [K], and their sum [K, D]."""

    counts: Tensor
    sums: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pass:
    """One batch through the model: its losses, and which of its vectors [N, D] chose which code [N]."""

    loss: Tensor
    mse: Tensor
    vectors: Tensor
    codes: Tensor


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
    _check(images_NHWC, config, perceptual)
    generator = torch.Generator().manual_seed(config.seed)
    batches = (batch_BCHW.to(device) for batch_BCHW in _batches(images_NHWC, config, generator))
    model = vq.new(config.vq, generator).to(device)
    average, optimizer = copy.deepcopy(model), _optimizer(model, config)
    choices = _first_choices(model, next(batches), generator)
    curves: list[dict[str, float]] = []
    for step in range(1, config.steps + 1):
        done = _forward(model, next(batches), config, perceptual)
        rate = _descend(model, optimizer, done.loss, step=step, config=config)
        choices = _move_codes(model, choices, done, step=step, config=config, generator=generator)
        _follow(average, model, min(config.average_decay, step / (step + 9)))
        if step % config.report_every == 0 or step == config.steps:
            curves.append({"step": step, "rate": rate, **_facts(done, choices)})
            report(step, curves[-1])
    return Fitted(model=average.eval().requires_grad_(requires_grad=False), curves=tuple(curves))


def _check(images_NHWC: Pixels, config: VQFitConfig, perceptual: Perceptual | None) -> None:
    f, shape = config.vq.downsample, images_NHWC.shape
    if not shape[0] or shape[3] != 3 or shape[1] % f or shape[2] % f:
        raise ValueError(f"images must be [N, H, W, 3] with sides that are multiples of {f}, got {shape}")
    if config.perceptual_weight and perceptual is None:
        raise ValueError(f"perceptual_weight is {config.perceptual_weight} but no perceptual loss was given")


def _batches(images_NHWC: Pixels, config: VQFitConfig, generator: torch.Generator) -> Iterator[Tensor]:
    """Endless batches [B, 3, H, W]: every image once in a random order, then again in another."""
    images_NCHW = torch.from_numpy(images_NHWC).permute(0, 3, 1, 2).contiguous()
    waiting_N = torch.empty(0, dtype=torch.long)
    while True:
        while len(waiting_N) < config.batch_images:
            waiting_N = torch.cat([waiting_N, torch.randperm(len(images_NCHW), generator=generator)])
        now_B, waiting_N = waiting_N[: config.batch_images], waiting_N[config.batch_images :]
        batch_BCHW = images_NCHW[now_B]
        flips_B = torch.rand(config.batch_images, generator=generator) < config.flip_share
        batch_BCHW[flips_B] = batch_BCHW[flips_B].flip(-1)
        yield batch_BCHW.float() / 127.5 - 1


def _optimizer(model: VQ, config: VQFitConfig) -> torch.optim.AdamW:
    kernels = [weight for weight in model.parameters() if weight.ndim == 4]
    others = [weight for weight in model.parameters() if weight.ndim != 4]
    groups: list[dict[str, Any]] = [{"params": kernels}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.95), weight_decay=config.weight_decay)


def _forward(model: VQ, true_BCHW: Tensor, config: VQFitConfig, perceptual: Perceptual | None) -> _Pass:
    with torch.autocast(true_BCHW.device.type, dtype=torch.bfloat16, enabled=config.dtype == "bfloat16"):
        vectors_BDhw = model.embed(true_BCHW)
        B, D, h, w = vectors_BDhw.shape
        vectors_ND = vq.rows(vectors_BDhw)
        codes_N = model.nearest(vectors_ND.detach())
        chosen_ND = model.codebook_KD[codes_N]
        # The straight-through estimator: forward the code, backward as if it were the vector.
        passed_ND = vectors_ND + (chosen_ND - vectors_ND).detach()
        drawn_BCHW = model.draw(passed_ND.view(B, h, w, D).permute(0, 3, 1, 2))
    mse = functional.mse_loss(drawn_BCHW, true_BCHW)
    loss = config.mse_weight * mse + config.l1_weight * functional.l1_loss(drawn_BCHW, true_BCHW)
    loss = loss + config.commitment_weight * (vectors_ND - chosen_ND).square().sum(dim=1).mean()
    if perceptual is not None:
        loss = loss + config.perceptual_weight * perceptual(drawn_BCHW, true_BCHW)
    return _Pass(loss=loss, mse=mse.detach(), vectors=vectors_ND.detach(), codes=codes_N)


def _descend(
    model: VQ, optimizer: torch.optim.Optimizer, loss: Tensor, *, step: int, config: VQFitConfig
) -> float:
    """One step of AdamW, in place; the learning rate that it used."""
    rate = config.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - 1) / config.steps))
    rate *= min(1.0, step / max(1, config.warmup_steps))
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]  # torch leaves backward untyped
    clip_grad_norm_(model.parameters(), config.clip_norm)
    optimizer.step()
    return rate


@torch.no_grad()
def _first_choices(model: VQ, true_BCHW: Tensor, generator: torch.Generator) -> _Choices:
    """Begin with codes that are vectors of the first batch; those left over keep their random place."""
    vectors_ND = vq.rows(model.embed(true_BCHW))
    picked_N = torch.randperm(len(vectors_ND), generator=generator)[: len(model.codebook_KD)]
    model.codebook_KD[: len(picked_N)] = vectors_ND[picked_N]
    mean = len(vectors_ND) / len(model.codebook_KD)
    counts_K = torch.full_like(model.codebook_KD[:, 0], mean)
    return _Choices(counts=counts_K, sums=mean * model.codebook_KD)


@torch.no_grad()
def _move_codes(
    model: VQ, before: _Choices, done: _Pass, *, step: int, config: VQFitConfig, generator: torch.Generator
) -> _Choices:
    """Move each code to the mean of what chose it, and the dead ones onto vectors of this batch."""
    K = len(model.codebook_KD)
    counts_K = torch.bincount(done.codes, minlength=K).float()
    sums_KD = torch.zeros_like(before.sums).index_add_(0, done.codes, done.vectors)
    counts_K = before.counts.lerp(counts_K, 1 - config.code_decay)
    sums_KD = before.sums.lerp(sums_KD, 1 - config.code_decay)
    mean = len(done.codes) / K
    dead_K = counts_K < config.dead_share * mean
    if step <= config.revive_until * config.steps and dead_K.any():
        picked = torch.randint(len(done.vectors), (int(dead_K.sum()),), generator=generator)
        sums_KD[dead_K] = mean * done.vectors[picked]
        counts_K[dead_K] = mean
    model.codebook_KD.copy_(functional.normalize(sums_KD, dim=1))
    return _Choices(counts=counts_K, sums=sums_KD)


@torch.no_grad()
def _follow(average: VQ, model: VQ, decay: float) -> None:
    for mean, weight in zip(average.parameters(), model.parameters(), strict=True):
        mean.lerp_(weight, 1 - decay)
    average.codebook_KD.copy_(model.codebook_KD)


def _facts(done: _Pass, choices: _Choices) -> dict[str, float]:
    """``psnr`` is that of this training batch, in dB; ``used`` the share of codes lately chosen."""
    psnr = 10 * math.log10(4 / max(done.mse.item(), 1e-12))
    used = (choices.counts > 0.1 * choices.counts.mean()).float().mean().item()
    return {"loss": done.loss.item(), "psnr": psnr, "used": used}
