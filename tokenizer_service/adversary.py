"""The discriminator at work: what it asks of the tokenizer in a step, and how it learns from one."""

from __future__ import annotations

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import get_total_norm

from tokenizer_service import discriminator
from tokenizer_service.discriminator import LECAM_DECAY, Discriminator, GanConfig, Guard

# B images, C channels, H height, W width


class Adversary:
    """A discriminator with its optimizer, its running means and its guard."""

    def __init__(self, net: Discriminator, config: GanConfig) -> None:
        self.net, self.config = net, config
        self.optimizer = torch.optim.AdamW(
            net.parameters(), lr=config.learning_rate, betas=(0.5, 0.9), weight_decay=0.0
        )
        grouped: nn.Module = DistributedDataParallel(net) if distributed.is_initialized() else net
        self.judge = grouped
        self.guard = Guard()
        self.means = next(net.parameters()).new_zeros(2)
        """Of the logits of true and of drawn images, for LeCam."""
        self.facts: dict[str, Tensor | float] = {}
        """Of the last step."""

    def pull(self, loss: Tensor, drawn_BCHW: Tensor, last: Tensor, *, step: int) -> Tensor:
        """What to add to the loss. Its value means nothing; its gradient is that of the adversarial term, and
        the discriminator gets none of it.
        """
        share = self.config.weight * discriminator.ramp(self.config, step) * self.guard.scale
        if not share:
            self.facts = {}
            return drawn_BCHW.new_zeros(())
        seen_BCHW = drawn_BCHW.detach().requires_grad_()
        (slope_BCHW,) = torch.autograd.grad(-self.net(seen_BCHW).mean(), seen_BCHW)
        term = (drawn_BCHW * slope_BCHW).sum()
        ratio = discriminator.ratio(loss, term, last, most=self.config.max_ratio)
        self.facts = {"gan_weight": share, "gan_ratio": ratio}
        return share * ratio * term

    def learn(self, true_BCHW: Tensor, drawn_BCHW: Tensor, *, step: int) -> Tensor:
        """One step of its own, from ``begin`` on; the norm of its gradient, which is the same on all ranks.
        It is not taken where that is no number.
        """
        if step <= self.config.begin:
            return drawn_BCHW.new_zeros(())
        logits = self.judge(torch.cat([true_BCHW, drawn_BCHW.detach()]))
        true_logits, drawn_logits = logits.chunk(2)
        loss = discriminator.hinge(true_logits, drawn_logits)
        self.facts |= {"gan_loss": loss.detach()}
        if self.config.lecam_weight:
            now = torch.stack([true_logits.mean(), drawn_logits.mean()]).detach()
            self.means.lerp_(discriminator.averaged(now), 1 - LECAM_DECAY)
            loss = loss + self.config.lecam_weight * discriminator.lecam(
                true_logits, drawn_logits, self.means
            )
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves backward untyped
        norm = get_total_norm(one.grad for one in self.net.parameters() if one.grad is not None)
        if norm.isfinite():
            self.optimizer.step()
        return norm

    def saw(self, psnr_db: float, *, step: int) -> None:
        """A validation; before the weight began to grow, the discriminator is not to blame."""
        if discriminator.ramp(self.config, step):
            self.guard = self.guard.saw(psnr_db, self.config)
        else:
            self.guard = Guard(scale=self.guard.scale, best_db=max(self.guard.best_db, psnr_db))
