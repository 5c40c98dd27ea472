"""One step of the fit after another: everything that a step changes, and nothing that only watches.

Surprising rule: what is kept is the moving average of the weights, and codebooks without gradient are not
averaged again, since they follow moving averages already.

A group of ranks takes the same steps: gradients are averaged, counts of codes are summed, and all that is
random is drawn from generators of the same seed, so that weights and codebooks stay equal on all.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, distributed, nn
from torch._functorch import config as functorch
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import clip_grad_norm_

from tokenizer_service import coding, crops, metrics, recipe
from tokenizer_service.adversary import Adversary
from tokenizer_service.coding import Pixels
from tokenizer_service.discriminator import averaged
from tokenizer_service.perceptual import Perceptual
from tokenizer_service.quantizers import Quantized
from tokenizer_service.recipe import VQFitConfig
from tokenizer_service.vq import VQ

# B images, C channels, H height, W width, D code dimensions, K codebook size, h x w grid, N boxes


class Diverged(FloatingPointError):
    """Loss or gradient are no numbers any more."""


def no_boxes() -> NDArray[np.float32]:
    return np.zeros((0, 5), np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    images_BHWC: Pixels
    boxes_N5: NDArray[np.float32] = field(default_factory=no_boxes)
    """Row of the batch, left, top, right, bottom in pixels, of what :mod:`crops` looks at again."""


class Stream(Protocol):
    """An endless source of batches that knows where it stands."""

    def __next__(self) -> Batch: ...

    def state(self) -> Any:
        """JSON from which an equal stream goes on; :meth:`seek` takes it."""

    def seek(self, state: Any) -> None: ...


class Through(nn.Module):
    """Encoder, quantiser and decoder as one module, since DistributedDataParallel watches one forward."""

    def __init__(self, model: VQ, *, engine: str) -> None:
        super().__init__()
        self.model = model
        compiled = engine == "compile"
        if compiled:
            # A GAN's ratio of gradients walks the compiled graph twice: its buffers must outlive the first.
            functorch.donated_buffer = False
        self.embed = torch.compile(model.embed) if compiled else model.embed
        self.draw = torch.compile(model.draw) if compiled else model.draw

    def forward(self, true_BCHW: Tensor) -> tuple[Tensor, Tensor, Quantized]:
        """Vectors, the drawn image, and what stood between them."""
        vectors_BDhw = self.embed(true_BCHW)
        quantized = self.model.quantizer(vectors_BDhw)
        return vectors_BDhw, self.draw(quantized.vectors), quantized


class Descent:
    """Weights and their average, codebook, optimizers and adversary between two steps."""

    def __init__(
        self,
        model: VQ,
        config: VQFitConfig,
        *,
        perceptual: Perceptual | None,
        adversary: Adversary | None,
        generator: torch.Generator,
    ) -> None:
        self.model, self.config = model.train(), config
        self.average = copy.deepcopy(model).requires_grad_(requires_grad=False).eval()
        through = Through(model, engine=config.engine)
        self.through: nn.Module = (
            DistributedDataParallel(through, forward_sync_buffers=False)
            if distributed.is_initialized()
            else through
        )
        self.optimizer = _optimizer(model, config)
        self.perceptual, self.adversary, self.generator = perceptual, adversary, generator
        self.last = [layer for layer in model.decoder.modules() if isinstance(layer, nn.Conv2d)][-1].weight
        self.device = self.last.device
        self.step = 0
        self.seen: dict[str, Tensor | float] = {}
        """What the last step measured, on this rank."""

    @torch.no_grad()
    def seed(self, first: Batch, *, keep: bool) -> None:
        """Let the first batch seed the codebook, or only weigh one that is to be kept."""
        with self.autocast():
            vectors_BDhw = self.model.embed(self.floats(first.images_BHWC))
        if keep:
            self.model.quantizer.keep(vectors_BDhw)
        else:
            self.model.quantizer.begin(vectors_BDhw, self.generator)
        self._copy_buffers()

    def advance(self, batch: Batch) -> None:
        """One step. Raises :class:`Diverged`, on all ranks alike, and leaves the weights as they were."""
        true_BCHW = self.floats(batch.images_BHWC)
        with self.autocast():
            vectors_BDhw, drawn_BCHW, quantized = self.through(true_BCHW)
        drawn_BCHW = drawn_BCHW.float()
        terms = {**self._terms(drawn_BCHW, true_BCHW, batch), **quantized.losses}
        loss = torch.stack(list(terms.values())).sum()
        whole = loss
        if self.adversary is not None:
            with self.autocast():
                whole = loss + self.adversary.pull(loss, drawn_BCHW, self.last, step=self.step + 1)
        norm = self._descend(whole, terms)
        self.step += 1
        self._settle(vectors_BDhw.detach(), quantized.codes)
        mse = functional.mse_loss(drawn_BCHW.detach(), true_BCHW)
        self.seen = {"loss": loss.detach(), "mse": mse, "gradient_norm": norm}
        self.seen |= {f"{name}_loss": term.detach() for name, term in terms.items()}
        if self.adversary is not None:
            with self.autocast():
                norm = self.adversary.learn(true_BCHW, drawn_BCHW, step=self.step)
            self.seen |= self.adversary.facts
            if not norm.isfinite():
                raise Diverged(
                    f"step {self.step}: the discriminator's gradient is {norm.item()}; lower "
                    "gan.learning_rate, or begin later, and go on from the last checkpoint"
                )

    def floats(self, images_BHWC: Pixels) -> Tensor:
        """uint8 [B, H, W, 3] to [B, 3, H, W] in [-1, 1], channels last as they came."""
        images = torch.from_numpy(images_BHWC)
        if self.device.type == "cuda":
            images = images.pin_memory().to(self.device, non_blocking=True)
        return coding.to_floats(images)

    def autocast(self) -> torch.autocast:
        enabled = self.config.dtype == "bfloat16"
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=enabled)

    def _terms(self, drawn_BCHW: Tensor, true_BCHW: Tensor, batch: Batch) -> dict[str, Tensor]:
        """The losses of the pixels, weighted."""
        config, terms = self.config, {}
        if config.mse_weight:
            terms["mse"] = config.mse_weight * functional.mse_loss(drawn_BCHW, true_BCHW)
        if config.l1_weight:
            terms["l1"] = config.l1_weight * functional.l1_loss(drawn_BCHW, true_BCHW)
        if self.perceptual is not None and config.perceptual_weight:
            terms["perceptual"] = config.perceptual_weight * self.perceptual(drawn_BCHW, true_BCHW)
        if config.crops is not None:
            boxes_N5 = torch.from_numpy(batch.boxes_N5).to(self.device)
            terms["crops"] = crops.loss(
                drawn_BCHW, true_BCHW, boxes_N5, config.crops, perceptual=self.perceptual
            )
        return terms

    def _descend(self, loss: Tensor, terms: Mapping[str, Tensor]) -> Tensor:
        """One step of AdamW; the norm of the gradient before it was clipped."""
        for group in self.optimizer.param_groups:
            group["lr"] = recipe.learning_rate(self.config, self.step + 1)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves backward untyped
        norm = clip_grad_norm_(self.model.parameters(), self.config.clip_norm)
        # The norm and not the loss: gradients are averaged, so all ranks see the same and stop together.
        if not norm.isfinite():
            told = ", ".join(f"{name} {value.item():.3g}" for name, value in terms.items())
            rate = self.config.learning_rate
            raise Diverged(
                f"step {self.step + 1}: the gradient is {norm.item()} (losses: {told}); lower learning_rate, "
                f"which is {rate:g}, or raise warmup_steps, and go on from the last checkpoint"
            )
        self.optimizer.step()
        return norm

    @torch.no_grad()
    def _settle(self, vectors_BDhw: Tensor, codes_Bhw: Tensor) -> None:
        """Move what has no gradient: codebooks that follow averages, and the average of the weights."""
        reviving = self.step <= self.config.revive_until * self.config.steps
        self.model.quantizer.settle(vectors_BDhw, codes_Bhw, reviving=reviving, generator=self.generator)
        decay = min(self.config.average_decay, self.step / (self.step + 9))
        for mean, weight in zip(self.average.parameters(), self.model.parameters(), strict=True):
            mean.lerp_(weight, 1 - decay)
        self._copy_buffers()

    def _copy_buffers(self) -> None:
        for kept, buffer in zip(self.average.buffers(), self.model.buffers(), strict=True):
            kept.copy_(buffer)

    def facts(self) -> dict[str, float]:
        """What the last step measured, the mean over the ranks; ``psnr`` is that of its batch, in dB, and
        ``used`` the share of codes lately chosen. Every rank asks, or none.
        """
        values = torch.stack([torch.as_tensor(value, device=self.device) for value in self.seen.values()])
        found = dict(zip(self.seen, averaged(values.double()).tolist(), strict=True))
        facts = {"step": self.step, "rate": self.optimizer.param_groups[0]["lr"]}
        facts |= {"psnr": decibels(found.pop("mse")), "used": self.model.quantizer.used(), **found}
        facts["perplexity"] = metrics.use_of(self.model.quantizer.counts_K.double().cpu().numpy()).perplexity
        return facts

    def watch(self, images_BHWC: Pixels) -> dict[str, float]:
        """PSNR in dB of fixed images, by the weights as they are. The adversary's guard hears of it, and what
        it left of the weight is told.
        """
        self.model.eval()
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        for start in range(0, len(images_BHWC), self.config.batch_images):
            with torch.no_grad(), self.autocast():
                true_BCHW = self.floats(images_BHWC[start : start + self.config.batch_images])
                drawn_BCHW = self.model.decode(self.model.encode(true_BCHW)).float().clamp(-1, 1)
            total += (drawn_BCHW - true_BCHW).square().sum(dtype=torch.float64)
        self.model.train()
        # The mean over ranks: their guards must decide alike, and GPUs may differ in the last bit.
        psnr = decibels(averaged(total / images_BHWC.size).item())
        found = {"watched_psnr": psnr}
        if self.adversary is not None:
            self.adversary.saw(psnr, step=self.step)
            found["gan_scale"] = self.adversary.guard.scale
        return found


def decibels(mse: float) -> float:
    """PSNR of a squared error of pixels in [-1, 1].

    >>> decibels(0.04)
    20.0
    """
    return 10 * math.log10(4 / max(mse, 1e-12))


def _optimizer(model: VQ, config: VQFitConfig) -> torch.optim.AdamW:
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    kernels = [weight for weight in trained if weight.ndim == 4]
    others = [weight for weight in trained if weight.ndim != 4]
    groups: list[dict[str, Any]] = [{"params": kernels}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.95), weight_decay=config.weight_decay)
