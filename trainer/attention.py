"""Which token sees which, in the form that each attention kernel asks for; all from the documents of a batch.

A token sees itself and what lies before it in its document. The surprising rule: padding and revoked tokens
belong to document -1. In masks they see each other, so that no softmax is empty; for variable lengths they
are left out.

Shapes: B rows, T tokens, N tokens of documents in the whole batch, D documents in the whole batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask

FLEX_BLOCK = 128
"""Tokens of a side of the squares that FlexAttention computes or skips: its own default."""


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
