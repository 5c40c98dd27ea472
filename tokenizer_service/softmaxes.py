"""Quantisers that score all codes and learn through the softmax of the scores: IBQ and the gumbel VQGAN's.

Surprising rule: the softmax of a batch over a large codebook would not fit anywhere, so it is made a part at
a time, and a second time on the way back.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from tokenizer_service.codebooks import Lookup
from tokenizer_service.quantizers import GumbelConfig, IBQConfig, Quantized, Quantizer, best, grid, rows

# B images, D code dimensions, h x w grid, N = B x h x w vectors, K codes

SOFTMAX_BYTES = 256 << 20
"""Of a softmax [N, K] at a time, in training."""


def in_parts(function: Callable[..., Any], vectors_ND: Tensor, *others: Tensor) -> list[Any]:
    """``function`` of some vectors at a time, as many as there is room for their scores of all codes."""
    parts = torch.split(vectors_ND, max(1, SOFTMAX_BYTES // (4 * len(others[0]))))
    if len(parts) == 1:
        return [function(vectors_ND, *others)]
    return [
        checkpoint(function, part_ND, *others, use_reentrant=False, preserve_rng_state=False)
        for part_ND in parts
    ]


def mixed(vectors_ND: Tensor, keys_KD: Tensor, bias_K: Tensor, values_KD: Tensor) -> Tensor:
    """``softmax(vectors @ keys.T + bias) @ values`` [N, D]."""

    def some(part_ND: Tensor, keys_KD: Tensor, bias_K: Tensor, values_KD: Tensor) -> Tensor:
        return torch.addmm(bias_K, part_ND, keys_KD.T).softmax(dim=1) @ values_KD

    return torch.cat(in_parts(some, vectors_ND, keys_KD, bias_K, values_KD))


def entropy(vectors_ND: Tensor, keys_KD: Tensor, temperature: float) -> Tensor:
    """Mean entropy of the softmax of the products, less the entropy of their mean, in nats: least when each
    choice is certain and all codes are chosen alike (MAGVIT-v2, arXiv 2310.05737, section 3.1).
    """

    def some(part_ND: Tensor, keys_KD: Tensor) -> tuple[Tensor, Tensor]:
        logs_NK = (part_ND @ keys_KD.T / temperature).log_softmax(dim=1)
        chances_NK = logs_NK.exp()
        return -(chances_NK * logs_NK).sum(), chances_NK.sum(dim=0)

    each, chances_K = (
        torch.stack(one).sum(dim=0) / len(vectors_ND)
        for one in zip(*in_parts(some, vectors_ND, keys_KD), strict=True)
    )
    spread: Tensor = torch.special.entr(chances_K).sum()
    return each - spread


class IBQ(Lookup):
    """The code of the largest product, not of the least distance; all codes learn from every place."""

    def __init__(self, config: IBQConfig, size: int) -> None:
        super().__init__(config, size)
        self.entropy, self.temperature = config.entropy, config.temperature
        self.register_buffer("zero_K", torch.zeros(size), persistent=False)
        self.zero_K: Tensor

    def forget(self) -> None:
        super().forget()
        self.zero_K = torch.zeros_like(self.counts_K)

    def nearest(self, vectors_ND: Tensor, table_KD: Tensor) -> Tensor:
        return best(vectors_ND, table_KD)

    def forward(self, vectors_BDhw: Tensor) -> Quantized:
        with torch.autocast(vectors_BDhw.device.type, enabled=False):
            plain, table_KD = super().forward(vectors_BDhw), self.codebook_KD
            vectors_ND = rows(vectors_BDhw.float())
            soft_ND = mixed(vectors_ND, table_KD, self.zero_K, table_KD.detach())
            chosen_ND = functional.embedding(plain.codes.flatten(), table_KD)
            losses = plain.losses
            if self.entropy:
                found = self.entropy * entropy(vectors_ND, table_KD, self.temperature)
                losses = {**losses, "entropy": found}
        passed_ND = chosen_ND + (soft_ND - soft_ND.detach())
        return Quantized(vectors=grid(passed_ND, plain.codes.shape), codes=plain.codes, losses=losses)


class Gumbel(Quantizer):
    """As the gumbel VQGAN encodes: the largest score of a 1 x 1 convolution, which has another table than the
    decoder's. It learns through the softmax without its noise (arXiv 1611.01144 has it).
    """

    def __init__(self, config: GumbelConfig, size: int) -> None:
        super().__init__(size, config.dim)
        self.scores = nn.Linear(config.dim, size)
        self.codebook_KD = nn.Parameter(torch.empty(size, config.dim))

    def codes(self, vectors_BDhw: Tensor) -> Tensor:
        codes_N = best(rows(vectors_BDhw), self.scores.weight, self.scores.bias)
        return codes_N.view(vectors_BDhw[:, 0].shape)

    def vectors(self, codes_Bhw: Tensor) -> Tensor:
        return functional.embedding(codes_Bhw, self.codebook_KD).permute(0, 3, 1, 2)

    def forward(self, vectors_BDhw: Tensor) -> Quantized:
        with torch.autocast(vectors_BDhw.device.type, enabled=False):
            codes_Bhw = self.codes(vectors_BDhw.detach())
            chosen_BDhw, vectors_ND = self.vectors(codes_Bhw), rows(vectors_BDhw.float())
            soft_ND = mixed(vectors_ND, self.scores.weight, self.scores.bias, self.codebook_KD.detach())
            soft_BDhw = grid(soft_ND, codes_Bhw.shape)
        passed_BDhw = chosen_BDhw + (soft_BDhw - soft_BDhw.detach())
        return Quantized(vectors=passed_BDhw, codes=codes_Bhw, losses={})

    @torch.no_grad()
    def initialize(self, generator: torch.Generator) -> None:
        bound = self.dim**-0.5
        self.scores.weight.uniform_(-bound, bound, generator=generator)
        self.scores.bias.zero_()
        self.codebook_KD.normal_(generator=generator)
