"""Put image features into the space of sentence vectors: a ridge regression, fitted once and pinned.

The surprising rule: nothing is learnt from the pairs that judge it. Means, scales and weights come from the
rows handed over, the ridge from a split inside them; the caller hands over the train split only. Pairs are
added up as they come, in float64, around the mean of each block: memory is of F x F and of one shard, however
many pairs there are.

Legend: N pairs of a shard, J pairs that judge, B rows, F image features, D text features.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load, save

from retrieval import recall
from retrieval.encoders import normalised

Floats = NDArray[np.float32]
Places = NDArray[np.uint64]

# In units of a standardised feature's variance, so they do not depend on N.
RIDGES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
# The share of the training pairs that judges the ridges, and is then fitted with the rest.
_JUDGED_SHARE = 0.1
# And so many at most: 55 MB of 1,280 and 384 features, and ranks among them tell ridges apart.
_JUDGED = 8192


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


# Rows a block: 8,192 of 1,664 features are 109 MB as float64, whatever N is.
_BLOCK_ROWS = 8192


@dataclass(frozen=True, slots=True)
class _Moments:
    """All that ridge regression needs of the pairs, for any penalty."""

    num: int
    mean: NDArray[np.float64]
    """[F]"""
    center: NDArray[np.float64]
    """[D]"""
    gram: NDArray[np.float64]
    """[F, F]: sum of the products of features less their means."""
    cross: NDArray[np.float64]
    """[F, D]: sum of the products of features and texts less their means."""

    @classmethod
    def of(cls, features_NF: Floats, texts_ND: Floats) -> _Moments:
        mean_F, center_D = (side.mean(axis=0, dtype=np.float64) for side in (features_NF, texts_ND))
        x_NF = features_NF - mean_F
        return cls(len(x_NF), mean_F, center_D, x_NF.T @ x_NF, x_NF.T @ (texts_ND - center_D))

    def plus(self, other: _Moments) -> _Moments:
        """Of both together.

        Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances",
        1979: sums of squares less the square of a sum would lose the digits of a feature far from zero.
        """
        share = other.num / (self.num + other.num)
        x_F, y_D = other.mean - self.mean, other.center - self.center
        return _Moments(
            self.num + other.num,
            self.mean + share * x_F,
            self.center + share * y_D,
            self.gram + other.gram + self.num * share * np.outer(x_F, x_F),
            self.cross + other.cross + self.num * share * np.outer(x_F, y_D),
        )

    def less(self, part: _Moments) -> _Moments:
        """Of the rest, where ``part`` is among these: the inverse of :meth:`plus`."""
        num = self.num - part.num
        x_F, y_D = ((self.mean - part.mean) / num * self.num, (self.center - part.center) / num * self.num)
        weight = num * part.num / self.num
        return _Moments(
            num,
            part.mean + x_F,
            part.center + y_D,
            self.gram - part.gram - weight * np.outer(x_F, x_F),
            self.cross - part.cross - weight * np.outer(x_F, y_D),
        )

    def solved(self, ridge: float) -> Projection:
        """By a direct solver, in units in which every feature has a variance of one."""
        # A feature that never varies would divide by zero; it's centred to zero anyway.
        scale_F = np.maximum(np.sqrt(np.maximum(np.diag(self.gram), 0) / self.num), 1e-6)
        gram_FF = self.gram / scale_F / scale_F[:, None] / self.num
        cross_FD = self.cross / scale_F[:, None] / self.num
        return Projection(
            mean=self.mean.astype(np.float32),
            scale=scale_F.astype(np.float32),
            weight=np.linalg.solve(gram_FF + ridge * np.eye(len(gram_FF)), cross_FD).astype(np.float32),
            center=self.center.astype(np.float32),
        )


@dataclass(frozen=True, slots=True)
class _Pairs:
    """Pairs, each with its place in the order by which those that judge are chosen."""

    features: Floats
    texts: Floats
    places: Places

    def __len__(self) -> int:
        return len(self.places)

    def at(self, rows_N: NDArray[np.intp] | NDArray[np.bool_]) -> _Pairs:
        return _Pairs(self.features[rows_N], self.texts[rows_N], self.places[rows_N])

    def first(self, num: int) -> _Pairs:
        """So many, by place; they stay in the order in which they came."""
        return self.at(np.sort(np.argsort(self.places, kind="stable")[:num]))

    @staticmethod
    def joined(parts: Sequence[_Pairs]) -> _Pairs:
        sides = ([getattr(part, name) for part in parts] for name in ("features", "texts", "places"))
        return _Pairs(*map(np.concatenate, sides))


@dataclass(slots=True)
class Regression:
    """Least squares from standardised features to centred texts with ``ridge`` times the identity added.

    Hoerl and Kennedy, Technometrics 1970; in float64. Pairs are added shard by shard; the same shards in the
    same order give the same bytes. Without a ``ridge`` the best of RIDGES is taken, judged on a tenth of the
    pairs, which its fit does not see, and on at most 8,192: the first by their places.
    """

    ridge: float | None = None
    _moments: _Moments | None = None
    _first: list[_Pairs] = field(default_factory=list)
    _before: int = np.iinfo(np.uint64).max
    """The place before which a pair may yet be one of those that judge."""

    def __post_init__(self) -> None:
        if self.ridge is not None and not self.ridge > 0:
            raise ValueError(f"ridge must be positive, got {self.ridge}; features may be collinear")

    @property
    def num_pairs(self) -> int:
        return 0 if self._moments is None else self._moments.num

    def add(self, features_NF: Floats, texts_ND: Floats, places_N: Places) -> None:
        """Pairs of a shard. ``places_N`` depend on who they are alone, such as hashes of their names."""
        for start in range(0, len(places_N), _BLOCK_ROWS):
            rows = slice(start, start + _BLOCK_ROWS)
            block = _Moments.of(features_NF[rows], texts_ND[rows])
            self._moments = block if self._moments is None else self._moments.plus(block)
        if self.ridge is None:
            self._first.append(_Pairs(features_NF, texts_ND, places_N).at(places_N < self._before))
            if sum(map(len, self._first)) > 2 * _JUDGED:
                self._first = [_Pairs.joined(self._first).first(_JUDGED)]
                self._before = int(self._first[0].places.max())

    def projection(self) -> Projection:
        """ValueError with too few pairs."""
        if self._moments is None or self._moments.num < 2:
            raise ValueError(f"need at least two pairs, got {self.num_pairs}")
        ridge = self.ridge
        if ridge is None:
            judgements = self.judgements()
            ridge = max(RIDGES, key=lambda each: (judgements[each], each))
        return self._moments.solved(ridge)

    def judgements(self) -> dict[float, float]:
        """Mean reciprocal rank of text-to-image search for each of RIDGES, on pairs left out of its fit.

        Looks only at the pairs given, which are the training pairs; the same pairs are judged every time.
        """
        num_judged = min(_JUDGED, round(self.num_pairs * _JUDGED_SHARE))
        if self._moments is None or num_judged < 2:
            raise ValueError(
                f"{self.num_pairs} pairs are too few to judge a ridge; set retrieval.align.ridge"
            )
        judged = _Pairs.joined(self._first).first(num_judged)
        kept = self._moments.less(_Moments.of(judged.features, judged.texts))
        found = {}
        for ridge in RIDGES:
            fitted = kept.solved(ridge)
            images_JD, texts_JD = fitted.images(judged.features), fitted.texts(judged.texts)
            found[ridge] = recall.paired(texts_JD, images_JD).mean_reciprocal_rank
        return found


def document_vectors(images_BD: Floats, texts_BD: Floats) -> Floats:
    """What the index holds: the mean of a document's two normalised vectors, normalised again [B, D].

    CM3Leon averages the normalised two (arXiv 2309.02591, section 2.1); that it normalises again is RA-CM3's
    (arXiv 2211.12561) and makes a score a cosine, which the cap of 0.9 supposes.
    """
    return normalised((normalised(images_BD) + normalised(texts_BD)) / 2)
