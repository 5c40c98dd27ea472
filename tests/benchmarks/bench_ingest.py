"""Decode, resize and encode one photograph: ours against img2dataset's resizer, by CPU time, in turns.

Both read 1,200 px JPEGs and write 256 px JPEGs at quality 95 with the longer side in proportion. Ours also
applies orientation and colour profile; img2dataset 1.47 does neither.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from img2dataset.resizer import Resizer
from PIL import Image

from tokenizer_service import images

SIDE, QUALITY, PHOTOS, ROUNDS = 256, 95, 24, 7


def photographs() -> list[bytes]:
    """Smooth noise with detail: compresses about as a photograph does."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(PHOTOS):
        small = Image.fromarray(rng.integers(0, 255, (60, 80, 3), dtype=np.uint8))
        picture = np.asarray(small.resize((1200, 900), Image.Resampling.BICUBIC)).astype(np.int16)
        noisy = np.clip(picture + rng.integers(-12, 12, picture.shape), 0, 255).astype(np.uint8)
        sink = io.BytesIO()
        Image.fromarray(noisy).save(sink, "JPEG", quality=90)
        found.append(sink.getvalue())
    return found


def cpu_seconds(work: Callable[[bytes], object], photos: list[bytes]) -> float:
    began = time.process_time()
    for photo in photos:
        work(photo)
    return time.process_time() - began


def run() -> dict[str, Any]:
    photos = photographs()
    resizer = Resizer(
        image_size=SIDE, resize_mode="keep_ratio_largest", resize_only_if_bigger=True, encode_quality=QUALITY
    )

    def ours(photo: bytes) -> bytes:
        return images.encode_jpeg(images.shrink(images.decode(photo, at_least=SIDE), SIDE), QUALITY)

    def peer(photo: bytes) -> object:
        found, *_, error = resizer(io.BytesIO(photo))
        if error:
            raise RuntimeError(error)
        return found

    pairs = [(cpu_seconds(ours, photos), cpu_seconds(peer, photos)) for _ in range(ROUNDS)]
    mine, theirs = (float(np.median([pair[i] for pair in pairs])) for i in (0, 1))
    return {
        "unit": "images per CPU second",
        "ours": round(PHOTOS / mine, 1),
        "peer": round(PHOTOS / theirs, 1),
        "peer_name": "img2dataset 1.47.0 resizer",
        "ratio": round(float(np.median([b / a for a, b in pairs])), 3),
        "details": {"side": SIDE, "quality": QUALITY, "photographs": PHOTOS, "rounds": ROUNDS},
    }
