"""The decoder-only transformer that reads and writes documents of text and image tokens, in two variants.

===========  ==========================================  =====================================================
.            ``paper`` (arXiv 2309.02591, section 2.3)   ``modern``
===========  ==========================================  =====================================================
positions    learned table, added to the input           rotated queries and keys (arXiv 2104.09864)
feed-forward ReLU, 4 D wide                              SwiGLU (arXiv 2002.05202), 8/3 D wide: equally large
norms        LayerNorm without parameters                RMSNorm with a gain
stability    none (``qk_norm``, ``z_loss`` add it)       QK-norm, z-loss 1e-5 (arXiv 2405.09818, section 2.3)
===========  ==========================================  =====================================================

Neither has biases; both start as the identity, end in a norm and share the embedding with the head. The
surprising rule: the model has an embedding row only for ids that the fitted tokenizers use
(:class:`tokenizer_service.vocabulary.Live`); ids outside are turned into rows here and nowhere else.

Shapes: B rows of a batch, T tokens, D width, F width of the feed-forward, H heads,
E head width, L layers, V embedding rows, N tokens of the batch.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from infra.settings import Section
from tokenizer_service import vocabulary
from tokenizer_service.vocabulary import Live
from trainer import attention, cross_entropy, lookup
from trainer.attention import Kernel, Mask
from trainer.cross_entropy import Competition
from trainer.lookup import Captioned, Lookup, captioned

Z_LOSS = 1e-5
ROPE_BASE = 10_000.0
NORMS = frozenset({"before_attention", "before_feed_forward", "last_norm"})
"""Names of the modules whose weight is a gain."""
FEED_FORWARD_MULTIPLE = 64
"""SwiGLU's width is rounded up to a multiple: what matrix kernels like, and ranks can share."""


class ModelSection(Section):
    """``[trainer.model]``: the shape of the transformer. Defaults: the paper's choices, at a small size."""

    variant: Literal["paper", "modern"] = "paper"
    """Positions, feed-forward, norms: the table above."""
    num_layers: int = Field(default=4, ge=1)
    """Blocks of attention and feed-forward."""
    width: int = Field(default=256, ge=8)
    """Residual width."""
    num_heads: int = Field(default=4, ge=1)
    """Attention heads; must divide ``width``."""
    context: int = Field(default=4224, ge=8)
    """The longest document after masking, in tokens; rows of the position table, where there is one.

    A run whose settings leave it out takes the context that its rows were packed with.
    """
    image_places: int = Field(default=0, ge=0)
    """Rows of a second position table, by the index of a token in its image (0: none, as in the paper).

    Captions differ in length, so one place of an image falls on many absolute positions. A large run learns
    to count; with minutes of training it is better told. Set to the number of tokens an image.
    """
    lookup_rows: int = Field(default=0, ge=0)
    """Rows of a memory by (word of the caption, place in the image); 0: none, as in the paper.

    After 1,200 steps of the demo, samples from 96 captions of the training split came nearest to the picture
    so described, among 1,770, 3 % of the time without the memory and 62 % with 131,072 rows.
    """
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    """On the outputs of attention and feed-forward; the paper has none."""
    init_std: float = Field(default=0.006, gt=0.0)
    """Truncated normal, cut at three standard deviations."""
    qk_norm: bool | None = None
    """Normalise queries and keys: against late divergence. None: as the variant has it."""
    z_loss: float | None = Field(default=None, ge=0.0)
    """Weight of log(Z)^2, Z the normaliser of a token: against drift of the logits. None: the variant's."""
    head: Literal["by_modality", "flat"] = "by_modality"
    """Which rows of the tied head compete for a token.

    ``flat`` is the paper's: all of them. ``by_modality`` computes image rows where an image token comes next
    and special and text rows elsewhere. The layout tells which, and the sampler asks for exactly that, so
    the model spends nothing on the question, and the image part of a large head is 8 times cheaper.
    """

    @model_validator(mode="after")
    def _heads_divide_width(self) -> ModelSection:
        if self.width % self.num_heads:
            raise ValueError(f"num_heads {self.num_heads} does not divide width {self.width}")
        if self.variant == "modern" and self.head_width % 2:
            raise ValueError(
                f"width {self.width} gives {self.num_heads} heads of {self.head_width}; rotated positions "
                "need an even number"
            )
        return self

    @property
    def head_width(self) -> int:
        """E"""
        return self.width // self.num_heads

    @property
    def has_qk_norm(self) -> bool:
        return self.variant == "modern" if self.qk_norm is None else self.qk_norm

    @property
    def z_weight(self) -> float:
        if self.z_loss is not None:
            return self.z_loss
        return Z_LOSS if self.variant == "modern" else 0.0

    @property
    def feed_forward(self) -> int:
        """F"""
        if self.variant == "paper":
            return 4 * self.width
        return -(-8 * self.width // (3 * FEED_FORWARD_MULTIPLE)) * FEED_FORWARD_MULTIPLE


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """What one forward pass reads; all but the mask are [B, T]."""

    ids_BT: Tensor
    positions_BT: Tensor
    """Index in the rotated document, from 0."""
    seen: Mask
    """Which token may look at which."""
    captioned: Captioned | None = None
    """Where the tokens stand; None: the ids are whole documents, and tell it themselves."""


def packed_inputs(
    ids_BT: Tensor, documents_BT: Tensor, positions_BT: Tensor, kernel: Kernel = "dense"
) -> Inputs:
    """Inputs of a packed row, whose documents must not see one another."""
    return Inputs(ids_BT=ids_BT, positions_BT=positions_BT, seen=attention.mask(documents_BT, kernel))


class Cache(Protocol):
    """Keys and values of tokens read before: it answers for attention."""

    def attend(self, layer: int, q_BHTE: Tensor, k_BHTE: Tensor, v_BHTE: Tensor, seen: Mask, /) -> Tensor:
        """Mixed values [B, H, T, E] of what new tokens see: what is kept, and of each other what ``seen``
        says. Keeps theirs too.
        """


class Block(nn.Module):
    """Pre-norm attention and feed-forward."""

    def __init__(self, section: ModelSection) -> None:
        super().__init__()
        width, inner = section.width, section.feed_forward
        self.num_heads = section.num_heads
        self.has_qk_norm = section.has_qk_norm
        self.dropout = section.dropout
        self.gated = section.variant == "modern"
        self.before_attention = norm(section)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.attention_out = nn.Linear(width, width, bias=False)
        self.before_feed_forward = norm(section)
        self.up = nn.Linear(width, 2 * inner if self.gated else inner, bias=False)
        self.down = nn.Linear(inner, width, bias=False)

    def forward(
        self, x_BTD: Tensor, seen: Mask, turned: Rotation | None, attend: Attend = attention.attend
    ) -> Tensor:
        x_BTD = x_BTD + self._drop(self._attend(self.before_attention(x_BTD), seen, turned, attend))
        return x_BTD + self._drop(self.down(self._activated(self.up(self.before_feed_forward(x_BTD)))))

    def _activated(self, up_BTF: Tensor) -> Tensor:
        if not self.gated:
            return functional.relu(up_BTF)
        gate_BTF, value_BTF = up_BTF.chunk(2, dim=-1)
        return functional.silu(gate_BTF) * value_BTF

    def _drop(self, x_BTD: Tensor) -> Tensor:
        return functional.dropout(x_BTD, self.dropout, self.training)

    def _attend(self, x_BTD: Tensor, seen: Mask, turned: Rotation | None, attend: Attend) -> Tensor:
        num_rows, num_tokens, width = x_BTD.shape
        qkv = self.qkv(x_BTD).view(num_rows, num_tokens, 3, self.num_heads, -1)
        q_BHTE, k_BHTE, v_BHTE = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        if self.has_qk_norm:
            q_BHTE, k_BHTE = normalise(q_BHTE).to(v_BHTE), normalise(k_BHTE).to(v_BHTE)
        if turned is not None:
            q_BHTE, k_BHTE = rotated(q_BHTE, turned), rotated(k_BHTE, turned)
        mixed_BHTE = attend(q_BHTE, k_BHTE, v_BHTE, seen)
        mixed_BTD = mixed_BHTE.transpose(1, 2).reshape(num_rows, num_tokens, width)
        return self.attention_out(mixed_BTD)  # type: ignore[no-any-return]  # nn.Module.__call__ is untyped


Attend = Callable[[Tensor, Tensor, Tensor, Mask], Tensor]
Rotation = tuple[Tensor, Tensor]
"""Cosine and sine [B, 1, T, E/2] of the angle of each place and frequency."""


def rotation(positions_BT: Tensor, head_width: int) -> Rotation:
    """Angles of rotary positions: place x base^(-2i/E)."""
    half = torch.arange(0, head_width, 2, dtype=torch.float32, device=positions_BT.device)
    angle_BTE = positions_BT[..., None] * ROPE_BASE ** (-half / head_width)
    return angle_BTE.cos()[:, None], angle_BTE.sin()[:, None]


def rotated(x_BHTE: Tensor, turned: Rotation) -> Tensor:
    """Each pair (i, i + E/2) turned by its angle."""
    cos, sin = turned
    left, right = x_BHTE.float().chunk(2, dim=-1)
    return torch.cat((left * cos - right * sin, right * cos + left * sin), dim=-1).to(x_BHTE)


class Gained(nn.Module):
    """RMSNorm whose gain may be bfloat16 while the residual is float32, which torch's fused one refuses."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return functional.rms_norm(x, x.shape[-1:]) * self.weight


def norm(section: ModelSection) -> nn.Module:
    """Over the last dimension."""
    if section.variant == "modern":
        return Gained(section.width)
    return nn.LayerNorm(section.width, elementwise_affine=False)


def normalise(x: Tensor) -> Tensor:
    """LayerNorm over the last dimension, without parameters."""
    return functional.layer_norm(x, x.shape[-1:])


class Transformer(nn.Module):
    """The trunk and its tied head. Weights are those of :func:`initialise` until loaded."""

    def __init__(self, section: ModelSection, live: Live) -> None:
        super().__init__()
        self.section = section
        self.live = live
        self.recomputes = False
        """Whether the backward pass computes each block again: memory of one block, not of all, for a third
        more arithmetic."""
        self.tokens = nn.Embedding(live.rows, section.width)
        self.positions = nn.Embedding(section.context, section.width) if section.variant == "paper" else None
        self.places = nn.Embedding(section.image_places + 1, section.width) if section.image_places else None
        self.lookup = Lookup(section.lookup_rows, section.width) if section.lookup_rows else None
        self.blocks = nn.ModuleList(Block(section) for _ in range(section.num_layers))
        self.last_norm = norm(section)

    def rows(self, ids: Tensor) -> Tensor:
        """Ids to embedding rows: the gap between the last used text id and the first image id is closed."""
        shift = vocabulary.IMAGE_START - self.live.text_stop
        return torch.where(ids >= vocabulary.IMAGE_START, ids - shift, ids)

    def forward(self, inputs: Inputs, cache: Cache | None = None) -> Tensor:
        """Hidden states [B, T, D], normalised; with a cache, of the new tokens only."""
        x_BTD = self._embedded(inputs)
        turned = None
        if self.positions is None:
            turned = rotation(inputs.positions_BT, self.section.head_width)
        for layer, block in enumerate(self.blocks):
            if cache is not None:
                x_BTD = block(x_BTD, inputs.seen, turned, functools.partial(cache.attend, layer))
            elif self.recomputes and torch.is_grad_enabled():
                x_BTD = checkpoint(block, x_BTD, inputs.seen, turned, use_reentrant=False)
            else:
                x_BTD = block(x_BTD, inputs.seen, turned)
        return self.last_norm(x_BTD)  # type: ignore[no-any-return]  # nn.Module.__call__ is untyped

    def _embedded(self, inputs: Inputs) -> Tensor:
        ids_BT = inputs.ids_BT
        x_BTD: Tensor = self.tokens(self.rows(ids_BT)).float()  # the residual, where weights are bfloat16
        if self.positions is not None:
            x_BTD = x_BTD + self.positions(inputs.positions_BT)
        if self.places is not None or self.lookup is not None:
            x_BTD = x_BTD + self._placed(inputs)
        return x_BTD

    def _placed(self, inputs: Inputs) -> Tensor:
        """What the tables say of where tokens stand."""
        last = self.section.image_places
        told = inputs.captioned or captioned(inputs.ids_BT, inputs.positions_BT, last)
        found: list[Tensor] = []
        if self.places is not None:
            found.append(self.places(told.place_BT.clamp(max=last)))
        if self.lookup is not None:
            found.append(self.lookup(told))
        return sum(found[1:], start=found[0])

    def text_logits(self, hidden_ND: Tensor) -> Tensor:
        """Logits of special and text ids: column i is id i."""
        return functional.linear(hidden_ND, self.tokens.weight[: self.live.text_stop]).float()

    def image_logits(self, hidden_ND: Tensor) -> Tensor:
        """Logits of image ids: column i is code i."""
        return functional.linear(hidden_ND, self.tokens.weight[self.live.text_stop :]).float()

    def loss(self, hidden_BTD: Tensor, targets_BT: Tensor, share_BT: Tensor) -> tuple[Tensor, Tensor]:
        """Sum of share x (nll + z-loss) over tokens, and the nll of each [B, T] in nats, without gradient.

        A token whose share is 0 does not count, and has 0 nats.
        """
        target_N = targets_BT.flatten()
        loss, nll_N = cross_entropy.weighted(
            hidden_BTD.flatten(0, 1),
            self.tokens.weight,
            self.rows(target_N),
            competitions=self._competitions(target_N, share_BT.flatten() != 0),
            share_N=share_BT.flatten(),
            z_loss=self.section.z_weight,
        )
        return loss, nll_N.view_as(targets_BT)

    def nll(self, hidden_BTD: Tensor, targets_BT: Tensor, counted_BT: Tensor) -> Tensor:
        """Negative log-likelihood [B, T] in nats, 0 where a target does not count; without gradients."""
        target_N = targets_BT.flatten()
        nll_N = cross_entropy.nll(
            hidden_BTD.flatten(0, 1),
            self.tokens.weight,
            self.rows(target_N),
            competitions=self._competitions(target_N, counted_BT.flatten()),
        )
        return nll_N.view_as(targets_BT)

    def _competitions(self, target_N: Tensor, counted_N: Tensor) -> list[Competition]:
        if self.section.head == "flat":
            groups = [(0, self.live.rows, counted_N)]
        else:
            image_N = target_N >= vocabulary.IMAGE_START
            middle = self.live.text_stop
            groups = [(0, middle, counted_N & ~image_N), (middle, self.live.rows, counted_N & image_N)]
        return [
            Competition(start=start, stop=stop, index_N=member_N.nonzero().squeeze(1))
            for start, stop, member_N in groups
        ]


@contextmanager
def at_rest(model: nn.Module) -> Iterator[None]:
    """Dropout is off inside."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


def initialise(model: Transformer, *, seed: int) -> Transformer:
    """Draw every weight, in place (arXiv 2309.02591, section 2.3; positions from the authors' metaseq runs).

    ===========================  =======================================================
    tokens (and the tied head)   truncated normal, ``init_std``, cut at 3 deviations
    qkv, up                      the same
    attention_out, down          0: every block starts as the identity
    positions, places            truncated normal, 0.0002, cut at 3 deviations
    lookup rows                  0: nothing is remembered yet
    lookup out                   truncated normal, 1/8, cut at 3 deviations: as long as its input
    norms                        1, where they have a gain
    ===========================  =======================================================

    Each weight is drawn by itself from (seed, name), whole, so that ranks which hold a part of it hold the
    same model as one process.
    """
    for name, weight in model.named_parameters():
        _put(weight, _first(name, weight.shape, std=model.section.init_std, seed=seed))
    return model


def _first(name: str, shape: torch.Size, *, std: float, seed: int) -> Tensor:
    kind = name.split(".")[-2]
    if kind in {"attention_out", "down", "rows"}:
        return torch.zeros(shape)
    if kind in NORMS:
        return torch.ones(shape)
    digest = hashlib.sha256(f"{seed} {name}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
    spread = {"positions": 0.0002, "places": 0.0002, "out": lookup.WIDTH**-0.5}.get(kind, std)
    return nn.init.trunc_normal_(
        torch.empty(shape), std=spread, a=-3 * spread, b=3 * spread, generator=generator
    )


def _put(weight: Tensor, whole: Tensor) -> None:
    """The part of ``whole`` that this rank holds."""
    with torch.no_grad():
        if isinstance(weight, DTensor):
            whole = distribute_tensor(
                whole.to(weight.device), weight.device_mesh, weight.placements, src_data_rank=None
            )
        weight.copy_(whole)
