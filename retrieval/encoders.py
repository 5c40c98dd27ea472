"""Images and texts to the vectors that retrieval compares: what every encoder is.

There are two, each in a module of its own, since their libraries import slowly. ``retrieval.clip`` is the
choice of CM3Leon (a frozen CLIP, arXiv 2309.02591 section 2.1), for machines that have weights.
``retrieval.offline`` is not CLIP: ImageNet features and ConSE beside MiniLM sentences.

Legend: B images or texts, H and W pixels, F image features, D text features.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

OFFLINE = "7c162141e1cf6ff3c135524fc53c3fcc81c33e9d3ce72823c42be02ddada3f39"
"""Fingerprint of the offline encoder: its weights, vocabulary and class names, all pinned by sha256."""


class Encoder(Protocol):
    """Two frozen towers. Where ``image_width == text_width`` both sides share a space and are normalised."""

    @property
    def name(self) -> str: ...

    @property
    def fingerprint(self) -> str:
        """sha256 over weights and preprocessing; device and dtype belong to the numerics profile instead."""

    @property
    def image_width(self) -> int: ...

    @property
    def text_width(self) -> int: ...

    def image_features(self, images_BHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        """uint8 [B, H, W, 3] to [B, F]."""

    def text_features(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """B texts to [B, D]."""


def normalised(vectors_BD: NDArray[np.floating]) -> NDArray[np.float32]:
    """Rows of unit length; a zero row stays zero, so that it is like nothing."""
    norms_B1 = np.linalg.norm(vectors_BD.astype(np.float64), axis=1, keepdims=True)
    return (vectors_BD / np.where(norms_B1 == 0, 1.0, norms_B1)).astype(np.float32)


def weights_identity(kind: str, model: str, pretrained: str) -> str:
    """What tells an encoder's weights apart before they are loaded, for the key of a step.

    A checkpoint counts by its bytes, a published tag by its name.
    """
    if kind == "offline":
        return OFFLINE
    checkpoint = Path(pretrained)
    if not checkpoint.is_file():
        return f"{model}:{pretrained}"
    with checkpoint.open("rb") as file:
        return f"{model}:{hashlib.file_digest(file, 'sha256').hexdigest()}"
