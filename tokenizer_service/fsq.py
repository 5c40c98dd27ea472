"""Finite scalar quantisation (arXiv 2309.15505): each dimension rounded to one of a few levels.

Surprising rule: there is nothing to save and nothing to learn; a code is the number that the levels of its
dimensions spell, the first dimension being the one that counts fastest.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tokenizer_service.codebooks import straight_through
from tokenizer_service.quantizers import FSQConfig, Quantized, Quantizer

# B images, D dimensions, h x w grid

MARGIN = 1e-3
"""Beyond the outermost levels, so that rounding reaches them."""


class FSQ(Quantizer):
    def __init__(self, config: FSQConfig, size: int) -> None:
        super().__init__(size, config.dim)
        self.levels = config.levels
        self.bases = tuple(math.prod(config.levels[:i]) for i in range(config.dim))

    def _column(self, values: tuple[int, ...], like: Tensor) -> Tensor:
        return torch.tensor(values, dtype=like.dtype, device=like.device).view(-1, 1, 1)

    def _levels(self, vectors_BDhw: Tensor) -> Tensor:
        """Each place's level, not rounded: from -L / 2, rounded towards 0, upwards, for L levels; 0 at 0."""
        levels_D11 = self._column(self.levels, vectors_BDhw)
        half_D11 = (levels_D11 - 1) * (1 + MARGIN) / 2
        shift_D11 = (1 - levels_D11 % 2) / 2
        return (vectors_BDhw + (shift_D11 / half_D11).atanh()).tanh() * half_D11 - shift_D11

    def codes(self, vectors_BDhw: Tensor) -> Tensor:
        digits_BDhw = self._levels(vectors_BDhw.float()).round().long()
        digits_BDhw = digits_BDhw + self._column(self.levels, digits_BDhw) // 2
        return (digits_BDhw * self._column(self.bases, digits_BDhw)).sum(dim=1)

    def vectors(self, codes_Bhw: Tensor) -> Tensor:
        """In [-1, 1]."""
        codes_B1hw = codes_Bhw[:, None]
        levels_D11 = self._column(self.levels, codes_B1hw)
        digits_BDhw = codes_B1hw // self._column(self.bases, codes_B1hw) % levels_D11
        return (digits_BDhw - levels_D11 // 2).float() / (levels_D11 // 2)

    def forward(self, vectors_BDhw: Tensor) -> Quantized:
        vectors_BDhw = vectors_BDhw.float()
        codes_Bhw = self.codes(vectors_BDhw.detach())
        levels_BDhw = self._levels(vectors_BDhw)
        passed_BDhw = levels_BDhw / (self._column(self.levels, levels_BDhw) // 2)
        return Quantized(
            vectors=straight_through(passed_BDhw, self.vectors(codes_Bhw)), codes=codes_Bhw, losses={}
        )

    def initialize(self, generator: torch.Generator) -> None:
        """Nothing is drawn."""
