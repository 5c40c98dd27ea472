"""The page of a fit: held-out images above what is left of them, curves, and how evenly codes are used."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline import pages
from pipeline.plots import plot, series
from pipeline.reviewing import thumbnails
from tokenizer_service.coding import Pixels

SHOWN = 24
"""Images: a PNG of 256 px has about 100 kB, and each is here twice."""
OCTAVES = 6
"""Of the histogram, on each side of the mean."""
WIDTH, HEIGHT = 420, 120
"""Of the histogram's bars, in pixels."""


def write(
    path: Path,
    *,
    curves: Sequence[Mapping[str, float]],
    pairs: tuple[Pixels, Pixels],
    held_out: int,
    counts_K: NDArray[np.float32],
    settings: Mapping[str, Any],
) -> None:
    """``pairs``: true and drawn images that may be shown, of so many ``held_out``. ``counts_K``: how often
    each code was lately chosen.
    """
    true_BHWC, seen_BHWC = pairs
    pages.write(
        path,
        "fit.html",
        last=curves[-1],
        pictures=[
            {"true": thumbnails.png(true), "seen": thumbnails.png(seen)}
            for true, seen in zip(true_BHWC[:SHOWN], seen_BHWC[:SHOWN], strict=True)
        ],
        side=true_BHWC.shape[1],
        held_out=held_out,
        plots=plots(curves),
        bars=bars(counts_K),
        top=HEIGHT,
        codes=len(counts_K),
        steps=settings["fit"]["steps"],
        quantizer=settings["fit"]["vq"]["quantizer"]["kind"],
        gan=settings["fit"]["gan"] is not None,
    )


def plots(curves: Sequence[Mapping[str, float]]) -> list[dict[str, Any]]:
    """Lines of the fit, as SVG coordinates; those of a GAN where there is one."""
    losses = [name for name in curves[-1] if name.endswith("_loss") and not name.startswith("gan_")]
    found = [
        plot("Loss", {"all": series(curves, "loss")}),
        plot("Its parts, weighted", {name.removesuffix("_loss"): series(curves, name) for name in losses}),
        plot(
            "PSNR, dB",
            {
                "held out, averaged weights": series(curves, "held_out_psnr"),
                "held out, weights as they were": series(curves, "watched_psnr"),
                "the batch": series(curves, "psnr"),
            },
        ),
        plot("Codes in use, share", {"used": series(curves, "used")}),
        plot("Perplexity of the codes", {"perplexity": series(curves, "perplexity")}),
    ]
    if any("gan_loss" in line for line in curves):
        found.append(plot("Discriminator: loss", {"hinge": series(curves, "gan_loss")}))
        gan = {"weight": series(curves, "gan_weight"), "left by the guard": series(curves, "gan_scale")}
        found.append(plot("GAN: weight", gan))
    return found


def bars(counts_K: NDArray[np.float32]) -> list[dict[str, Any]]:
    """How many codes were chosen so often, by octaves of the mean; the first bar is of those never chosen.

    >>> [bar["codes"] for bar in bars(np.array([0, 1, 1, 2], np.float32)) if bar["codes"]]
    [1, 2, 1]
    """
    mean = max(float(counts_K.mean()), 1e-12)
    octaves_K = np.log2(np.maximum(counts_K / mean, 2.0 ** -(OCTAVES + 1)))
    edges = np.array([-math.inf, *range(-OCTAVES, OCTAVES), math.inf])
    found, _ = np.histogram(octaves_K, edges)
    width, most = WIDTH / len(found), max(int(found.max()), 1)
    return [
        {
            "x": width * place,
            "width": width - 1,
            "height": HEIGHT * int(codes) / most,
            "codes": int(codes),
            "told": told(float(edges[place]), float(edges[place + 1])),
        }
        for place, codes in enumerate(found)
    ]


def told(low: float, high: float) -> str:
    """Edges of a bar in words.

    >>> told(-1.0, 0.0), told(-math.inf, -6.0)
    ('0.5 to 1 of the mean', 'under 0.0156 of the mean')
    """
    if math.isinf(low):
        return f"under {2**high:.3g} of the mean"
    return (
        f"over {2**low:.3g} of the mean" if math.isinf(high) else f"{2**low:.3g} to {2**high:.3g} of the mean"
    )
