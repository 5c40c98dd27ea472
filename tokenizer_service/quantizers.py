"""Vectors to codes and back: the family of quantisers behind one interface.

A quantiser sees a grid of vectors [B, D, h, w] as the encoder left it and answers with codes [B, h, w]; what
it does to the vectors first, such as bringing them to unit length, is its own business. Losses come weighted.

Surprising rule: codes are compared in float32 whatever autocast says, and the scores of a batch never exist
all at once: 32 images of 1,024 places against 262,144 codes would be 32 GiB.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, distributed, nn

from infra.settings import Section

# B images, D code dimensions, h x w grid, N = B x h x w vectors, K codes

MAX_CODES = 262_144
RECENT = 0.95
"""Decay a step of the counts behind :meth:`Quantizer.used`, where no setting says otherwise."""
SCORE_BYTES = {"cpu": 8 << 20, "cuda": 256 << 20}
"""Of scores at a time. On a CPU they are read back from its cache."""


class _Coded(Section):
    dim: int = Field(16, ge=1)
    """Dimensions in which a code is looked up."""
    commitment: float = Field(0.25, ge=0)
    """Weight of the loss that pulls vectors towards the code they chose."""


class _Averaged(_Coded):
    decay: float = Field(0.95, ge=0, lt=1)
    """Of the moving averages behind the codebook. At 0.99 a code takes 350 steps to be found dead."""
    dead_share: float = Field(0.03, ge=0, lt=1)
    """A code chosen less often than this share of the mean is dead."""


class UnitConfig(_Averaged):
    """Unit vectors in few dimensions (ViT-VQGAN, arXiv 2110.04627, section 3.2), which keeps codes in use."""

    kind: Literal["unit"] = "unit"
    codebook: Literal["averaged", "learnt"] = "averaged"
    """``averaged`` follows what chose each code; ``learnt`` has a gradient, as in LlamaGen (2406.06525)."""


class EMAConfig(_Averaged):
    """Moving averages, Euclidean (VQ-VAE-2, arXiv 1906.00446, appendix A.1)."""

    kind: Literal["ema"] = "ema"


class LookupConfig(_Coded):
    """The plain codebook of VQGAN (arXiv 2012.09841): learnt, Euclidean."""

    kind: Literal["lookup"] = "lookup"
    dim: int = Field(256, ge=1)


class SimVQConfig(_Coded):
    """A frozen random codebook behind a learnt linear map, which moves all codes (arXiv 2411.02038)."""

    kind: Literal["simvq"] = "simvq"


class IBQConfig(_Coded):
    """Index backpropagation (arXiv 2412.02692): a gradient for every code, through a softmax of scores."""

    kind: Literal["ibq"] = "ibq"
    dim: int = Field(256, ge=1)
    entropy: float = Field(0.05, ge=0)
    """Weight of the loss that wants each choice certain and all choices together even."""
    temperature: float = Field(0.01, gt=0)
    """Of the softmax inside the entropy."""


class GumbelConfig(Section):
    """A 1 x 1 convolution scores the codes: as far as published gumbel VQGANs need, without the noise."""

    kind: Literal["gumbel"] = "gumbel"
    dim: int = Field(256, ge=1)


class FSQConfig(Section):
    """Each dimension rounded to a few levels (arXiv 2309.15505): no codebook, so none that can die."""

    kind: Literal["fsq"] = "fsq"
    levels: Annotated[tuple[Annotated[int, Field(ge=3)], ...], Field(strict=False, min_length=1)] = (
        4,
        4,
        4,
        4,
        4,
    )

    @property
    def dim(self) -> int:
        return len(self.levels)

    @property
    def size(self) -> int:
        return math.prod(self.levels)


QuantizerConfig = Annotated[
    UnitConfig | EMAConfig | LookupConfig | SimVQConfig | IBQConfig | GumbelConfig | FSQConfig,
    Field(discriminator="kind"),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantized:
    vectors: Tensor
    """[B, D, h, w]: the codes' vectors forward, and backward whatever the estimator lets through."""
    codes: Tensor
    """[B, h, w], int64."""
    losses: dict[str, Tensor]
    """Scalars, weighted: ``commitment``, ``codebook``, ``entropy``, those that the quantiser has."""


class Quantizer(nn.Module, ABC):
    """``size`` codes in ``dim`` dimensions, drawn or loaded by :mod:`tokenizer_service.vq`."""

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        self.size, self.dim = size, dim
        # How many vectors lately chose each code, a step. Of the training, so not in the saved file.
        self.register_buffer("counts_K", torch.zeros(size), persistent=False)
        self.counts_K: Tensor

    @abstractmethod
    def forward(self, vectors_BDhw: Tensor) -> Quantized: ...

    @abstractmethod
    def codes(self, vectors_BDhw: Tensor) -> Tensor:
        """The code [B, h, w] of each vector."""

    @abstractmethod
    def vectors(self, codes_Bhw: Tensor) -> Tensor:
        """The vector [B, D, h, w] of each code."""

    @abstractmethod
    def initialize(self, generator: torch.Generator) -> None:
        """First weights."""

    def forget(self) -> None:
        """Make what only training needs anew: it is in no file."""
        device = next(iter(self.state_dict().values())).device if self.state_dict() else "cpu"
        self.counts_K = torch.zeros(self.size, device=device)

    def keep(self, vectors_BDhw: Tensor) -> None:
        """Begin with the codebook as it is: to go on from weights that were loaded."""
        self.counts_K.fill_(num_ranks() * vectors_BDhw[:, 0].numel() / self.size)

    def begin(self, vectors_BDhw: Tensor, generator: torch.Generator) -> None:  # noqa: ARG002  # of subclasses
        """Let the first batch seed the codebook, where that is meant; ranks agree on the result."""
        self.keep(vectors_BDhw)

    @torch.no_grad()
    def settle(
        self, vectors_BDhw: Tensor, codes_Bhw: Tensor, *, reviving: bool, generator: torch.Generator
    ) -> None:
        """After a step of the optimizer: count the codes, over all ranks, and move those without gradient."""
        del vectors_BDhw, reviving, generator  # of subclasses
        self.counts_K.lerp_(counted(codes_Bhw, self.size), 1 - RECENT)

    def used(self) -> float:
        """Share of the codes lately chosen at least a tenth as often as the mean."""
        return float((self.counts_K > 0.1 * self.counts_K.mean()).float().mean())


def rows(vectors_BDhw: Tensor) -> Tensor:
    """[B x h x w, D] in raster order."""
    return vectors_BDhw.permute(0, 2, 3, 1).reshape(-1, vectors_BDhw.shape[1])


def grid(rows_ND: Tensor, like_Bhw: torch.Size) -> Tensor:
    """[B, D, h, w] of rows in raster order."""
    return rows_ND.view(*like_Bhw, -1).permute(0, 3, 1, 2)


def best(vectors_ND: Tensor, keys_KD: Tensor, bias_K: Tensor | None = None) -> Tensor:
    """Index [N] of the largest ``vectors @ keys.T + bias``; the first of equals. Without gradient."""

    def scores(part_ND: Tensor, keys_DK: Tensor) -> Tensor:
        return part_ND @ keys_DK if bias_K is None else torch.addmm(bias_K, part_ND, keys_DK)

    return _largest(vectors_ND, keys_KD, scores)


def nearest(vectors_ND: Tensor, codebook_KD: Tensor) -> Tensor:
    """Index [N] of the code at the least Euclidean distance; the first of equals. Without gradient.

    By 2 v.c - (|v|^2 + |c|^2), summed in the order of the published tokenizers: v.c - |c|^2 / 2 is nearer to
    the truth and cheaper, and gave an untrained f8 VQGAN other codes than its own at 3 places of 1,000.
    """

    def scores(part_ND: Tensor, codebook_DK: Tensor) -> Tensor:
        away_NK = part_ND.square().sum(dim=1, keepdim=True) + codebook_DK.square().sum(dim=0)
        return (part_ND @ codebook_DK).mul_(2).sub_(away_NK)

    return _largest(vectors_ND, codebook_KD, scores)


def _largest(vectors_ND: Tensor, keys_KD: Tensor, scores: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Of some vectors at a time, as many as there is room for their scores of all codes."""
    device = vectors_ND.device.type
    room = max(1, SCORE_BYTES.get(device, SCORE_BYTES["cuda"]) // (4 * len(keys_KD)))
    with torch.no_grad(), torch.autocast(device, enabled=False):
        keys_DK = keys_KD.float().T
        found = [_argmax(scores(part_ND, keys_DK)) for part_ND in torch.split(vectors_ND.float(), room)]
    return torch.cat(found)


def _argmax(scores_NK: Tensor) -> Tensor:
    """Numpy's search has vector instructions, and takes a third of the time that torch's takes on a CPU."""
    if scores_NK.device.type == "cpu":
        return torch.from_numpy(scores_NK.numpy().argmax(axis=1))
    return scores_NK.argmax(dim=1)


def counted(codes_Bhw: Tensor, size: int) -> Tensor:
    """How often each code occurs [K], over all ranks."""
    return summed(torch.bincount(codes_Bhw.flatten(), minlength=size).float())


def summed(tensor: Tensor) -> Tensor:
    """Over the ranks of a distributed run."""
    if distributed.is_available() and distributed.is_initialized():
        distributed.all_reduce(tensor)
    return tensor


def num_ranks() -> int:
    """World size; 1 where nothing is distributed."""
    there = distributed.is_available() and distributed.is_initialized()
    return distributed.get_world_size() if there else 1


def shared(tensor: Tensor) -> Tensor:
    """The first rank's, on every rank."""
    if distributed.is_available() and distributed.is_initialized():
        distributed.broadcast(tensor, src=0)
    return tensor
