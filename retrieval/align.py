"""Put image features into the space of sentence vectors: a ridge regression, fitted once and pinned.

The surprising rule: nothing is learnt from the pairs that judge it. Means, scales and weights come from the
rows handed to :func:`fit`, the ridge from a split inside them; the caller hands over the train split only.

Legend: N training pairs, B rows, F image features, D text features.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load, save

from retrieval import recall
from retrieval.encoders import normalised

Floats = NDArray[np.float32]


# In units of a standardised feature's variance, so they do not depend on N.
RIDGES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
# The share of the training pairs that judges the ridges, and is then fitted with the rest.
_JUDGED_SHARE = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Projection:
    """Both sides' way into the shared space: affine for images, centring for texts, then unit length."""

    mean: Floats
    """[F]"""
    scale: Floats
    """[F], positive."""
    weight: Floats
    """[F, D]"""
    center: Floats
    """[D]: the training texts' mean."""

    def images(self, features_BF: Floats) -> Floats:
        """[B, F] to normalised [B, D]."""
        _check_width(features_BF, len(self.mean), "image features")
        # float64, so that the size of the batch shows in no digit that is kept.
        standardised_BF = (features_BF.astype(np.float64) - self.mean) / self.scale
        return normalised(standardised_BF @ self.weight.astype(np.float64))

    def texts(self, texts_BD: Floats) -> Floats:
        """[B, D] to normalised [B, D]."""
        _check_width(texts_BD, len(self.center), "text features")
        return normalised(texts_BD - self.center)

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(self.to_bytes()).hexdigest()

    def to_bytes(self) -> bytes:
        """safetensors: equal projections give equal bytes."""
        arrays = {"center": self.center, "mean": self.mean, "scale": self.scale, "weight": self.weight}
        return save({name: np.ascontiguousarray(array, np.float32) for name, array in arrays.items()})

    @classmethod
    def of(cls, blob: bytes) -> Projection:
        """The inverse of :meth:`to_bytes`; ValueError when the four arrays don't fit together."""
        arrays = load(blob)
        if sorted(arrays) != ["center", "mean", "scale", "weight"]:
            raise ValueError(f"a projection holds center, mean, scale and weight, got {sorted(arrays)}")
        shapes = (arrays["mean"].shape + arrays["center"].shape, arrays["scale"].shape)
        if shapes != (arrays["weight"].shape, arrays["mean"].shape):
            raise ValueError(f"shapes disagree: { ({name: array.shape for name, array in arrays.items()}) }")
        return cls(**arrays)


def _check_width(rows_BX: Floats, width: int, what: str) -> None:
    if rows_BX.ndim != 2 or rows_BX.shape[1] != width:
        raise ValueError(
            f"{what} must be [B, {width}], got {rows_BX.shape}; use the encoder it was fitted on"
        )


def identity(width: int) -> Projection:
    """For encoders whose sides share a space already, such as CLIP."""
    zeros, ones = np.zeros(width, np.float32), np.ones(width, np.float32)
    return Projection(mean=zeros, scale=ones, weight=np.eye(width, dtype=np.float32), center=zeros)


@dataclass(frozen=True, slots=True)
class _Moments:
    """All that ridge regression needs of the pairs, for any penalty."""

    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    center: NDArray[np.float64]
    gram: NDArray[np.float64]
    """[F, F], of standardised features, a pair."""
    cross: NDArray[np.float64]
    """[F, D], of standardised features and centred texts, a pair."""


# Rows a block: 8,192 of 1,664 features are 109 MB as float64, whatever N is.
_BLOCK_ROWS = 8192


def _moments(features_NF: Floats, texts_ND: Floats) -> _Moments:
    mean_F = features_NF.mean(axis=0, dtype=np.float64)
    # A feature that never varies would divide by zero; it's centred to zero anyway.
    scale_F = np.maximum(features_NF.std(axis=0, dtype=np.float64), 1e-6)
    center_D = texts_ND.mean(axis=0, dtype=np.float64)
    gram_FF = np.zeros((len(mean_F), len(mean_F)))
    cross_FD = np.zeros((len(mean_F), len(center_D)))
    for start in range(0, len(features_NF), _BLOCK_ROWS):
        rows = slice(start, start + _BLOCK_ROWS)
        x_NF = (features_NF[rows] - mean_F) / scale_F
        gram_FF += x_NF.T @ x_NF
        cross_FD += x_NF.T @ (texts_ND[rows] - center_D)
    return _Moments(mean_F, scale_F, center_D, gram_FF / len(features_NF), cross_FD / len(features_NF))


def _solve(moments: _Moments, ridge: float) -> Projection:
    penalised_FF = moments.gram + ridge * np.eye(len(moments.gram))
    return Projection(
        mean=moments.mean.astype(np.float32),
        scale=moments.scale.astype(np.float32),
        weight=np.linalg.solve(penalised_FF, moments.cross).astype(np.float32),
        center=moments.center.astype(np.float32),
    )


def fit(features_NF: Floats, texts_ND: Floats, *, ridge: float | None = None) -> Projection:
    """Least squares from standardised features to centred texts with ``ridge`` times the identity added.

    Hoerl and Kennedy, Technometrics 1970; in float64, by a direct solver. Without a ``ridge`` the best of
    RIDGES is taken. ValueError with too few pairs, or when the ridge is not positive.
    """
    if len(features_NF) != len(texts_ND) or len(texts_ND) < 2:
        raise ValueError(f"need at least two pairs, got {len(features_NF)} images, {len(texts_ND)} texts")
    if ridge is None:
        judgements = judge_ridges(features_NF, texts_ND)
        ridge = max(RIDGES, key=lambda each: (judgements[each], each))
    if not ridge > 0:
        raise ValueError(f"ridge must be positive, got {ridge}; features may be collinear")
    return _solve(_moments(features_NF, texts_ND), ridge)


def judge_ridges(features_NF: Floats, texts_ND: Floats) -> dict[float, float]:
    """Mean reciprocal rank of text-to-image search for each of RIDGES, on pairs left out of its fit.

    Looks only at the pairs given, which are the training pairs; the same pairs are judged every time.
    """
    shuffled_N = np.random.default_rng(0).permutation(len(texts_ND))
    num_judged = round(len(texts_ND) * _JUDGED_SHARE)
    if num_judged < 2:
        raise ValueError(f"{len(texts_ND)} pairs are too few to judge a ridge; set retrieval.align.ridge")
    judged, kept = np.sort(shuffled_N[:num_judged]), np.sort(shuffled_N[num_judged:])
    moments = _moments(features_NF[kept], texts_ND[kept])
    judgements = {}
    for ridge in RIDGES:
        projection = _solve(moments, ridge)
        images_JD, texts_JD = projection.images(features_NF[judged]), projection.texts(texts_ND[judged])
        judgements[ridge] = recall.paired(texts_JD, images_JD).mean_reciprocal_rank
    return judgements


def document_vectors(images_BD: Floats, texts_BD: Floats) -> Floats:
    """What the index holds: the mean of a document's two normalised vectors, normalised again [B, D].

    CM3Leon averages the normalised two (arXiv 2309.02591, section 2.1); that it normalises again is RA-CM3's
    (arXiv 2211.12561) and makes a score a cosine, which the cap of 0.9 supposes.
    """
    return normalised((normalised(images_BD) + normalised(texts_BD)) / 2)
