"""What each filter catches and what it takes by mistake, on real pictures and real words; no peer, no clock.

PARDALIS_PHOTOS names a folder of photographs with ``labels.jsonl`` beside them. Words are theirs, and those
of the emoji and of openclipart where the demo or Debian's package left them. Rates are shares of ``of``:
watermarks are looked for in 60 of the photographs, or in PARDALIS_OCR, since each takes 0.7 s.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from infra.storage import cache_folder
from pipeline import filters, measuring, schema
from pipeline.deliveries import emoji, openclipart
from pipeline.filtering import language, pii
from pipeline.filters import FilterRules
from pipeline.scorers import alignment, faces, nsfw, watermark
from retrieval.offline import OfflineEncoder
from tests.benchmarks.sentences import CLEAN, IN_LANGUAGES, PERSONAL, SPAM, THINGS
from tokenizer_service.sizes import fit_square

Pixels = NDArray[np.uint8]
Rates = dict[str, Any]
OCR_CLEAN, OCR_MARKED = int(os.environ.get("PARDALIS_OCR", "60")), 20
"""Photographs that are read, clean and with each mark: 0.7 s each."""
ALPHAS = (255, 128, 70, 40)


def run() -> dict[str, Any]:
    if "PARDALIS_PHOTOS" not in os.environ:
        raise SystemExit("set PARDALIS_PHOTOS to a folder of photographs with labels.jsonl")
    torch.set_num_threads(1)
    folder = Path(os.environ["PARDALIS_PHOTOS"])
    lines = map(json.loads, (folder / "labels.jsonl").read_text().splitlines())
    labels = {line["file"]: line["label"] for line in lines}
    photos = [np.asarray(Image.open(folder / name).convert("RGB")) for name in labels]
    pictures = {
        "blur": blur(photos),
        "nsfw": unsafe(photos),
        "faces": seen_faces(photos),
        "watermark": marks(photos),
        "alignment": aligned(photos, list(labels.values())),
    }
    return {
        "unit": "share judged by mistake, or found",
        "ours": pictures["nsfw"]["over 0.8"],
        "peer": None,
        "peer_name": None,
        "ratio": None,
        "details": {**pictures, **words(list(labels.values()))},
    }


def share(found: Sequence[bool] | NDArray[np.bool_]) -> float:
    return round(float(np.mean(found)), 4)


def spread(photos: Sequence[Pixels], count: int) -> list[Pixels]:
    """That many, of all labels: the folder is sorted by them."""
    return [photos[i * len(photos) // count] for i in range(min(count, len(photos)))]


def blur(photos: Sequence[Pixels]) -> Rates:
    """Below the threshold as it ships: by mistake, and copies blurred by so many pixels."""
    bound = FilterRules().min_sharpness or 0.0

    def blurred(radius: int) -> list[float]:
        filter_ = ImageFilter.GaussianBlur(radius)
        return [measuring.sharpness(np.asarray(Image.fromarray(photo).filter(filter_))) for photo in photos]

    seen = measuring.seen(photos)
    clean = [columns[schema.SHARPNESS.name] for columns in seen]
    caught = {f"blurred by {radius} px": share(np.array(blurred(radius)) < bound) for radius in (2, 4, 8)}
    mistaken = share(np.array(clean) < bound)
    blank = share([columns[schema.PIXEL_STD.name] < FilterRules().min_pixel_std for columns in seen])
    return {"of": len(photos), "mistaken": mistaken, "least": min(clean), **caught, "blank mistaken": blank}


def unsafe(photos: Sequence[Pixels]) -> Rates:
    (scores,) = nsfw.Nsfw.load().seen(photos)
    rates = {f"over {bound}": share(scores > bound) for bound in (0.2, 0.5, 0.8)}
    return {"of": len(photos), **rates, "most": round(float(scores.max()), 3)}


def seen_faces(photos: Sequence[Pixels]) -> Rates:
    """Clothes without people: every face is a mistake."""
    counts, _ = faces.Faces.load().seen(photos)
    return {"of": len(photos), "mistaken": share(counts > 0)}


def marks(photos: Sequence[Pixels]) -> Rates:
    """Repeats over 2 or an agency's name, on clean photographs and under marks of these opacities of 255."""
    model = watermark.Watermarks.load()

    def fires(pictures: Sequence[Pixels]) -> float:
        _, repeats, names = model.seen(pictures)
        return share((repeats > 2) | (names > 0))

    clean, sample = spread(photos, OCR_CLEAN), spread(photos, OCR_MARKED)
    texts, repeats, names = model.seen(clean)
    found: Rates = {
        "clean": {
            "of": len(clean),
            "mistaken": share((repeats > 2) | (names > 0)),
            "with text": share(texts > 0),
        }
    }
    for draw, text in ((tiled, "STOCKPHOTO"), (tiled, "Jane Doe"), (single, "shutterstock")):
        found[f"{draw.__name__} {text}"] = {
            "of": len(sample),
            **{
                str(alpha): fires([overlaid(photo, draw, text, alpha) for photo in sample])
                for alpha in ALPHAS
            },
        }
    return found


Draw = Callable[[ImageDraw.ImageDraw, tuple[int, int], str, tuple[int, int, int, int]], None]


def overlaid(photo: Pixels, draw: Draw, text: str, alpha: int) -> Pixels:
    picture = Image.fromarray(photo).convert("RGBA")
    over = Image.new("RGBA", picture.size, (0, 0, 0, 0))
    draw(ImageDraw.Draw(over), picture.size, text, (255, 255, 255, alpha))
    return np.asarray(Image.alpha_composite(picture, over).convert("RGB"))


def tiled(draw: ImageDraw.ImageDraw, size: tuple[int, int], text: str, fill: tuple[int, ...]) -> None:
    font = ImageFont.load_default(28)
    step = int(draw.textlength(text, font=font)) + 40
    for row, y in enumerate(range(10, size[1], 70)):
        for x in range(-(row % 2) * 60, size[0], step):
            draw.text((x, y), text, font=font, fill=fill)


def single(draw: ImageDraw.ImageDraw, size: tuple[int, int], text: str, fill: tuple[int, ...]) -> None:
    font = ImageFont.load_default(36)
    left = (size[0] - draw.textlength(text, font=font)) / 2
    draw.text((left, size[1] / 2), text, font=font, fill=fill)


def aligned(photos: Sequence[Pixels], labels: Sequence[str]) -> Rates:
    """How often a picture's own caption scores over another: of other clothes, and of anything else."""
    encoder = OfflineEncoder.load(cache_folder() / "weights")
    squares = [fit_square(photo, 224) for photo in photos]
    images_BF = np.concatenate(
        [encoder.image_features(np.stack(squares[at : at + 32])) for at in range(0, len(squares), 32)]
    )

    def cosines(captions: Sequence[str]) -> NDArray[np.float32]:
        return alignment.cosines(images_BF, encoder.text_features(captions))

    own = cosines([f"a photo of a {label}" for label in labels])
    names, rng = sorted(set(labels)), np.random.default_rng(0)
    others = [str(rng.choice([name for name in names if name != label])) for label in labels]
    clothes = cosines([f"a photo of a {label}" for label in others])
    anything = cosines([f"a photo of a {THINGS[i % len(THINGS)]}" for i in range(len(labels))])
    return {
        "of": len(photos),
        "AUC against other clothes": auc(own, clothes),
        "AUC against other things": auc(own, anything),
    }


def auc(higher: NDArray[np.float32], lower: NDArray[np.float32]) -> float:
    """Probability that one of ``higher`` is over one of ``lower``."""
    return round(float((higher[:, None] > lower[None]).mean()), 3)


def words(labels: Sequence[str]) -> dict[str, Rates]:
    real = {"photographs": [(label, []) for label in labels], **catalogs()}
    return {
        "wording": {name: mistaken(rows) for name, rows in real.items()},
        "spam": {"of": len(SPAM), "found": share([bool(broken(*row)) for row in SPAM])},
        "personal": {
            "of": len(PERSONAL),
            "found": share([kind in kinds(text) for text, kind in PERSONAL]),
            "of clean": len(CLEAN),
            "mistaken": share([bool(kinds(text)) for text in CLEAN]),
        },
        "language": languages(),
    }


def catalogs() -> dict[str, list[tuple[str, Sequence[str]]]]:
    """Captions and keywords of real catalogs that lie here."""
    found: dict[str, list[tuple[str, Sequence[str]]]] = {}
    cache = cache_folder() / "npm"
    if cache.is_dir():
        records = [emoji.record(entry, "bench") for entry in emoji.fetched(cache).values()]
        found["emoji"] = [(record.description, record.keywords) for record in records]
    if openclipart.ROOT.is_dir():
        samples = [openclipart.sample(entry, "bench")[0] for entry in openclipart.entries(openclipart.ROOT)]
        found["openclipart"] = [(told["description"], told.get("keywords", ())) for told in samples]
    return found


def rules_of(rows: Sequence[tuple[str, Sequence[str]]]) -> tuple[filters.Rule, ...]:
    cells = [
        {schema.DESCRIPTION.name: caption, schema.KEYWORDS.name: list(keywords)} for caption, keywords in rows
    ]
    return filters.rules_of(pa.Table.from_pylist(cells, pa.schema(filters.READS)), FilterRules())


def broken(caption: str, keywords: Sequence[str]) -> list[str]:
    return [rule.code for rule in rules_of([(caption, keywords)]) if rule.broken.to_pylist()[0]]


def mistaken(rows: Sequence[tuple[str, Sequence[str]]]) -> Rates:
    """Rows that each rule takes; what personal data there is in openclipart is addresses, and no mistake."""
    counts: Mapping[str, int] = {rule.code: sum(rule.broken.to_pylist()) for rule in rules_of(rows)}
    return {"of": len(rows), **{code: count for code, count in counts.items() if count}}


def kinds(text: str) -> set[str]:
    return {kind for _, _, kind in pii.spans(text)}


def languages() -> Rates:
    """Taken for English at the threshold as it ships."""
    bound = FilterRules().min_language_share
    english = np.array(language.shares(IN_LANGUAGES["en"], ["en"]))
    others = [text for code, texts in IN_LANGUAGES.items() if code != "en" for text in texts]
    foreign = np.array(language.shares(others, ["en"]))
    return {
        "of English": len(english),
        "mistaken": share(english < bound),
        "of others": len(others),
        "found": share(foreign < bound),
    }
