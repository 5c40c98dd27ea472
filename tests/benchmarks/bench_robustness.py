"""Which altered copies of photographs each dedup pass finds, and which different ones it takes for one.

Each photograph is saved once more, altered, and all are searched for pairs. Recall is the share of copies
that are paired with their original; a false positive is a pair of two different originals. PARDALIS_PHOTOS
names a folder of JPEGs; without it they are drawn, and say little.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageEnhance, ImageOps

from infra.storage import cache_folder
from pipeline import looking, measuring, numerics, schema, tables
from pipeline.duplicates import DuplicateConfig
from pipeline.likeness import lookalikes, semantic
from pipeline.likeness.lookalikes import Looks
from pipeline.likeness.signatures import Rows, Signatures
from retrieval.encoders import normalised
from retrieval.offline import OfflineEncoder
from tests.benchmarks import photographs
from tokenizer_service import sizes

MAX_SIDE, SQUARE, BATCH = 256, 224, 64
THRESHOLDS = (0.9, 0.92, 0.94, 0.96)
Picture = Image.Image


def cropped(picture: Picture, share: float) -> Picture:
    """Without so much of each side length, half of it at either end."""
    left, top = (round(side * share / 2) for side in picture.size)
    return picture.crop((left, top, picture.width - left, picture.height - top))


def with_banner(picture: Picture) -> Picture:
    found = Image.new("RGB", (picture.width, round(picture.height * 1.12)), "black")
    found.paste(picture, (0, 0))
    ImageDraw.Draw(found).text((10, picture.height + 4), "A caption under the photograph", fill="white")
    return found


def saved(picture: Picture, quality: int = 90) -> bytes:
    sink = io.BytesIO()
    picture.save(sink, "JPEG", quality=quality)
    return sink.getvalue()


CHANGES: Mapping[str, Callable[[Picture], bytes]] = {
    "JPEG at quality 40": lambda picture: saved(picture, 40),
    "JPEG at quality 10": lambda picture: saved(picture, 10),
    "half the size": lambda picture: saved(picture.reduce(2)),
    "cropped by 2 %": lambda picture: saved(cropped(picture, 0.02)),
    "cropped by 5 %": lambda picture: saved(cropped(picture, 0.05)),
    "cropped by 10 %": lambda picture: saved(cropped(picture, 0.1)),
    "cropped by 20 %": lambda picture: saved(cropped(picture, 0.2)),
    "white border of 5 %": lambda picture: saved(
        ImageOps.expand(picture, round(min(picture.size) * 0.05), "white")
    ),
    "caption in a banner of 12 %": lambda picture: saved(with_banner(picture)),
    "flipped": lambda picture: saved(ImageOps.mirror(picture)),
    "10 % lighter": lambda picture: saved(ImageEnhance.Brightness(picture).enhance(1.1)),
    "30 % lighter": lambda picture: saved(ImageEnhance.Brightness(picture).enhance(1.3)),
    "turned by 5 degrees": lambda picture: saved(picture.rotate(5, Image.Resampling.BICUBIC)),
}


@dataclass(frozen=True, slots=True)
class Files:
    """As the corpus sees them."""

    digests: list[str]
    looks: Looks
    vectors_ND: NDArray[np.float32]


def seen(files: list[bytes], encoder: OfflineEncoder) -> Files:
    settings = {"max_side": MAX_SIDE}
    pictures = [looking.picture(looking.look(file, settings), MAX_SIDE).pixels_HWC for file in files]
    rows = tables.of_rows(measuring.looks(pictures), pa.schema(schema.LOOKS))
    squares = [sizes.fit_square(one, SQUARE) for one in pictures]
    starts = range(0, len(squares), BATCH)
    features_ND = np.concatenate(
        [encoder.image_features(np.stack(squares[at : at + BATCH])) for at in starts]
    )
    digests = [hashlib.sha256(file).hexdigest() for file in files]
    return Files(digests, Looks.from_columns(rows), normalised(features_ND))


def joined(one: Files, two: Files) -> Files:
    signatures = Signatures(
        structure_NGGF=np.concatenate([files.looks.signatures.structure_NGGF for files in (one, two)]),
        tint_NGGC=np.concatenate([files.looks.signatures.tint_NGGC for files in (one, two)]),
    )
    found = Looks(
        signatures=signatures,
        hashes_N=np.concatenate([one.looks.hashes_N, two.looks.hashes_N]),
        mirrored_N=np.concatenate([one.looks.mirrored_N, two.looks.mirrored_N]),
    )
    return Files([*one.digests, *two.digests], found, np.concatenate([one.vectors_ND, two.vectors_ND]))


def of_equal_bytes(files: Files) -> Rows:
    first_N = lookalikes.first_seen(np.array(files.digests))
    again = np.flatnonzero(first_N != np.arange(len(first_N)))
    return np.stack([again, first_N[again]], 1)


def by_looks(config: DuplicateConfig) -> Callable[[Files], Rows]:
    return lambda files: lookalikes.pairs(files.looks, config)


def by_features(threshold: float) -> Callable[[Files], Rows]:
    return lambda files: semantic.pairs(files.vectors_ND, (0, len(files.digests)), threshold)


PASSES: Mapping[str, Callable[[Files], Rows]] = {
    "exact": of_equal_bytes,
    "near": by_looks(DuplicateConfig()),
    "near, by hash alone": by_looks(DuplicateConfig(variants=False)),
    "near, mirrored too": by_looks(DuplicateConfig(mirrored=True)),
    **{f"semantic at {threshold}": by_features(threshold) for threshold in THRESHOLDS},
}


def run() -> dict[str, Any]:
    numerics.use_threads(1)
    encoder = OfflineEncoder.load(cache_folder() / "weights", device="cpu")
    files = photographs.small()
    originals, num = seen(files, encoder), len(files)
    pictures = [Image.open(io.BytesIO(file)).convert("RGB") for file in files]
    copies = {change: [altered(picture) for picture in pictures] for change, altered in CHANGES.items()}
    table: dict[str, dict[str, float]] = {}
    for change, again in {"unchanged": files, **copies}.items():
        both = joined(originals, seen(again, encoder))
        table[change] = {name: found_again(find(both), num) for name, find in PASSES.items()}
    false = {name: len(find(originals)) for name, find in PASSES.items()}
    return {
        "unit": "share of altered copies found again",
        "ours": round(float(np.mean([row["near"] for row in table.values()])), 3),
        "peer": round(float(np.mean([row["exact"] for row in table.values()])), 3),
        "peer_name": "equal bytes alone",
        "ratio": None,
        "details": {
            "photographs": f"{num} {'real' if photographs.real() else 'drawn'}",
            "pairs_of_different_ones": num * (num - 1) // 2,
            "recall": table,
            "false_positives": false,
        },
    }


def found_again(pairs_P2: Rows, num: int) -> float:
    return round(float((pairs_P2[:, 0] - pairs_P2[:, 1] == num).sum()) / num, 3)
