"""The decoder-only transformer that reads and writes documents of text and image tokens.

The surprising rule: the model has an embedding row only for ids that the fitted tokenizers use
(:class:`tokenizer_service.vocabulary.Live`); ids outside are turned into rows here and nowhere else.

Shapes: B rows of a batch, T tokens, S cached and new tokens, D width, H heads, E head width, L layers,
V embedding rows, N counted tokens.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from infra.settings import Section
from tokenizer_service import vocabulary
from tokenizer_service.vocabulary import Live
from trainer import attention, lookup
from trainer.lookup import Lookup, run_lengths

LOSS_CHUNK = 4096
"""Tokens whose logits exist at once: 4,096 x 65,536 float32 logits are 1 GiB."""


class ModelSection(Section):
    """``[trainer.model]``: the shape of the transformer. Defaults: the paper's choices, at a small size."""

    num_layers: int = Field(default=4, ge=1)
    """Blocks of attention and feed-forward."""
    width: int = Field(default=256, ge=8)
    """Residual width; the feed-forward is four times as wide."""
    num_heads: int = Field(default=4, ge=1)
    """Attention heads; must divide ``width``."""
    context: int = Field(default=4224, ge=8)
    """Rows of the position table: the longest document after masking, in tokens.

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
    qk_norm: Literal["off", "on"] = "off"
    """Normalise queries and keys (Chameleon, arXiv 2405.09818, section 2.3): against late divergence."""
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
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """What one forward pass reads; all but the mask are [B, T]."""

    ids_BT: Tensor
    positions_BT: Tensor
    """Index in the rotated document, from 0."""
    seen_BTS: Tensor
    """True where token t may look at token s."""


def packed_inputs(ids_BT: Tensor, documents_BT: Tensor, positions_BT: Tensor) -> Inputs:
    """Inputs of a packed row, whose documents must not see one another."""
    return Inputs(
        ids_BT=ids_BT,
        positions_BT=positions_BT,
        seen_BTS=attention.dense(documents_BT),
    )


class Cache:
    """Keys and values [L, B, H, S, E] and ids [B, S] of the tokens read so far, in memory taken once."""

    def __init__(self, section: ModelSection, *, batch_rows: int, num_slots: int, like: Tensor) -> None:
        head_width = section.width // section.num_heads
        shape = (section.num_layers, batch_rows, section.num_heads, num_slots, head_width)
        self.keys_LBHSE = like.new_zeros(shape)
        self.values_LBHSE = like.new_zeros(shape)
        self.ids_BS = torch.zeros(batch_rows, num_slots, dtype=torch.int64, device=like.device)
        self.num_filled = 0

    def read(self, ids_BT: Tensor) -> Tensor:
        """Write the new ids behind the old ones; both together come back."""
        stop = self.num_filled + ids_BT.shape[1]
        self.ids_BS[:, self.num_filled : stop] = ids_BT
        return self.ids_BS[:, :stop]

    def extend(self, layer: int, keys_BHTE: Tensor, values_BHTE: Tensor) -> tuple[Tensor, Tensor]:
        """Write the new tokens of one layer behind the old ones; both together come back."""
        stop = self.num_filled + keys_BHTE.shape[2]
        self.keys_LBHSE[layer, :, :, self.num_filled : stop] = keys_BHTE
        self.values_LBHSE[layer, :, :, self.num_filled : stop] = values_BHTE
        return self.keys_LBHSE[layer, :, :, :stop], self.values_LBHSE[layer, :, :, :stop]


class Block(nn.Module):
    """Pre-norm attention and feed-forward with ReLU; no biases, no norm parameters."""

    def __init__(self, section: ModelSection) -> None:
        super().__init__()
        width = section.width
        self.num_heads = section.num_heads
        self.qk_norm = section.qk_norm
        self.dropout = section.dropout
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.attention_out = nn.Linear(width, width, bias=False)
        self.up = nn.Linear(width, 4 * width, bias=False)
        self.down = nn.Linear(4 * width, width, bias=False)

    def forward(self, x_BTD: Tensor, seen_BTS: Tensor, *, cache: Cache | None, layer: int) -> Tensor:
        x_BTD = x_BTD + self._drop(self._attend(normalise(x_BTD), seen_BTS, cache=cache, layer=layer))
        return x_BTD + self._drop(self.down(functional.relu(self.up(normalise(x_BTD)))))

    def _drop(self, x_BTD: Tensor) -> Tensor:
        return functional.dropout(x_BTD, self.dropout, self.training)

    def _attend(self, x_BTD: Tensor, seen_BTS: Tensor, *, cache: Cache | None, layer: int) -> Tensor:
        num_rows, num_tokens, width = x_BTD.shape
        qkv = self.qkv(x_BTD).view(num_rows, num_tokens, 3, self.num_heads, -1)
        q_BHTE, k_BHSE, v_BHSE = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        if self.qk_norm == "on":
            q_BHTE, k_BHSE = normalise(q_BHTE).to(v_BHSE), normalise(k_BHSE).to(v_BHSE)
        if cache is not None:
            k_BHSE, v_BHSE = cache.extend(layer, k_BHSE, v_BHSE)
        mixed_BHTE = functional.scaled_dot_product_attention(
            q_BHTE, k_BHSE, v_BHSE, attn_mask=seen_BTS[:, None]
        )
        mixed_BTD = mixed_BHTE.transpose(1, 2).reshape(num_rows, num_tokens, width)
        return self.attention_out(mixed_BTD)  # type: ignore[no-any-return]  # nn.Module.__call__ is untyped


def normalise(x: Tensor) -> Tensor:
    """LayerNorm over the last dimension, without parameters."""
    return functional.layer_norm(x, x.shape[-1:])


class Transformer(nn.Module):
    """The trunk and its tied head. Weights are those of :func:`initialise` until loaded."""

    def __init__(self, section: ModelSection, live: Live) -> None:
        super().__init__()
        self.section = section
        self.live = live
        self.tokens = nn.Embedding(live.rows, section.width)
        self.positions = nn.Embedding(section.context, section.width)
        self.places = nn.Embedding(section.image_places + 1, section.width) if section.image_places else None
        self.lookup = Lookup(section.lookup_rows, section.width) if section.lookup_rows else None
        self.blocks = nn.ModuleList(Block(section) for _ in range(section.num_layers))

    def rows(self, ids: Tensor) -> Tensor:
        """Ids to embedding rows: the gap between the last used text id and the first image id is closed."""
        shift = vocabulary.IMAGE_START - self.live.text_stop
        return torch.where(ids >= vocabulary.IMAGE_START, ids - shift, ids)

    def forward(self, inputs: Inputs, cache: Cache | None = None) -> Tensor:
        """Hidden states [B, T, D], normalised; with a cache, of the new tokens only."""
        ids_BT, num_tokens = inputs.ids_BT, inputs.ids_BT.shape[1]
        ids_BS = ids_BT if cache is None else cache.read(ids_BT)
        x_BTD = self.tokens(self.rows(ids_BT)) + self.positions(inputs.positions_BT)
        if self.places is not None:
            places_BT = run_lengths(ids_BS)[:, -num_tokens:]
            x_BTD = x_BTD + self.places(places_BT.clamp(max=self.section.image_places))
        if self.lookup is not None:
            x_BTD = x_BTD + self.lookup(ids_BS, num_tokens=num_tokens)
        for layer, block in enumerate(self.blocks):
            x_BTD = block(x_BTD, inputs.seen_BTS, cache=cache, layer=layer)
        if cache is not None:
            cache.num_filled += num_tokens
        return normalise(x_BTD)

    def text_logits(self, hidden_ND: Tensor) -> Tensor:
        """Logits of special and text ids: column i is id i."""
        return functional.linear(hidden_ND, self.tokens.weight[: self.live.text_stop]).float()

    def image_logits(self, hidden_ND: Tensor) -> Tensor:
        """Logits of image ids: column i is code i."""
        return functional.linear(hidden_ND, self.tokens.weight[self.live.text_stop :]).float()

    def nll(self, hidden_BTD: Tensor, targets_BT: Tensor, counted_BT: Tensor) -> Tensor:
        """Negative log-likelihood [B, T] in nats, 0 where a target does not count.

        Batches of more than ``LOSS_CHUNK`` tokens have logits for so many at one time; the backward pass
        computes them again.
        """
        hidden_ND, targets_N = hidden_BTD.flatten(0, 1), targets_BT.flatten()
        nll_N = torch.zeros_like(targets_N, dtype=torch.float32)
        for start, stop, index in self._competitions(targets_N, counted_BT.flatten()):
            part = (hidden_ND[index], self.tokens.weight[start:stop], self.rows(targets_N[index]) - start)
            if len(targets_N) > LOSS_CHUNK:
                nll_part = checkpoint(_cross_entropy, *part, use_reentrant=False)
            else:
                nll_part = _cross_entropy(*part)
            nll_N = nll_N.index_put((index,), nll_part)
        return nll_N.view_as(targets_BT)

    def _competitions(self, targets_N: Tensor, counted_N: Tensor) -> Iterator[tuple[int, int, Tensor]]:
        """(first head row, last head row + 1, indices of tokens), in chunks."""
        if self.section.head == "flat":
            groups = [(0, self.live.rows, counted_N)]
        else:
            image_N = targets_N >= vocabulary.IMAGE_START
            middle = self.live.text_stop
            groups = [(0, middle, counted_N & ~image_N), (middle, self.live.rows, counted_N & image_N)]
        for start, stop, members_N in groups:
            for index in torch.split(members_N.nonzero().squeeze(1), LOSS_CHUNK):
                yield start, stop, index


def _cross_entropy(hidden_ND: Tensor, weight_VD: Tensor, chosen_N: Tensor) -> Tensor:
    logits_NV = functional.linear(hidden_ND, weight_VD).float()
    return functional.cross_entropy(logits_NV, chosen_N, reduction="none")


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
    layer norms                  no parameters
    ===========================  =======================================================
    """
    generator = torch.Generator().manual_seed(seed)
    std = model.section.init_std
    for name, weight in model.named_parameters():
        kind = name.split(".")[-2]
        if kind in {"attention_out", "down", "rows"}:
            nn.init.zeros_(weight)
            continue
        spread = {"positions": 0.0002, "places": 0.0002, "out": lookup.WIDTH**-0.5}.get(kind, std)
        nn.init.trunc_normal_(weight, std=spread, a=-3 * spread, b=3 * spread, generator=generator)
    return model
