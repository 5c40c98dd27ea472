"""A photograph to a training image: the ingest step against img2dataset's resizer, by CPU time, in turns.

Both read JPEGs and write 256 px JPEGs at quality 95 with the longer side in proportion. Ours also applies
orientation and colour profile, and measures signature, dominant colour and contrast, as the step does; the
step decodes in a process of its own, which is not started here, so that both are timed alike.
PARDALIS_PHOTOS names a folder of JPEGs; without it the photographs are drawn: smooth noise with detail.
"""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from img2dataset.resizer import Resizer
from PIL import Image

from pipeline import extract, ingest, looking, notices
from pipeline.ingest import IngestConfig
from tokenizer_service import images

SIDE, QUALITY, PHOTOS, ROUNDS = 256, 95, 48, 7


def photographs() -> list[bytes]:
    folder = os.environ.get("PARDALIS_PHOTOS")
    return [path.read_bytes() for path in sorted(Path(folder).glob("*.jpg"))[:PHOTOS]] if folder else drawn()


def drawn() -> list[bytes]:
    """1,200 px; compresses about as a photograph does."""
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

    config = IngestConfig(max_side=SIDE, quality=QUALITY)

    def ours(photo: bytes) -> object:
        picture = looking.picture(looking.look(photo, {"max_side": SIDE}), SIDE)
        return ingest.measure(picture, config, packet=notices.packet(extract.notices_of(photo)))

    def bare(photo: bytes) -> bytes:
        return images.encode_jpeg(images.shrink(images.decode(photo, at_least=SIDE), SIDE), QUALITY)

    def peer(photo: bytes) -> object:
        found, *_, error = resizer(io.BytesIO(photo))
        if error:
            raise RuntimeError(error)
        return found

    real = "PARDALIS_PHOTOS" in os.environ
    rounds = [[cpu_seconds(work, photos) for work in (ours, peer, bare)] for _ in range(ROUNDS)]
    mine, theirs, unmeasured = (float(np.median(column)) for column in zip(*rounds, strict=True))
    return {
        "unit": "images per CPU second",
        "ours": round(len(photos) / mine, 1),
        "peer": round(len(photos) / theirs, 1),
        "peer_name": "img2dataset 1.47.0 resizer",
        "ratio": round(float(np.median([b / a for a, b, _ in rounds])), 3),
        "details": {
            "side": SIDE,
            "quality": QUALITY,
            "photographs": f"{len(photos)} {'real' if real else 'drawn'}",
            "rounds": ROUNDS,
            "ours_without_measuring": round(len(photos) / unmeasured, 1),
        },
    }
