"""Small copies of training images for pages, as data addresses. Callers ask only for what may be shown."""

from __future__ import annotations

import base64
import io
import tarfile
from collections.abc import Collection, Iterable, Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from infra.corpus import Corpus, Version
from pipeline.step import IMAGES
from tokenizer_service import images, jpegs, sizes

SIDE, QUALITY = 192, 82
"""Longer side in pixels; about 7 kB each, so that a page with 300 of them has 3 MB."""
BUFFER_BYTES = 1 << 20
"""Read at a time: on S3 a request for each header of a tar would take longer than its images."""


def thumbnails(
    corpus: Corpus, version: Version, wanted: Iterable[tuple[str, str]]
) -> dict[tuple[str, str], str]:
    """By (slot, key). A tar is read up to the last image that is wanted of it; the others are not opened."""
    keys: dict[str, set[str]] = {}
    for slot, key in wanted:
        keys.setdefault(slot, set()).add(key)
    shards = corpus.artifact(version, "images").shards
    return {
        (slot, key): address(jpeg)
        for slot, here in sorted(keys.items())
        for key, jpeg in members(corpus, shards[slot].name(IMAGES), here)
    }


def members(corpus: Corpus, name: str, keys: Collection[str]) -> Iterator[tuple[str, bytes]]:
    """The JPEGs of some keys, from a tar of ``archive.write``."""
    left = {f"{key}.jpg": key for key in keys}
    with (
        corpus.store.open(name) as file,
        tarfile.open(fileobj=file, mode="r|", bufsize=BUFFER_BYTES) as tar,
    ):
        while left and (member := tar.next()):
            if member.name in left and (found := tar.extractfile(member)):
                yield left.pop(member.name), found.read()


def address(jpeg: bytes) -> str:
    pixels_HWC = images.decode(jpeg, at_least=SIDE)
    height, width = pixels_HWC.shape[:2]
    small_HWC = sizes.shrink(pixels_HWC, sizes.shrunk(width, height, SIDE))
    return "data:image/jpeg;base64," + base64.b64encode(jpegs.encode(small_HWC, QUALITY)).decode()


def png(pixels_HWC: NDArray[np.uint8]) -> str:
    """Pixels as they are, as a data address."""
    return "data:image/png;base64," + base64.b64encode(encoded(pixels_HWC)).decode()


def encoded(pixels_HWC: NDArray[np.uint8]) -> bytes:
    """Pixels as they are, as a PNG file."""
    sink = io.BytesIO()
    Image.fromarray(pixels_HWC).save(sink, "PNG")
    return sink.getvalue()
