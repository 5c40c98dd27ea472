"""Quantisers whose codes stand in a table and are found by distance: where the codes are, how they learn.

Surprising rule: an averaged codebook has no gradient. Each code follows the moving average of the vectors
that chose it, and one that nothing chooses is moved onto a vector of the batch (VQ-VAE-2, arXiv 1906.00446,
appendix A.1; Jukebox, arXiv 2005.00341, section 3.1).
"""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional

from tokenizer_service import quantizers
from tokenizer_service.quantizers import (
    EMAConfig,
    IBQConfig,
    LookupConfig,
    Quantized,
    Quantizer,
    SimVQConfig,
    UnitConfig,
    counted,
    grid,
    rows,
    shared,
    summed,
)

# B images, D code dimensions, h x w grid, N = B x h x w vectors, K codes


MIN_SUM = 1e-6
"""Length of a sum of unit vectors, a step, under which it is rounding."""


def straight_through(vectors: Tensor, chosen: Tensor) -> Tensor:
    """Forward the code, backward as if it were the vector (VQ-VAE, arXiv 1711.00937)."""
    return vectors + (chosen - vectors).detach()


class Codebook(Quantizer):
    """Codes that stand in a table; the nearest one is taken."""

    codebook_KD: Tensor
    commitment: float

    def table(self) -> Tensor:
        """The vectors [K, D] that codes stand for."""
        return self.codebook_KD

    def seen(self, vectors_BDhw: Tensor) -> Tensor:
        """The vectors as they are compared."""
        return vectors_BDhw.float()

    def nearest(self, vectors_ND: Tensor, table_KD: Tensor) -> Tensor:
        return quantizers.nearest(vectors_ND, table_KD)

    def codes(self, vectors_BDhw: Tensor) -> Tensor:
        seen_BDhw = self.seen(vectors_BDhw)
        return self.nearest(rows(seen_BDhw), self.table()).view(seen_BDhw[:, 0].shape)

    def vectors(self, codes_Bhw: Tensor) -> Tensor:
        return functional.embedding(codes_Bhw, self.table()).permute(0, 3, 1, 2)

    def forward(self, vectors_BDhw: Tensor) -> Quantized:
        seen_BDhw, table_KD = self.seen(vectors_BDhw), self.table()
        vectors_ND = rows(seen_BDhw)
        codes_N = self.nearest(vectors_ND.detach(), table_KD.detach())
        chosen_ND = functional.embedding(codes_N, table_KD)
        shape = seen_BDhw[:, 0].shape
        return Quantized(
            vectors=grid(straight_through(vectors_ND, chosen_ND), shape),
            codes=codes_N.view(shape),
            losses=self.losses(vectors_ND, chosen_ND),
        )

    def losses(self, vectors_ND: Tensor, chosen_ND: Tensor) -> dict[str, Tensor]:
        found = {"commitment": self.commitment * functional.mse_loss(vectors_ND, chosen_ND.detach())}
        if chosen_ND.requires_grad:
            found["codebook"] = functional.mse_loss(chosen_ND, vectors_ND.detach())
        return found


class Averaged(Codebook):
    """Codes that follow the vectors which chose them."""

    def __init__(self, config: UnitConfig | EMAConfig, size: int) -> None:
        super().__init__(size, config.dim)
        self.commitment, self.decay, self.dead_share = config.commitment, config.decay, config.dead_share
        self.register_buffer("codebook_KD", torch.empty(size, config.dim))
        # The sum, a step, of the vectors that lately chose each code.
        self.register_buffer("sums_KD", torch.zeros(size, config.dim), persistent=False)
        self.sums_KD: Tensor

    @abstractmethod
    def placed(self, sums_KD: Tensor, counts_K: Tensor) -> Tensor:
        """Where the codes stand [K, D]."""

    def forget(self) -> None:
        super().forget()
        self.sums_KD = torch.zeros_like(self.codebook_KD)

    @torch.no_grad()
    def keep(self, vectors_BDhw: Tensor) -> None:
        super().keep(vectors_BDhw)
        self.sums_KD.copy_(self.counts_K[:, None] * self.codebook_KD)

    @torch.no_grad()
    def begin(self, vectors_BDhw: Tensor, generator: torch.Generator) -> None:
        """Begin with codes that are vectors of the first batch; those left over keep their random place."""
        vectors_ND = rows(self.seen(vectors_BDhw))
        picked_N = torch.randperm(len(vectors_ND), generator=generator)[: self.size]
        self.codebook_KD[: len(picked_N)] = vectors_ND[picked_N.to(vectors_ND.device)]
        shared(self.codebook_KD)
        self.keep(vectors_BDhw)

    @torch.no_grad()
    def settle(
        self, vectors_BDhw: Tensor, codes_Bhw: Tensor, *, reviving: bool, generator: torch.Generator
    ) -> None:
        """Move each code to the mean of what chose it, and the dead ones onto vectors of this batch."""
        vectors_ND = rows(self.seen(vectors_BDhw))
        chosen_KD = torch.zeros_like(self.sums_KD).index_add_(0, codes_Bhw.flatten(), vectors_ND)
        chosen_K = counted(codes_Bhw, self.size)
        mean = float(chosen_K.sum()) / self.size
        self.counts_K.lerp_(chosen_K, 1 - self.decay)
        self.sums_KD.lerp_(summed(chosen_KD), 1 - self.decay)
        dead_K = self.counts_K < self.dead_share * mean
        if reviving and dead_K.any():
            picked = torch.randint(len(vectors_ND), (int(dead_K.sum()),), generator=generator)
            self.sums_KD[dead_K] = mean * shared(vectors_ND[picked.to(vectors_ND.device)])
            self.counts_K[dead_K] = mean
        self.codebook_KD.copy_(self.placed(self.sums_KD, self.counts_K))


class Unit(Averaged):
    """Unit vectors; the code of the largest cosine."""

    def seen(self, vectors_BDhw: Tensor) -> Tensor:
        return functional.normalize(vectors_BDhw.float(), dim=1)

    def nearest(self, vectors_ND: Tensor, table_KD: Tensor) -> Tensor:
        return quantizers.best(vectors_ND, table_KD)

    def losses(self, vectors_ND: Tensor, chosen_ND: Tensor) -> dict[str, Tensor]:
        """The squared distance of unit vectors, in [0, 4], not divided by the dimensions."""
        return {"commitment": self.commitment * (vectors_ND - chosen_ND).square().sum(dim=1).mean()}

    def placed(self, sums_KD: Tensor, counts_K: Tensor) -> Tensor:
        """A code that nothing chose for long stays where it is: its sum shrinks until it has no direction."""
        del counts_K
        lengths_K1 = sums_KD.norm(dim=1, keepdim=True)
        return torch.where(lengths_K1 > MIN_SUM, sums_KD / lengths_K1, self.codebook_KD)

    def initialize(self, generator: torch.Generator) -> None:
        drawn_KD = torch.randn(self.size, self.dim, generator=generator)
        self.codebook_KD.copy_(functional.normalize(drawn_KD, dim=1))


class EMA(Averaged):
    def placed(self, sums_KD: Tensor, counts_K: Tensor) -> Tensor:
        """A code that nothing chose for long stays where it is: its sum and its count shrink alike."""
        alive_K1 = (counts_K > torch.finfo(torch.float32).tiny)[:, None]
        return torch.where(alive_K1, sums_KD / counts_K[:, None], self.codebook_KD)

    def initialize(self, generator: torch.Generator) -> None:
        self.codebook_KD.copy_(torch.randn(self.size, self.dim, generator=generator))


class Lookup(Codebook):
    def __init__(self, config: LookupConfig | IBQConfig | UnitConfig, size: int) -> None:
        super().__init__(size, config.dim)
        self.commitment = config.commitment
        self.codebook_KD = nn.Parameter(torch.empty(size, config.dim))

    @torch.no_grad()
    def initialize(self, generator: torch.Generator) -> None:
        self.codebook_KD.uniform_(-1 / self.size, 1 / self.size, generator=generator)


class LearntUnit(Lookup):
    """As :class:`Unit`, with a gradient; the file holds the table before it is brought to unit length."""

    def table(self) -> Tensor:
        return functional.normalize(self.codebook_KD, dim=1)

    def seen(self, vectors_BDhw: Tensor) -> Tensor:
        return functional.normalize(vectors_BDhw.float(), dim=1)


class SimVQ(Codebook):
    def __init__(self, config: SimVQConfig, size: int) -> None:
        super().__init__(size, config.dim)
        self.commitment = config.commitment
        self.register_buffer("frozen_KD", torch.empty(size, config.dim))
        self.frozen_KD: Tensor
        self.map = nn.Linear(config.dim, config.dim)

    def table(self) -> Tensor:
        with torch.autocast(self.frozen_KD.device.type, enabled=False):
            mapped_KD: Tensor = self.map(self.frozen_KD)
        return mapped_KD

    @torch.no_grad()
    def initialize(self, generator: torch.Generator) -> None:
        self.frozen_KD.normal_(std=self.dim**-0.5, generator=generator)
        nn.init.uniform_(self.map.weight, -(self.dim**-0.5), self.dim**-0.5, generator=generator)
        nn.init.zeros_(self.map.bias)
