"""Which token sees which, in the form that each attention kernel asks for; all from the documents of a batch.

A token sees itself and what lies before it in its document. The surprising rule: padding and revoked tokens
belong to document -1. In masks they see each other, so that no softmax is empty; for variable lengths they
are left out.

Shapes: B rows, T tokens, S tokens looked at, H heads, E head width, N tokens of documents in the whole batch,
D documents in the whole batch.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

FLEX_BLOCK = 128
"""Tokens of a side of the squares that FlexAttention computes or skips: its own default."""


@dataclass(frozen=True, slots=True)
class Runs:
    """Lengths of the documents and paddings of a batch, in order: they fill its B x T tokens."""

    lengths: tuple[int, ...]


FLEX_HEAD = 16
"""Least width of a head that its kernel is made for."""


Mask = Tensor | BlockMask | Runs
"""Dense [B, T, S] bool, the squares of FlexAttention, or documents end to end."""
Kernel = Literal["flex", "runs", "dense"]


def kernel(device: torch.device, *, compiled: bool, head_width: int) -> Kernel:
    """FlexAttention on a GPU, which takes heads of 16 and more. On a CPU document by document, unless a graph
    is compiled that must not hang on their lengths.
    """
    if device.type == "cuda":
        return "flex" if head_width >= FLEX_HEAD else "dense"
    return "dense" if compiled else "runs"


def mask(documents_BT: Tensor, kind: Kernel) -> Mask:
    """What :func:`attend` reads."""
    if kind == "flex":
        return block_mask(documents_BT)
    if kind == "runs" and (found := runs(documents_BT)):
        return found
    return dense(documents_BT)


def attend(q_BHTE: Tensor, k_BHSE: Tensor, v_BHSE: Tensor, seen: Mask) -> Tensor:
    """Softmax attention [B, H, T, E] of what each token sees."""
    if isinstance(seen, BlockMask):
        mixed: Tensor = _flex()(q_BHTE, k_BHSE, v_BHSE, block_mask=seen)
        return mixed
    if isinstance(seen, Runs):
        return _by_runs(q_BHTE, k_BHSE, v_BHSE, seen)
    return functional.scaled_dot_product_attention(q_BHTE, k_BHSE, v_BHSE, attn_mask=seen[:, None])


def _flex() -> Any:
    """Fused only when compiled; inside a graph that is being compiled it is part of that."""
    return flex_attention if torch.compiler.is_compiling() else _compiled_flex()


@functools.cache
def _compiled_flex() -> Any:
    return torch.compile(flex_attention)


def _by_runs(q_BHTE: Tensor, k_BHTE: Tensor, v_BHTE: Tensor, seen: Runs) -> Tensor:
    """One causal kernel a document: nothing is computed that a mask would throw away.

    Of a CPU core, there and back: 8 ms and not 21 with a dense mask for three rows of 365 tokens with five
    documents each and 4 heads of 64; 0.3 and not 1.9 s for a row of 4,224 with four documents and 8 heads.
    """
    shape = q_BHTE.transpose(1, 2).shape
    parts = (
        torch.split(x.transpose(1, 2).flatten(0, 1), list(seen.lengths)) for x in (q_BHTE, k_BHTE, v_BHTE)
    )
    documents = ((one.transpose(0, 1)[None] for one in document) for document in zip(*parts, strict=True))
    mixed = [functional.scaled_dot_product_attention(q, k, v, is_causal=True) for q, k, v in documents]
    return torch.cat([one[0].transpose(0, 1) for one in mixed]).view(shape).transpose(1, 2)


def runs(documents_BT: Tensor) -> Runs | None:
    """None where a document lost tokens in its middle: what is left of it lies in two runs that see each
    other.
    """
    num_tokens = documents_BT.shape[1]
    row_B1 = torch.arange(len(documents_BT), device=documents_BT.device)[:, None]
    key_BT = documents_BT.long() + 1 + row_B1 * (num_tokens + 2)
    key_R, length_R = torch.unique_consecutive(key_BT, return_counts=True)
    real_R = key_R[key_R % (num_tokens + 2) > 0]
    if len(torch.unique(real_R)) < len(real_R):
        return None
    return Runs(tuple(length_R.tolist()))


def counted(documents_BT: Tensor) -> Tensor:
    """[B, T - 1]: targets that count: predicted from a token of their own document."""
    return (documents_BT[:, 1:] == documents_BT[:, :-1]) & (documents_BT[:, 1:] >= 0)


def dense(documents_BT: Tensor) -> Tensor:
    """[B, T, T] bool, for ``scaled_dot_product_attention``: true where row t may look at column s."""
    num_tokens = documents_BT.shape[1]
    causal_TT = torch.ones(num_tokens, num_tokens, dtype=torch.bool, device=documents_BT.device).tril()
    return (documents_BT[:, :, None] == documents_BT[:, None, :]) & causal_TT


def block_mask(documents_BT: Tensor, *, block_size: int = FLEX_BLOCK) -> BlockMask:
    """For ``flex_attention``: squares in which no token sees another are skipped, not masked."""

    def seen(batch: Tensor, _head: Tensor, token: Tensor, other: Tensor) -> Tensor:
        return (documents_BT[batch, token] == documents_BT[batch, other]) & (other <= token)

    num_rows, num_tokens = documents_BT.shape
    return create_block_mask(
        seen, num_rows, None, num_tokens, num_tokens, device=str(documents_BT.device), BLOCK_SIZE=block_size
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Segments:
    """The documents of a batch end to end, for kernels of variable length, such as ``varlen_attn``."""

    index_N: Tensor
    """Place of each token in the flattened batch: ``x.flatten(0, 1)[index_N]`` is what the kernel reads."""
    offset_D: Tensor
    """int32 [D + 1]: where each document begins among the N, and N."""
    longest: int


def segments(documents_BT: Tensor) -> Segments:
    """What is left of a document that lost tokens is one segment: they are no gap to attention."""
    documents = documents_BT.flatten()
    index_N = torch.nonzero(documents >= 0).squeeze(1)
    row_N = index_N // documents_BT.shape[1]
    key_N = row_N * documents_BT.shape[1] + documents[index_N]
    _, length_D = torch.unique_consecutive(key_N, return_counts=True)
    offset_D = torch.nn.functional.pad(length_D.cumsum(0), (1, 0)).to(torch.int32)
    return Segments(index_N=index_N, offset_D=offset_D, longest=int(length_D.max()) if len(length_D) else 0)
