"""The demo's page: one HTML file without scripts or outside references, so that it opens from disk.

Beside it lies one PNG of what was drawn, to be shown where no page can be.

What it shows comes from :mod:`trainer.exhibit`; nothing is computed here but the plots.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
from PIL import Image, ImageDraw, ImageFont

from infra.storage import LocalStore
from pipeline import build
from pipeline.plots import plot, series

TILE, LABEL = 128, 24
"""Pixels of a drawn picture, twice its own, and of the words below it."""


def write(path: Path, summary: Mapping[str, Any]) -> None:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    html = environment.get_template("page.html").render(summary=summary, plots=plots(summary["curves"]))
    store = LocalStore(str(path.parent))
    store.write(path.name, html.encode())
    sink = io.BytesIO()
    drawn(summary["samples"]).save(sink, "PNG")
    store.write(f"{path.stem}.png", sink.getvalue())


def drawn(samples: Sequence[Mapping[str, Any]]) -> Image.Image:
    """What was drawn with neighbors, each above its prompt."""
    sheet = Image.new("RGB", (TILE * len(samples), TILE + LABEL), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    for place, sample in enumerate(samples):
        with Image.open(io.BytesIO(base64.b64decode(sample["image"].partition(",")[2]))) as picture:
            sheet.paste(picture.resize((TILE, TILE), Image.Resampling.BICUBIC), (TILE * place, 0))
        middle = (TILE * place + TILE // 2, TILE + LABEL // 2)
        pen.text(middle, sample["prompt"], fill="black", font=font, anchor="mm")
    return sheet


def plots(curves: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Lines of training, as SVG coordinates."""
    model: Sequence[Mapping[str, float]] = curves["model"]
    tokenizer: Sequence[Mapping[str, float]] = curves["tokenizer"]
    return [
        plot("Image tokenizer: loss", {"training": series(tokenizer, "loss")}),
        plot(
            "Transformer: loss of image tokens, nats",
            {
                "training, all tokens": series(model, "loss"),
                "held out, behind two neighbors": series(model, "neighbors/loss/image/target_2"),
                "held out, alone": series(model, "alone/loss/image/target_0"),
            },
        ),
        plot(
            "Transformer: loss of text tokens, nats",
            {
                "held out, behind two neighbors": series(model, "neighbors/loss/text/target_2"),
                "held out, alone": series(model, "alone/loss/text/target_0"),
            },
        ),
    ]


def text(summary: Mapping[str, Any], path: Path) -> str:
    """The summary for a terminal."""
    model, masking = summary["model"], summary["masking"]
    vq, found, held = summary["tokenizer"], summary["retrieval"], summary["validation"]
    lines = [
        f"image tokenizer: PSNR {vq['psnr_mean_db']:.2f} dB, of {vq['held_out_images']} held-out",
        f"  images at {vq['side']} px; {vq['psnr_pooled_db']:.2f} dB pooled over all pixels,",
        f"  {vq['psnr_opaque_db']:.2f} dB where alpha > 0, {vq['codes_used']:.0%} of codes used",
        f"retrieval: recall@10 {found['recall_at_10']:.2f} from text to image",
        f"  among {found['pairs']} held-out pairs; chance is {found['chance_at_10']:.2f}",
        f"transformer: {model['layers']} layers, {model['parameters'] / 1e6:.1f} M parameters, of which",
        f"  {model['lookup_parameters'] / 1e6:.1f} M are a memory looked up by word and place",
        f"held-out loss of image tokens: {held['alone/loss/image']:.3f} nats alone,",
        f"  {held['neighbors/loss/image/target_2']:.3f} with two neighbors",
        f"masking: {masking['rows_with_caption']:.0%} of blocks have a caption cut whole,",
        f"  {masking['causal']:.0%} of documents are left as they are",
    ]
    for name, counts in summary["steps"].items():
        rate = summary["rates"].get(name, {}).get("rows_per_s")
        lines.append(build.told(name, counts) + (f"  ({rate}/s)" if rate else ""))
    return "\n".join([*lines, f"page: {path}"])
