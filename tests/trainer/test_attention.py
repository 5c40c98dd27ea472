"""The three forms of the document mask say the same, to the kernels that read them."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.attention.flex_attention import flex_attention
from torch.nn.functional import scaled_dot_product_attention

from trainer import attention

NUM_TOKENS = 24
ROWS = st.lists(st.lists(st.integers(1, 9), max_size=5), min_size=1, max_size=3)
"""Of each row the lengths of its documents, cut where it is full."""


def documents(rows: list[list[int]], holes: list[int]) -> Tensor:
    """[B, T]; ``holes`` are places of revoked tokens."""
    found = torch.full((len(rows), NUM_TOKENS), -1, dtype=torch.int32)
    for row, lengths in zip(found, rows, strict=True):
        at = 0
        for number, length in enumerate(lengths):
            row[at : at + length] = number
            at += length
    found[:, [hole for hole in holes if hole < NUM_TOKENS]] = -1
    return found


def drawn(num_rows: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(num_rows, 2, NUM_TOKENS, 16, generator=generator) for _ in range(3))
    return q, k, v


@given(ROWS, st.lists(st.integers(0, NUM_TOKENS - 1), max_size=4))
def test_a_token_sees_itself_and_what_lies_before_it_in_its_document(
    rows: list[list[int]], holes: list[int]
) -> None:
    documents_BT = documents(rows, holes)
    dense_BTT = attention.dense(documents_BT)
    told = documents_BT.tolist()
    for b, numbers in enumerate(told):
        for t in range(NUM_TOKENS):
            seen = [s for s in range(t + 1) if numbers[s] == numbers[t]]
            assert dense_BTT[b, t].nonzero().flatten().tolist() == seen
    counted = [[a == b and a >= 0 for a, b in pairwise(row)] for row in told]
    assert attention.counted(documents_BT).tolist() == counted


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@settings(max_examples=8)
@given(ROWS, st.lists(st.integers(0, NUM_TOKENS - 1), max_size=4))
def test_flex_attention_and_variable_lengths_give_what_the_dense_mask_gives(
    rows: list[list[int]], holes: list[int]
) -> None:
    documents_BT = documents(rows, holes)
    q, k, v = drawn(len(rows))
    wanted = scaled_dot_product_attention(q, k, v, attn_mask=attention.dense(documents_BT)[:, None])
    mask = attention.block_mask(documents_BT, block_size=8)
    flexed = flex_attention(q, k, v, block_mask=mask)
    assert torch.allclose(flexed, wanted, atol=1e-5)
    real_BT = documents_BT >= 0
    assert torch.allclose(by_segments(q, k, v, documents_BT), wanted.transpose(1, 2)[real_BT], atol=1e-5)


def by_segments(q: Tensor, k: Tensor, v: Tensor, documents_BT: Tensor) -> Tensor:
    """What a kernel of variable length computes, which runs on GPUs alone: each segment by itself."""
    found = attention.segments(documents_BT)
    flat = [one.transpose(1, 2).flatten(0, 1)[found.index_N] for one in (q, k, v)]
    ends = found.offset_D.tolist()
    assert ends[0] == 0
    assert ends[-1] == len(found.index_N)
    assert found.longest == max((b - a for a, b in pairwise(ends)), default=0)
    parts = [
        scaled_dot_product_attention(*(one[a:b].transpose(0, 1) for one in flat), is_causal=True).transpose(
            0, 1
        )
        for a, b in pairwise(ends)
    ]
    return torch.cat(parts) if parts else flat[0]


def test_the_block_mask_skips_squares_of_other_documents() -> None:
    """Eight documents of 128 tokens: of the 36 causal squares of a side of 128 the diagonal is computed."""
    documents_BT = torch.arange(8).repeat_interleave(128)[None]
    mask = attention.block_mask(documents_BT)
    assert (
        int(
            mask.kv_num_blocks.sum()
            + (mask.full_kv_num_blocks.sum() if mask.full_kv_num_blocks is not None else 0)
        )
        == 8
    )
