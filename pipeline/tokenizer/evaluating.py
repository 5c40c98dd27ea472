"""`pardalis tokenizer eval`: how much of a picture an image tokenizer keeps, in numbers and on a page.

The surprising rule: everything is measured at one side, that of the training, which the answer states; a
number at another side says something else. Fréchet distances carry the name of the network that saw.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.options import ReadOptions, answer
from infra.storage import cache_folder
from pipeline import numerics
from pipeline.tokenizer import evalpage, heldout
from pipeline.tokenizer.reconstructing import Measured, Network, Picture, measure
from pipeline.tokenizer.tokenizing import image_side, load_vq
from tokenizer_service import checkpoints, coding, metrics
from tokenizer_service import inception as fid
from tokenizer_service.features import Backbone
from tokenizer_service.inception import Inception
from tokenizer_service.vq import VQ

FD, FID = "rfd_effnet", "rfid"
MOST_GROUPS = 40
"""Categories that are told, those of the most pictures."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What is measured, on which pictures."""

    model: VQ
    side: int
    pictures: Iterable[Picture]
    told: Mapping[str, str]


def evaluate(
    *,
    image: Path | None = None,
    model: str | None = None,
    side: int | None = None,
    inception: Path | None = None,
    out: Path | None = None,
    options: ReadOptions | None = None,
) -> None:
    """Measure the image tokenizer on the held-out images, or on others.

    Example: pardalis tokenizer eval --corpus demo/corpus --out reconstructions

    Parameters
    ----------
    image
        Folder of JPEG, PNG or WebP files to measure on; the folders in it are categories.
    model
        Weights to measure: a vq.safetensors, a published checkpoint, or its OWNER/NAME:FILE on the hub. With
        --image, no corpus is opened.
    side
        Pixels of the squares; default what the tokenizer was fitted at.
    inception
        Inception weights of pytorch-fid, for rFID; default the file of that name among the cached weights.
    out
        Folder for a page of pictures beside what was drawn of them; made if it is not there.
    """
    options = options or ReadOptions()
    page = evalpage.place(out) if out else None
    seen_by = load_inception(inception)
    what = subject(image, model, side, options)
    measured = measure(what.pictures, what.model, networks=networks(seen_by), numerics=coding.NUMERICS)
    if not measured.all.images:
        raise ValueError(
            "there is no image to measure on; raise pipeline.split.validation and build again, "
            "or give --image a folder of images"
        )
    facts = {**what.told, "side": what.side, **numbers(measured), **about_fid(seen_by)}
    if page:
        evalpage.write(page, facts, measured)
    answer(facts, "\n".join(lines(facts, page)), json=options.json)


def subject(image: Path | None, model: str | None, side: int | None, options: ReadOptions) -> Subject:
    where = ""
    if image is None or model is None:
        corpus = options.open()
        version = corpus.newest()
        where = f"{corpus.store.uri}, version {version.number}"
    loaded = load_vq(corpus, version) if model is None else checkpoints.open_model(model)
    side = side or (image_side(corpus, version) if model is None else loaded.config.preprocessing.side)
    if side is None:
        raise ValueError(f"{model or where} does not say at which size it was fitted; give --side")
    square = heldout.squares(side, loaded.config.preprocessing)
    return Subject(
        model=loaded.to(numerics.device()),
        side=side,
        pictures=heldout.of_corpus(corpus, version, square)
        if image is None
        else heldout.of_folder(image, square),
        told={
            "pictures": f"held out of {where}" if image is None else str(image),
            "model": where if model is None else str(model),
        },
    )


def load_inception(file: Path | None) -> Inception | None:
    """The file given; else the one among the cached weights, where it is."""
    path = file or cache_folder() / "weights" / fid.FILE
    if file is None and not path.exists():
        return None
    return fid.load(path, device=numerics.device())


def networks(inception: Inception | None) -> dict[str, Network]:
    backbone = Backbone.load(cache_folder() / "weights", device=numerics.device())
    found: dict[str, Network] = {FD: backbone.features}
    return found if inception is None else {**found, FID: inception.features}


def about_fid(inception: Inception | None) -> dict[str, Any]:
    if inception is None:
        return {FID: None, "rfid_weights": f"none here: give --inception {fid.FILE} for an rFID"}
    kind = "published" if inception.is_published else "of another file, so this is no FID"
    return {"rfid_weights": f"{kind}, sha256 {inception.sha256}"}


def numbers(measured: Measured) -> dict[str, Any]:
    use = metrics.use_of(measured.counts_K)
    return {
        "images": measured.all.images,
        **measured.all.means(),
        **measured.distances(),
        "codebook_size": len(measured.counts_K),
        "codes_used_here": use.used,
        "perplexity": use.perplexity,
        **by_group(measured),
        **{
            name: [
                {"name": one.name, "psnr_db": one.psnr_db, "ssim": one.ssim} for one in measured.picked[name]
            ]
            for name in ("worst", "best")
        },
    }


def by_group(measured: Measured) -> dict[str, Any]:
    """The categories of the most pictures, and how many there are. A picture counts in each that it has."""
    ordered = sorted(measured.groups.items(), key=lambda item: (-item[1].images, item[0]))
    told = [{"name": name, "images": one.images, **one.means()} for name, one in ordered[:MOST_GROUPS]]
    return {"categories": told, "num_categories": len(ordered)}


def lines(facts: Mapping[str, Any], page: Path | None) -> Iterator[str]:
    yield f"{facts['model']}, on {facts['images']} images at {facts['side']} px ({facts['pictures']})"
    yield f"  PSNR {facts['psnr_mean_db']:.2f} dB, of the mean error {facts['psnr_pooled_db']:.2f} dB"
    yield f"  SSIM {facts['ssim']:.4f}"
    yield (
        f"  codes: {facts['codes_used_here']:.1%} of {facts['codebook_size']} used here, perplexity "
        f"{facts['perplexity']:.0f}"
    )
    for name, told in ((FD, "rFD of EfficientNet-Lite0 (FD-EffNet, no FID)"), (FID, "rFID")):
        if facts[name] is not None:
            yield f"  {told}: {facts[name]:.3f}, of {facts['images']} images"
    yield f"  Inception weights: {facts['rfid_weights']}"
    for one in facts["categories"]:
        quality = f"{one['psnr_mean_db']:6.2f} dB, SSIM {one['ssim']:.4f}"
        yield f"  {one['name']:<24} {one['images']:>7} images, {quality}"
    if page:
        yield f"page: {page / evalpage.PAGE}"
