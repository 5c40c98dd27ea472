"""What asks an index: words, pictures, vectors, or a weighted mix of them.

The surprising rule: a mix is made of directions alone. Every part has unit length before it is weighed, and
their sum has it again: "this picture, but at night" is 1 of the picture and 0.6 of the words, whatever the
encoders' own scales are. A weight below 0 leads away.

Legend: B texts or images, H and W pixels, P parts of a query, D embedding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retrieval.align import Projection
from retrieval.encoders import Encoder, normalised
from retrieval.index import Index
from retrieval.segments import Floats

CANCELLED = 1e-6
"""Length below which parts have cancelled out: float32 holds seven digits of each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Searcher:
    """An index, and the encoder that made its vectors."""

    index: Index
    encoder: Encoder
    projection: Projection
    side: int
    """Pixels of the square that the encoder is shown."""

    def texts(self, texts: Sequence[str]) -> Floats:
        """[B, D] of unit length."""
        return self.projection.texts(self.encoder.text_features(texts))

    def images(self, squares_BHWC: NDArray[np.uint8]) -> Floats:
        """[B, D] of unit length."""
        return self.projection.images(self.encoder.image_features(squares_BHWC))


def mixed(parts_PD: Floats, weights_P: Sequence[float]) -> Floats:
    """The weighted sum of the parts' directions, at unit length [D]; zeros where they cancel out.

    >>> mixed(np.array([[2, 0], [0, 5]], np.float32), (0.6, 0.8)).tolist()
    [0.6000000238418579, 0.800000011920929]
    >>> mixed(np.array([[1, 0], [1, 0]], np.float32), (1, -1)).tolist()
    [0.0, 0.0]
    """
    sum_D = np.asarray(weights_P, np.float64) @ normalised(parts_PD).astype(np.float64)
    largest = max(map(abs, weights_P))
    if np.linalg.norm(sum_D) <= CANCELLED * largest:
        return np.zeros(parts_PD.shape[1], np.float32)
    (found_D,) = normalised(sum_D[None])
    return np.asarray(found_D, np.float32)
