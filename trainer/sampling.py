"""``pardalis sample``: a picture from words, or words from a picture."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
from PIL import Image, PngImagePlugin

from infra.options import CorpusOptions, answer
from pipeline import jobs
from pipeline.tokens import square
from trainer.studio import open_studio
from trainer.training import run_config


def sample(  # noqa: PLR0913  # a command line: each parameter is a flag
    *,
    run: Path,
    text: str | None = None,
    image: Path | None = None,
    out: Path | None = None,
    neighbors: int = 2,
    samples: int = 1,
    seed: int = 0,
    options: CorpusOptions | None = None,
) -> None:
    """Draw a picture from --text, or write a caption for --image.

    Example: pardalis sample --run demo/run --text "red apple" --out apple.png

    Parameters
    ----------
    run
        Folder of a trained run.
    text
        What to draw.
    image
        Picture to caption.
    out
        PNG file; several samples stand side by side. Seed, settings and neighbors are in its metadata.
    neighbors
        Retrieved assets shown to the model, with their credit in the answer.
    samples
        Pictures to draw.
    seed
        The same seed draws the same picture.
    """
    if (text is None) == (image is None):
        raise ValueError("give either --text, to draw, or --image, to caption")
    options = options or CorpusOptions()
    corpus = options.open()
    config = jobs.load(corpus, options)
    studio = open_studio(corpus, corpus.newest(), config, run)
    section = run_config(run, options).sampler
    if image is not None:
        (caption,) = studio.caption([square(image.read_bytes(), studio.side)], section, seed=seed)
        answer({"caption": caption}, caption, json=options.json)
        return
    if out is None or text is None:
        raise ValueError("--text needs --out FILE.png")
    found = studio.neighbors(text, neighbors)
    pictures = studio.draw([text] * samples, [found] * samples, section, seed=seed)
    facts = {
        "prompt": text,
        "seed": seed,
        "settings": section.model_dump(mode="json"),
        "neighbors": [asdict(one) for one in found],
    }
    info = PngImagePlugin.PngInfo()
    info.add_text("pardalis", json.dumps(facts))
    Image.fromarray(np.concatenate(pictures, axis=1)).save(out, pnginfo=info)
    credits_ = [f"  {one.score:.3f} {one.uid} {one.description!r} {one.attribution}" for one in found]
    answer({"out": str(out), **facts}, "\n".join([f"{out}", *credits_]), json=options.json)
