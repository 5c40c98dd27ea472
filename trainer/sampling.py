"""``pardalis sample``: a picture from words, or words from a picture."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from cyclopts import Parameter
from PIL import Image, PngImagePlugin

from infra import runs
from infra.options import CorpusOptions, answer, png
from pipeline.searching.library import Found
from trainer import folder
from trainer.sampler import SamplerSection
from trainer.studio import Pixels, open_studio

SEEDS = 2**63
"""Seeds are hashed as signed 64-bit integers."""


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class DrawOptions:
    out: Path | None = None
    """PNG file; several samples stand side by side. Seed, settings and neighbors are in its metadata."""
    neighbors: int = 2
    """Retrieved assets shown to the model, with their credit in the answer."""
    samples: int = 1
    """Pictures to draw."""
    seed: int = 0
    """The same seed draws the same picture."""

    def check(self) -> None:
        if self.samples < 1:
            raise ValueError(f"--samples is {self.samples}; draw at least 1")
        if self.neighbors < 0:
            raise ValueError(f"--neighbors is {self.neighbors}; give 0 for none")
        if not 0 <= self.seed < SEEDS:
            raise ValueError(f"--seed is {self.seed}; give a number from 0 to {SEEDS - 1}")

    def target(self) -> Path:
        """Where the picture goes; refused before anything is drawn if it cannot go there."""
        if self.out is None:
            raise ValueError("--text needs --out FILE.png")
        return png(self.out)


def sample(
    *,
    run: Path,
    text: str | None = None,
    image: Path | None = None,
    drawing: DrawOptions | None = None,
    options: CorpusOptions | None = None,
) -> None:
    """Draw a picture from --text, or write a caption for --image.

    Example: pardalis sample --run demo/run --text "red apple" --out apple.png

    Parameters
    ----------
    run
        Folder of a run that was trained on the corpus.
    text
        What to draw.
    image
        Picture to caption.
    """
    options, drawing = options or CorpusOptions(), drawing or DrawOptions()
    drawing.check()
    runs.folder(run)
    if text is not None and image is None:
        draw(run, text, drawing, options)
    elif image is not None and text is None:
        caption(run, image, drawing, options)
    else:
        raise ValueError("give either --text, to draw, or --image, to caption")


def draw(run: Path, text: str, drawing: DrawOptions, options: CorpusOptions) -> None:
    """Draw, write the picture, and answer with who is to be credited."""
    out = drawing.target()
    section = folder.settings(run, options).sampler
    corpus = options.open()
    studio = open_studio(corpus, corpus.newest(), run)
    found = studio.neighbors(text, drawing.neighbors)
    (pictures,) = studio.draw([text], [found], section, seed=drawing.seed, samples=drawing.samples)
    facts = told(text, drawing.seed, section, found)
    write(out, pictures, facts)
    credits_ = [f"  {one.score:.3f} {one.uid} {one.description!r} {one.attribution}" for one in found]
    answer({"out": str(out), **facts}, "\n".join([f"{out}", *credits_]), json=options.json)


def caption(run: Path, image: Path, drawing: DrawOptions, options: CorpusOptions) -> None:
    """Write words for a picture."""
    if not image.is_file():
        raise ValueError(f"--image is {image}, and there is no such file")
    section = folder.settings(run, options).sampler
    corpus = options.open()
    studio = open_studio(corpus, corpus.newest(), run)
    (words,) = studio.caption([studio.square(image.read_bytes())], section, seed=drawing.seed)
    answer({"caption": words}, words, json=options.json)


def told(prompt: str, seed: int, section: SamplerSection, found: Sequence[Found]) -> dict[str, Any]:
    """How a picture was made, as its file says it."""
    return {
        "prompt": prompt,
        "seed": seed,
        "settings": section.model_dump(mode="json"),
        "neighbors": [asdict(one) for one in found],
    }


def write(out: Path, pictures: Pixels, facts: dict[str, Any]) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("pardalis", json.dumps(facts))
    Image.fromarray(np.concatenate(pictures, axis=1)).save(out, pnginfo=info)
