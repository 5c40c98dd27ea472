"""From logits to a token: temperature, top-k and top-p, guidance by one or two terms, contrastive decoding.

The surprising rule: a token is drawn by inverting the cumulated probabilities at a number that was drawn
beforehand, so that what is chosen in one row does not depend on how many others there are.

Shapes: N samples, V ids that may come next.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def guide(with_text_NV: Tensor, without_NV: Tensor, *, weight: float) -> Tensor:
    """Mixes u + weight (c - u) of log-probabilities (arXiv 2309.02591, eq. 2)."""
    c_NV, u_NV = with_text_NV.log_softmax(dim=-1), without_NV.log_softmax(dim=-1)
    return u_NV + weight * (c_NV - u_NV)


def guide_twice(
    full_NV: Tensor, image_only_NV: Tensor, without_NV: Tensor, *, image: float, text: float
) -> Tensor:
    """Mixes u + image (i - u) + text (f - i) of log-probabilities: towards the picture, from there towards
    what the instruction says (arXiv 2211.09800, eq. 3).
    """
    f_NV, i_NV, u_NV = (one.log_softmax(dim=-1) for one in (full_NV, image_only_NV, without_NV))
    return u_NV + image * (i_NV - u_NV) + text * (f_NV - i_NV)


def contrast(strong_NV: Tensor, weak_NV: Tensor, *, alpha: float, k: int) -> Tensor:
    """CD-K: log(p_strong / p_weak) where p_strong >= alpha x its k-th largest, else -inf (arXiv 2309.02591,
    eq. 3). k = 1 is contrastive decoding as it was (arXiv 2210.15097).
    """
    strong_NV, weak_NV = strong_NV.log_softmax(dim=-1), weak_NV.log_softmax(dim=-1)
    kth_N1 = strong_NV.topk(min(k, strong_NV.shape[1]), dim=-1).values[:, -1:]
    # A logarithm of alpha x p would round otherwise than p itself: with alpha = 1 the k-th must stay in.
    likely_NV = (strong_NV - kth_N1).exp() >= alpha
    return torch.where(likely_NV, strong_NV - weak_NV, -torch.inf)


def choose(
    logits_NV: Tensor, uniform_N: Tensor, *, temperature: float, top_p: Tensor | float, top_k: Tensor | int
) -> Tensor:
    """One token a row [N], by inverting the cumulated probabilities, likeliest first, at numbers in [0, 1).

    Offered are the fewest likeliest tokens that hold ``top_p``, of the likeliest ``top_k``; both may differ
    by row, as [N, 1]. At temperature 0 it is the likeliest.
    """
    if temperature == 0.0:
        return logits_NV.argmax(dim=-1)
    sorted_NV, order_NV = descending(logits_NV / temperature)
    outside_NV = torch.arange(sorted_NV.shape[1], device=sorted_NV.device) >= top_k
    kept_NV = sorted_NV.masked_fill(outside_NV, -torch.inf).softmax(dim=-1)
    below_NV = kept_NV.cumsum(dim=-1) - kept_NV
    kept_NV = torch.where(below_NV < top_p, kept_NV, 0.0)
    cumulated_NV = kept_NV.cumsum(dim=-1)
    place_N1 = torch.searchsorted(cumulated_NV, uniform_N[:, None] * cumulated_NV[:, -1:], right=True)
    # Rounding may put the place behind the last kept token, whose probability is then not above the sum.
    last_N1 = (kept_NV > 0.0).sum(dim=-1, keepdim=True) - 1
    return order_NV.gather(1, torch.minimum(place_N1, last_N1)).squeeze(1)


def descending(logits_NV: Tensor) -> tuple[Tensor, Tensor]:
    """Stably sorted, and whence."""
    if logits_NV.device.type != "cpu" or torch.compiler.is_compiling():
        sorted_NV, order_NV = logits_NV.sort(dim=-1, descending=True, stable=True)
        return sorted_NV, order_NV
    # NumPy sorts whole numbers with vector instructions: 1.6 and not 5.8 ms for 8 rows of 8,192 on a core.
    # Read as whole numbers, floats are in order, but negative ones backwards; the id breaks ties.
    bits_NV = (logits_NV + 0.0).numpy().view(np.int32)  # + 0.0: the negative zero equals the other
    rising_NV = bits_NV ^ ((bits_NV >> 31) & 0x7FFFFFFF)
    keys_NV = (~rising_NV.astype(np.int64) << 32) | np.arange(bits_NV.shape[1])
    order_NV = torch.from_numpy(np.sort(keys_NV, axis=-1) & 0xFFFFFFFF)
    return logits_NV.gather(1, order_NV), order_NV
