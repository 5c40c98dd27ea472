"""The CM3 objective: cut spans out of a document and put them behind its end (arXiv 2201.07520, section 2).

With its text cut, ``<eos> T <break> I <eos>`` becomes
``<eos> <sentinel:0> <break> I <eos> <sentinel:0> T <eoss>``: a model that reads from left to right learns to
fill in with both sides in view. The surprising rule: positions and documents are numbered after the rotation,
and a row keeps its width, because the packer left room for the tokens that cuts add.

Shapes: B rows of a batch, T = context + 1 tokens of a row, D documents of the batch, N cut spans, K runs of
tokens that move together.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.pack import TOKENS_PER_SPAN
from tokenizer_service import vocabulary
from trainer.spans import Ints, Layout, Spans, ordinals


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What one step of training reads; all [B, T] with T = context + 1."""

    ids_BT: NDArray[np.int64]
    documents_BT: NDArray[np.int32]
    """Number of the document in its row; -1 on padding."""
    positions_BT: NDArray[np.int32]
    """Index in the rotated document, from 0; in padding, index in the padding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Moves:
    """Where everything goes; positions count through the batch, row after row."""

    source_D: Ints
    """First token of a document, before."""
    target_D: Ints
    """And after: documents before it in the row have grown."""
    mark_N: Ints
    """The sentinel that stands where span N was, after."""
    infill_N: Ints
    """The sentinel that opens the infill of span N, after."""
    ordinal_N: Ints
    """Number of a span in its document."""
    closed_up_N: Ints
    """How much nearer to the start of the document the tokens behind span N lie, after."""
    num_D: Ints
    """Spans of a document."""


def _moves(layout: Layout, spans: Spans, num_tokens: int) -> _Moves:
    num_D = np.bincount(spans.document_N, minlength=len(layout.document_row_D))
    cut_D = np.bincount(spans.document_N, spans.length_N, minlength=len(num_D)).astype(np.int64)
    first_D = np.searchsorted(layout.document_row_D, layout.document_row_D)
    before_D = np.cumsum(num_D) - num_D
    source_D = layout.document_row_D * num_tokens + layout.document_start_D
    target_D = source_D + TOKENS_PER_SPAN * (before_D - before_D[first_D])
    d, ordinal_N = spans.document_N, ordinals(spans.document_N)
    # Tokens cut before this span from its own document.
    before_N = np.cumsum(spans.length_N) - spans.length_N - (np.cumsum(cut_D) - cut_D)[d]
    end_D = target_D + layout.document_length_D - cut_D + num_D
    return _Moves(
        source_D=source_D,
        target_D=target_D,
        mark_N=target_D[d] + spans.start_N - layout.document_start_D[d] - before_N + ordinal_N,
        infill_N=end_D[d] + before_N + 2 * ordinal_N,
        ordinal_N=ordinal_N,
        closed_up_N=before_N + spans.length_N - ordinal_N - 1,
        num_D=num_D,
    )


def rotate(rows_BT: NDArray[np.uint16], layout: Layout, spans: Spans) -> Batch:
    """Move the spans behind their documents, whose neighbours in the row make room."""
    num_rows, num_tokens = rows_BT.shape
    moves = _moves(layout, spans, num_tokens)
    grown_D = layout.document_length_D + TOKENS_PER_SPAN * moves.num_D
    used_B = np.bincount(layout.document_row_D, grown_D, minlength=num_rows).astype(np.int64)
    if used_B.max(initial=0) > num_tokens:
        raise ValueError(
            f"row {used_B.argmax()} of the batch has {used_B.max()} tokens after masking, and room for "
            f"{num_tokens}; lower trainer.masking.max_spans to what the rows were packed with"
        )
    # One row longer than the batch: the padding behind each row is moved there, out of the way.
    flat = np.full((num_rows + 1) * num_tokens, vocabulary.PAD, np.int64)
    flat[_targets(layout, spans, moves, shape=rows_BT.shape)] = rows_BT.ravel()
    flat[moves.mark_N] = flat[moves.infill_N] = vocabulary.FIRST_SENTINEL + moves.ordinal_N
    flat[moves.infill_N + spans.length_N + 1] = vocabulary.EOSS
    documents_BT, positions_BT = _numbered(layout, moves.target_D, used_B, num_tokens)
    return Batch(
        ids_BT=flat[: rows_BT.size].reshape(rows_BT.shape),
        documents_BT=documents_BT,
        positions_BT=positions_BT,
    )


def _targets(layout: Layout, spans: Spans, moves: _Moves, *, shape: tuple[int, int]) -> Ints:
    """Where each token of the batch goes. Tokens move in runs: all of a run by the same distance."""
    num_rows, num_tokens = shape
    d = spans.document_N
    span_N = moves.source_D[d] + spans.start_N - layout.document_start_D[d]
    moved_D = moves.target_D - moves.source_D
    row_used_B = np.bincount(layout.document_row_D, layout.document_length_D, minlength=num_rows)
    padding_B = np.arange(num_rows) * num_tokens + row_used_B.astype(np.int64)
    # Of runs that begin together the last wins, so what follows a span stands before a span that touches it.
    start_K = np.concatenate((span_N + spans.length_N, moves.source_D, span_N, padding_B))
    shift_K = np.concatenate(
        (
            moved_D[d] - moves.closed_up_N,
            moved_D,
            moves.infill_N + 1 - span_N,
            num_rows * num_tokens - padding_B,
        )
    )
    order_K = np.argsort(start_K, kind="stable")
    length_K = np.diff(start_K[order_K], append=num_rows * num_tokens)
    return np.repeat(shift_K[order_K], length_K) + np.arange(num_rows * num_tokens)


def _numbered(
    layout: Layout, target_D: Ints, used_B: Ints, num_tokens: int
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Documents and positions [B, T] of the rotated rows; padding is a run of its own, numbered -1."""
    padding_B = np.arange(len(used_B)) * num_tokens + used_B
    start_K = np.concatenate((target_D, padding_B))
    number_K = np.concatenate((layout.ordinal_D, np.full(len(used_B), -1)))
    order_K = np.argsort(start_K, kind="stable")
    size = len(used_B) * num_tokens
    length_K = np.diff(start_K[order_K], append=size)
    documents = np.repeat(number_K[order_K].astype(np.int32), length_K)
    positions = np.arange(size, dtype=np.int32) - np.repeat(start_K[order_K].astype(np.int32), length_K)
    return documents.reshape(-1, num_tokens), positions.reshape(-1, num_tokens)


def unmask(ids: NDArray[np.integer]) -> NDArray[np.integer]:
    """Put the infill of one rotated document back in its place.

    >>> unmask(np.array([1, 4, 2, 60000, 1, 4, 1030, 1031, 3])).tolist()
    [1, 1030, 1031, 2, 60000, 1]
    """
    ids = np.asarray(ids)
    sentinels = np.flatnonzero(vocabulary.is_sentinel(ids))
    if not len(sentinels):
        return ids
    marks, infills = np.split(sentinels, 2)
    closes = np.flatnonzero(ids == vocabulary.EOSS)
    kept = np.split(ids[: infills[0]], marks)
    spans = [ids[start + 1 : stop] for start, stop in zip(infills, closes, strict=True)]
    pairs = [part for span, rest in zip(spans, kept[1:], strict=True) for part in (span, rest[1:])]
    return np.concatenate([kept[0], *pairs])
