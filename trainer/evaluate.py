"""How well a model predicts: loss by modality and by place in the document; captions scored against truth.

The surprising rule: with neighbours in front, the loss of the document as a whole says little, since
neighbours come from the training split. Only the target pair counts; it is told apart by how many pairs stand
before it.

Shapes: B rows, T tokens.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tokenizer_service import vocabulary
from trainer import attention
from trainer.cm3 import Batch
from trainer.model import Transformer, at_rest
from trainer.objective import hidden

MODALITIES = ("text", "image", "special")
DISTANCES = (0, 64, 128, 256, 512, 1024, 2048, 4096)
"""Where the ranges of positions in a document begin."""
Bucket = tuple[str, str, int]
"""Modality, place, and the first position of the range."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Losses:
    """Sums in nats and counts by bucket, so that batches and ranks add."""

    nats: Mapping[Bucket, float] = field(default_factory=dict)
    tokens: Mapping[Bucket, int] = field(default_factory=dict)

    def __add__(self, other: Losses) -> Losses:
        keys = sorted(self.tokens.keys() | other.tokens.keys())
        return Losses(
            nats={key: self.nats.get(key, 0.0) + other.nats.get(key, 0.0) for key in keys},
            tokens={key: self.tokens.get(key, 0) + other.tokens.get(key, 0) for key in keys},
        )

    def mean(
        self, *, modality: str | None = None, place: str | None = None, distance: int | None = None
    ) -> float:
        """Nats a token, over the buckets that match; NaN where there is none."""
        asked = (modality, place, distance)
        keys = [
            key for key in self.tokens if all(a is None or a == b for a, b in zip(asked, key, strict=True))
        ]
        count = sum(self.tokens[key] for key in keys)
        return sum(self.nats[key] for key in keys) / count if count else float("nan")

    def table(self) -> dict[str, float]:
        """``loss``, ``loss/image``, ``loss/image/target_2``, ``loss/from/64``, …: all the means."""
        table = {"loss": self.mean()}
        table |= {f"loss/{m}": self.mean(modality=m) for m in sorted({m for m, _, _ in self.tokens})}
        pairs = sorted({(m, p) for m, p, _ in self.tokens})
        table |= {f"loss/{m}/{p}": self.mean(modality=m, place=p) for m, p in pairs}
        return table | {
            f"loss/from/{d}": self.mean(distance=d) for d in sorted({d for _, _, d in self.tokens})
        }


def places(batch: Batch) -> NDArray[np.str_]:
    """[B, T]: where each token stands in its document.

    ``target_k`` in the last pair, behind k others; ``neighbor`` in one of those; ``infill`` behind the
    closing ``<eos>``; ``padding``.
    """
    ids_BT, documents_BT, positions_BT = (one.cpu().numpy() for one in batch)
    first_BT = (positions_BT == 0) & (documents_BT >= 0)
    num_documents_BT = first_BT.cumsum(axis=1)
    breaks_BT = _count_before(ids_BT == vocabulary.BREAK, first_BT)
    eos_BT = _count_before(ids_BT == vocabulary.EOS, first_BT)
    pair_BT = breaks_BT // 2
    last_BT = _last_pair(pair_BT, num_documents_BT, documents_BT >= 0)
    names = np.where(pair_BT < last_BT, "neighbor", np.char.add("target_", last_BT.astype(str)))
    names = np.where(eos_BT > 1, "infill", names)
    return np.where(documents_BT < 0, "padding", names)


def _count_before(marks_BT: NDArray[np.bool_], first_BT: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Marks in the document before each token."""
    before_BT: NDArray[np.int64] = np.cumsum(marks_BT, axis=1, dtype=np.int64) - marks_BT
    start_BT = np.maximum.accumulate(np.where(first_BT, before_BT, 0), axis=1)
    return before_BT - start_BT


def _last_pair(
    pair_BT: NDArray[np.int64], number_BT: NDArray[np.int64], real_BT: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """For each token the number of pairs before the last pair of its document."""
    num_rows, num_tokens = pair_BT.shape
    key_BT = np.arange(num_rows)[:, None] * (num_tokens + 1) + number_BT
    last: NDArray[np.int64] = np.zeros(num_rows * (num_tokens + 1), np.int64)
    np.maximum.at(last, key_BT[real_BT], pair_BT[real_BT])
    last_BT: NDArray[np.int64] = last[key_BT]
    return last_BT


def batch_losses(model: Transformer, batch: Batch) -> Losses:
    """Losses of one batch; the first token of a document is never predicted from the one before it."""
    ids_BT, documents_BT, positions_BT = batch.to(model.tokens.weight.device)
    counted_BT = attention.counted(documents_BT)
    with torch.inference_mode(), at_rest(model):
        hidden_BTD = hidden(model, ids_BT, documents_BT, positions_BT)
        nll_BT = model.nll(hidden_BTD, ids_BT[:, 1:], counted_BT)
    return bucketed(nll_BT, batch, counted_BT)


def bucketed(nll_BT: Tensor, batch: Batch, counted_BT: Tensor) -> Losses:
    """Sums by modality, place and distance; nll and counted are [B, T - 1], those of the targets."""
    nats = nll_BT.detach().double().cpu().numpy()
    counted = counted_BT.cpu().numpy()
    targets, position = batch.ids_BT[:, 1:].cpu().numpy(), batch.positions_BT[:, 1:].cpu().numpy()
    kind = np.select([vocabulary.is_text(targets), vocabulary.is_image(targets)], [0, 1], 2)
    names, place = np.unique(places(batch)[:, 1:], return_inverse=True)
    distance = np.searchsorted(DISTANCES, position, side="right") - 1
    shape = (len(MODALITIES), len(names), len(DISTANCES))
    key = np.ravel_multi_index((kind, place.reshape(kind.shape), distance), shape)[counted]
    nats_K = np.bincount(key, nats[counted], minlength=math.prod(shape))
    tokens_K = np.bincount(key, minlength=math.prod(shape))
    buckets = {}
    for one in np.flatnonzero(tokens_K).tolist():
        modality, where, far = np.unravel_index(one, shape)
        buckets[MODALITIES[modality], str(names[where]), DISTANCES[far]] = one
    return Losses(
        nats={bucket: float(nats_K[one]) for bucket, one in buckets.items()},
        tokens={bucket: int(tokens_K[one]) for bucket, one in buckets.items()},
    )


def evaluate(model: Transformer, batches: Iterable[Batch]) -> Losses:
    """Losses over all batches. With and without neighbours: call it on the two streams."""
    return sum((batch_losses(model, batch) for batch in batches), Losses())


def word_f1(caption: str, references: Sequence[str]) -> float:
    """Best F1 over the words of a caption against any of its references, in [0, 1]; case and order are free.

    >>> word_f1("red fruit", ["red apple", "fruit"])
    0.6666666666666666
    """
    return max(
        (_f1(caption.lower().split(), reference.lower().split()) for reference in references), default=0.0
    )


def _f1(words: Sequence[str], reference: Sequence[str]) -> float:
    shared = (Counter(words) & Counter(reference)).total()
    return 2.0 * shared / (len(words) + len(reference)) if shared else 0.0
