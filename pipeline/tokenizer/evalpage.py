"""The page of an evaluation: pictures beside what was drawn of them, and what was measured.

The page stands alone; PNGs of its strips lie beside it, to be shown where no page can be.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from infra.storage import LocalStore
from pipeline import pages
from pipeline.reviewing import thumbnails
from pipeline.tokenizer.reconstructing import BIN_DB, Measured, Pair

PAGE = "index.html"
WIDTH, HEIGHT = 480, 120
"""Of the histogram's bars, in pixels."""
LEAST_TILE, LABEL, GAP = 128, 18, 6
"""Pixels of a picture in a sheet, at least, of the line below it, and between pairs."""
HIDDEN = (216, 222, 228)


def place(out: Path) -> Path:
    """A folder for a page, looked at before the work that fills it."""
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out {out} is a file; give a folder for the page and its pictures")
    if not out.parent.is_dir():
        raise ValueError(f"--out {out}: there is no folder {out.parent}; make it first")
    return out


def write(folder: Path, facts: Mapping[str, Any], measured: Measured) -> None:
    folder.mkdir(exist_ok=True)
    strips = {name: [shown(pair) for pair in pairs] for name, pairs in measured.picked.items()}
    drawn = bars(measured.histogram)
    pages.write(folder / PAGE, "evaluation.html", facts=facts, strips=strips, bars=drawn, height=HEIGHT)
    store = LocalStore(str(folder))
    for name, pairs in measured.picked.items():
        sink = io.BytesIO()
        sheet(pairs, side=facts["side"]).save(sink, "PNG")
        store.write(f"{name}.png", sink.getvalue())


def shown(pair: Pair) -> dict[str, Any]:
    """What the page tells of a pair; no pictures where none may be shown."""
    sides = None if pair.sides is None else [thumbnails.png(one) for one in pair.sides]
    return {"name": pair.name, "psnr_db": pair.psnr_db, "ssim": pair.ssim, "sides": sides}


def bars(histogram: NDArray[np.int64]) -> list[dict[str, Any]]:
    """From the first bin that holds any picture to the last."""
    (places,) = np.nonzero(histogram)
    bins = np.arange(places[0], places[-1] + 1)
    width, top = WIDTH / len(bins), int(histogram.max())
    return [
        {
            "x": width * number,
            "width": width,
            "height": HEIGHT * int(histogram[place]) / top,
            "low_db": BIN_DB * int(place),
            "images": int(histogram[place]),
        }
        for number, place in enumerate(bins)
    ]


def sheet(pairs: Sequence[Pair], *, side: int) -> Image.Image:
    """True and drawn side by side, two pairs a row, each above its name; small ones enlarged."""
    scale = max(1, -(-LEAST_TILE // side))
    tile = scale * side
    across, down = 2 * tile + GAP, tile + LABEL + GAP
    canvas = Image.new("RGB", (2 * across, -(-len(pairs) // 2) * down), "white")
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(12)
    for number, pair in enumerate(pairs):
        left, top = number % 2 * across, number // 2 * down
        if pair.sides is None:
            pen.rectangle((left, top, left + 2 * tile - 1, top + tile - 1), fill=HIDDEN)
        for place, pixels_HWC in enumerate(pair.sides or ()):
            large_HWC = pixels_HWC.repeat(scale, axis=0).repeat(scale, axis=1)
            canvas.paste(Image.fromarray(large_HWC), (left + place * tile, top))
        pen.text((left, top + tile + 2), f"{pair.psnr_db:.1f} dB  {pair.name}", fill="black", font=font)
    return canvas
