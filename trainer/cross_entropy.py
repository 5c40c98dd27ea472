"""Cross-entropy of a tied head that never holds the logits of all tokens, with gradients made on the way.

4,096 tokens x 65,536 ids are 1 GiB of float32 logits, and a plain loss holds them, their softmax and its
gradient. Here a chunk of tokens has logits at a time; their gradient is made in place and used at once, so
that the head costs three products of matrices, not four as where the backward pass computes it again. The
surprising rule: the gradient of every token is needed in the forward pass, so each token's share of the loss
is an argument, and what comes back is already the weighted sum.

Why not ``torch.nn.functional.linear_cross_entropy``, whose chunks do the same: it returns a sum alone. Losses
by modality need those of each token, and the z-loss needs the log-normaliser.

Shapes: N tokens, D width, V rows of the head, C tokens of a chunk.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, autograd

CHUNK_LOGITS = 1 << 26
"""Logits that exist at once: 256 MiB as float32, 1,024 tokens of the whole vocabulary.

Of a step of 2,048 tokens at a 20M shape, 512 took 3 % more CPU time than 1,024, and 256 took 8 %: fewer
tokens write the gradient of the head too often.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Competition:
    """Tokens whose target is one of some rows of the head."""

    start: int
    stop: int
    """Rows [start, stop) compete."""
    index_N: Tensor
    """Which tokens."""

    def chunks(self) -> Sequence[Tensor]:
        return torch.split(self.index_N, max(1, CHUNK_LOGITS // (self.stop - self.start)))


def weighted(
    hidden_ND: Tensor,
    weight_VD: Tensor,
    target_N: Tensor,
    *,
    competitions: Sequence[Competition],
    share_N: Tensor,
    z_loss: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """The sum of share x (nll + z_loss x log(Z)^2), and the nll of each token in nats [N], detached.

    ``target_N`` are rows of the head. The z-loss keeps the log-normaliser log(Z) near 0 (arXiv 2405.09818,
    section 2.3). Under autocast the products are taken in its type, everything else in float32.
    """
    loss, nll_N = _Weighted.apply(hidden_ND, weight_VD, target_N, share_N, list(competitions), z_loss)
    return loss, nll_N


def nll(
    hidden_ND: Tensor, weight_VD: Tensor, target_N: Tensor, *, competitions: Sequence[Competition]
) -> Tensor:
    """Nats of each token [N], 0 for those that are in no competition; without gradients."""
    nll_N = torch.zeros(len(target_N), dtype=torch.float32, device=hidden_ND.device)
    with torch.no_grad():
        for one in competitions:
            head_VD = weight_VD[one.start : one.stop]
            for index_C in one.chunks():
                logits_CV = torch.nn.functional.linear(hidden_ND[index_C], head_VD).float()
                chosen_C1 = (target_N[index_C] - one.start)[:, None]
                nll_N[index_C] = logits_CV.logsumexp(dim=1) - logits_CV.gather(1, chosen_C1).squeeze(1)
    return nll_N


class _Weighted(autograd.Function):
    @staticmethod
    def forward(  # noqa: PLR0913, PLR0917  # autograd.Function takes its tensors one by one
        ctx: Any,
        hidden_ND: Tensor,
        weight_VD: Tensor,
        target_N: Tensor,
        share_N: Tensor,
        competitions: list[Competition],
        z_loss: float,
    ) -> tuple[Tensor, Tensor]:
        dtype = _product_type(hidden_ND)
        nll_N = torch.zeros(len(target_N), dtype=torch.float32, device=hidden_ND.device)
        total = torch.zeros((), dtype=torch.float32, device=hidden_ND.device)
        grad_ND = torch.zeros_like(hidden_ND)
        # Chunks add up: in float32, whatever the weights are.
        grad_VD = torch.zeros_like(weight_VD, dtype=torch.float32)
        with torch.autocast(hidden_ND.device.type, enabled=False):
            for one in competitions:
                head_VD = weight_VD[one.start : one.stop].to(dtype)
                for index_C in one.chunks():
                    hidden_CD, share_C = hidden_ND[index_C].to(dtype), share_N[index_C]
                    logits_CV = (hidden_CD @ head_VD.T).float()
                    chosen_C1 = (target_N[index_C] - one.start)[:, None]
                    nll_C, log_z_C = _to_gradient(logits_CV, chosen_C1, share_C, z_loss)
                    nll_N[index_C] = nll_C
                    total += (share_C * (nll_C + z_loss * log_z_C.square())).sum()
                    grad_CV = logits_CV.to(dtype)
                    grad_ND[index_C] = (grad_CV @ head_VD).to(grad_ND.dtype)
                    _add_product(grad_VD[one.start : one.stop], grad_CV.T, hidden_CD)
        ctx.save_for_backward(grad_ND, grad_VD.to(weight_VD.dtype))
        ctx.mark_non_differentiable(nll_N)
        return total, nll_N

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Multiplies in place: the memory is as large as the head, and nobody asks twice."""
        grad_ND, grad_VD = ctx.saved_tensors
        return grad_ND.mul_(grads[0]), grad_VD.mul_(grads[0]), None, None, None, None


def _product_type(hidden: Tensor) -> torch.dtype:
    device = hidden.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype


def _to_gradient(
    logits_CV: Tensor, chosen_C1: Tensor, share_C: Tensor, z_loss: float
) -> tuple[Tensor, Tensor]:
    """Turn logits into the gradient of the loss by them, in place; nll and log-normaliser [C] come back.

    Four passes over the logits, where ``logsumexp`` and a softmax take seven and memory for a copy.
    """
    most_C1 = logits_CV.amax(dim=1, keepdim=True)
    logits_CV.sub_(most_C1)
    chosen_C = logits_CV.gather(1, chosen_C1).squeeze(1)
    total_C = logits_CV.exp_().sum(dim=1)
    log_total_C = total_C.log()
    log_z_C = log_total_C + most_C1.squeeze(1)
    logits_CV.mul_((share_C * (1.0 + 2.0 * z_loss * log_z_C) / total_C)[:, None])
    logits_CV.scatter_add_(1, chosen_C1, -share_C[:, None].float())
    return log_total_C - chosen_C, log_z_C


def _add_product(out: Tensor, left: Tensor, right: Tensor) -> None:
    if out.dtype == left.dtype:
        out.addmm_(left, right)
    else:
        out += left @ right
