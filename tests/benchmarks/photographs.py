"""JPEGs of 2 to 12 megapixels, made of small photographs: what cameras deliver, where none can be shipped.

PARDALIS_PHOTOS names a folder of JPEGs; without it they are drawn: smooth noise with detail. They are
enlarged by Lanczos, each by another factor, and saved as cameras do (quality 90, 4:2:0), once:
PARDALIS_BENCH names the folder where they stay.
"""

from __future__ import annotations

import functools
import io
import multiprocessing
import os
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

LEAST_MP, MOST_MP = 2, 12
DRAWN = 48


def folder() -> Path:
    found = Path(os.environ.get("PARDALIS_BENCH", Path(tempfile.gettempdir()) / "pardalis-bench"))
    found.mkdir(parents=True, exist_ok=True)
    return found


def real() -> bool:
    return "PARDALIS_PHOTOS" in os.environ


def small() -> list[bytes]:
    if real():
        return [path.read_bytes() for path in sorted(Path(os.environ["PARDALIS_PHOTOS"]).glob("*.jpg"))]
    return [drawn(seed) for seed in range(DRAWN)]


def files(num: int) -> list[Path]:
    """That many small ones, as files: each as often as it takes."""
    place, sources = folder() / f"small-{'real' if real() else 'drawn'}", small()
    place.mkdir(exist_ok=True)
    paths = [place / f"{number:05d}.jpg" for number in range(num)]
    for number, path in enumerate(paths):
        path.write_bytes(sources[number % len(sources)])
    return paths


def drawn(seed: int) -> bytes:
    """400 px; compresses about as a photograph does."""
    rng = np.random.default_rng(seed)
    picture = Image.fromarray(rng.integers(0, 255, (12, 16, 3), dtype=np.uint8))
    smooth = np.asarray(picture.resize((400, 300), Image.Resampling.BICUBIC)).astype(np.int16)
    noisy = np.clip(smooth + rng.integers(-12, 12, smooth.shape), 0, 255).astype(np.uint8)
    sink = io.BytesIO()
    Image.fromarray(noisy).save(sink, "JPEG", quality=90)
    return sink.getvalue()


def large(num: int) -> list[Path]:
    """That many files, the same in every run."""
    kind = "real" if real() else "drawn"
    place = folder() / f"large-{kind}"
    place.mkdir(exist_ok=True)
    paths = [place / f"{number:05d}.jpg" for number in range(num)]
    missing = [number for number, path in enumerate(paths) if not path.exists()]
    if missing:
        make = functools.partial(enlarge, sources=small(), place=place)
        with multiprocessing.get_context("spawn").Pool(os.cpu_count()) as pool:
            pool.map(make, missing, chunksize=16)
    return paths


def enlarge(number: int, sources: list[bytes], place: Path) -> None:
    with Image.open(io.BytesIO(sources[number % len(sources)])) as opened:
        picture = opened.convert("RGB")
    # Golden ratio steps: evenly spread, and no two copies of one photograph have one size.
    megapixels = LEAST_MP + (MOST_MP - LEAST_MP) * (number * 0.6180339887 % 1)
    scale = (megapixels * 1e6 / (picture.width * picture.height)) ** 0.5
    size = round(picture.width * scale), round(picture.height * scale)
    partial = place / f"{number:05d}.partial"
    picture.resize(size, Image.Resampling.LANCZOS).save(partial, "JPEG", quality=90, subsampling="4:2:0")
    partial.replace(place / f"{number:05d}.jpg")
