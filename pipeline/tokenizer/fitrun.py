"""One rank's part of a fit of the image tokenizer on a corpus: it trains, watches, and leaves what can go on.

Surprising rule: everything is counted in steps, and the stream's place is saved with the weights, so that a
run that was stopped ends in the same bytes as one that was not.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import distributed

from infra import journal
from infra.artifact import pretty
from infra.corpus import Corpus, Version
from infra.settings import Section
from infra.storage import LocalStore, Store
from pipeline import numerics
from pipeline.tokenizer import fitpage, heldout, lanes
from pipeline.tokenizer.lanes import CorpusSquares, Shown, StreamConfig
from pipeline.tokens import ImageConfig, perceptual
from tokenizer_service import checkpoints, coding, fit, metrics, resume, vq
from tokenizer_service.coding import Pixels
from tokenizer_service.descent import Descent
from tokenizer_service.vq import VQ

CURVES, MODEL, MANIFEST = "curves.jsonl", "vq.safetensors", "manifest.json"
PAGE = "page/index.html"
SSIM_SIDE = 11
"""Pixels of the smallest image that has an SSIM."""


class RunConfig(Section):
    """``[tokenizer.run]``: what stands around the steps of ``pardalis tokenizer fit``."""

    stream: StreamConfig = StreamConfig()
    validate_every: int = Field(200, ge=1)
    """Steps between two looks at held-out images, each of which writes the page; there is one at the end."""
    checkpoint_every: int = Field(500, ge=1)
    """Steps between two checkpoints; there is one at the end."""
    keep_checkpoints: int = Field(2, ge=1)
    held_out_images: int = Field(64, ge=1)
    """Of the validation split, the first in the order of shards. They are looked at, never fitted; only the
    guard of a GAN heeds them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOut:
    """Squares that are never fitted, and which of them licences let the page show."""

    pixels_BHWC: Pixels
    may_be_shown_B: NDArray[np.bool_]


class Plan(Section):
    """A run: where its images are, how it fits, where it goes. JSON, so that it travels to every rank."""

    identity: str
    corpus: str
    version: int
    folder: str
    init: str | None
    """Weights to go on from: a path, or a name on the hub."""
    init_sha256: str | None
    init_license: str | None
    """As whoever began the run states it."""
    read: dict[str, str]
    """Keys of the artifacts that it reads, by step."""
    image: ImageConfig
    run: RunConfig

    @property
    def path(self) -> Path:
        return Path(self.folder)


def execute(config: dict[str, Any]) -> None:
    """What every rank runs, from its plan as JSON; it goes on where the folder's checkpoints end."""
    plan = Plan.model_validate_json(json.dumps(config))
    torch.set_num_threads(plan.image.threads)
    corpus = Corpus(Store.at(plan.corpus))
    version = corpus.version(plan.version)
    held = held_out(corpus, version, plan)
    stream = opened(corpus, version, plan)
    try:
        descent = begun(plan, stream)
        run(plan, descent, stream, held)
    finally:
        stream.close()
    if is_first():
        publish(plan, descent.average, version)


def opened(corpus: Corpus, version: Version, plan: Plan) -> CorpusSquares:
    grouped, fitting = distributed.is_initialized(), plan.image.fit
    return lanes.opened(
        corpus,
        version,
        Shown(
            side=plan.image.side,
            preprocessing=fitting.vq.preprocessing,
            seed=fitting.seed,
            flip_share=fitting.flip_share,
            config=plan.run.stream,
            folder=plan.path,
        ),
        batch_images=fitting.batch_images,
        rank=distributed.get_rank() if grouped else 0,
        ranks=distributed.get_world_size() if grouped else 1,
    )


def is_first() -> bool:
    return not distributed.is_initialized() or distributed.get_rank() == 0


def held_out(corpus: Corpus, version: Version, plan: Plan) -> HeldOut:
    """Of the validation split. Raises ValueError where it is empty."""
    square = heldout.squares(plan.image.side, plan.image.fit.vq.preprocessing)
    pictures = heldout.of_corpus(corpus, version, square)
    found = list(itertools.islice(pictures, plan.run.held_out_images))
    if not found:
        raise ValueError("no image is held out; raise pipeline.split.validation and build again")
    return HeldOut(
        pixels_BHWC=np.stack([one.pixels for one in found]),
        may_be_shown_B=np.array([one.may_be_shown for one in found]),
    )


def begun(plan: Plan, stream: CorpusSquares) -> Descent:
    """The fit before its first step, or where the last checkpoint left it; the stream goes along."""
    first = next(stream)
    fit.check(first.images_BHWC, plan.image.fit, (judged := perceptual(plan.image.fit)))
    descent = fit.begin(
        plan.image.fit,
        first,
        perceptual=judged,
        device=numerics.device(),
        init=None if plan.init is None else planned_init(plan, plan.init),
    )
    if folder := resume.latest(plan.path):
        stream.seek(resume.restore(folder, descent))
    return descent


def planned_init(plan: Plan, where: str) -> VQ:
    """The very weights of the plan: on another machine, a name on the hub may stand for others by now."""
    found = checkpoints.sha256(checkpoints.found(where))
    if found != plan.init_sha256:
        raise ValueError(
            f"{where} has the sha256 {found}, the run began with {plan.init_sha256}; give that file"
        )
    return checkpoints.open_model(where, license=plan.init_license)


def run(plan: Plan, descent: Descent, stream: CorpusSquares, held: HeldOut) -> None:
    config = plan.image.fit
    write = journal.opened(plan.path / CURVES, step=descent.step) if is_first() else None
    while descent.step < config.steps:
        descent.advance(next(stream))
        last = descent.step == config.steps
        validates = last or descent.step % plan.run.validate_every == 0
        if validates or descent.step % config.report_every == 0:
            facts = descent.facts()
            if validates:
                facts |= descent.watch(held.pixels_BHWC)
            if write is not None:
                report(plan, descent, facts, held if validates else None, write)
        if last or descent.step % plan.run.checkpoint_every == 0:
            state = gathered(stream.state())
            if is_first():
                resume.save(plan.path, descent, stream=state, keep=plan.run.keep_checkpoints)


def report(
    plan: Plan, descent: Descent, facts: dict[str, float], held: HeldOut | None, write: journal.Write
) -> None:
    """A line of the curves; with held-out images, the page too."""
    if held is None:
        write(facts)
        return
    seen_BHWC, shown_B = redrawn(descent.average, held.pixels_BHWC), held.may_be_shown_B
    write({**facts, **fidelity(held.pixels_BHWC, seen_BHWC)})
    fitpage.write(
        plan.path / PAGE,
        curves=journal.read(plan.path / CURVES),
        pairs=(held.pixels_BHWC[shown_B], seen_BHWC[shown_B]),
        held_out=len(shown_B),
        counts_K=descent.model.quantizer.counts_K.cpu().numpy(),
        settings=plan.image.model_dump(mode="json"),
    )


def redrawn(model: VQ, images_BHWC: Pixels) -> Pixels:
    return coding.decode_codes(model, coding.encode_images(model, images_BHWC))


def fidelity(true_BHWC: Pixels, seen_BHWC: Pixels) -> dict[str, float]:
    """Of what is kept, on held-out images."""
    psnr_B = metrics.psnr_each(true_BHWC, seen_BHWC).clip(max=metrics.MAX_PSNR_DB)
    found = {"held_out_psnr": float(psnr_B.mean())}
    if min(true_BHWC.shape[1:3]) >= SSIM_SIDE:
        found["held_out_ssim"] = float(metrics.ssim_each(true_BHWC, seen_BHWC).mean())
    return found


def gathered(state: dict[str, list[int]]) -> dict[str, list[int]]:
    """Where the lanes of all ranks stand."""
    if not distributed.is_initialized():
        return state
    states: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(states, state)
    return {lane: place for one in states for lane, place in one.items()}


def publish(plan: Plan, model: VQ, version: Version) -> None:
    """The fitted file, then what it is: the manifest comes last, and says that the run is done."""
    model.config = vq.trained_at(model.config, plan.image.side)
    data, store = vq.save(model), LocalStore(plan.folder)
    store.write(MODEL, data)
    manifest = {
        "format": 1,
        "identity": plan.identity,
        "fingerprint": hashlib.sha256(data).hexdigest(),
        "corpus": {
            "version": version.number,
            **{step: version.artifacts[step] for step in ("split", "images")},
        },
        "settings": {
            "image": plan.image.by_content().model_dump(mode="json"),
            "run": plan.run.model_dump(mode="json"),
        },
        "init": {"sha256": plan.init_sha256},
        "weights": None if model.weights is None else model.weights.model_dump(mode="json"),
        "last": last(journal.read(plan.path / CURVES)),
    }
    store.write(MANIFEST, pretty(manifest))


def last(curves: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What the last look at held-out images said."""
    return next(line for line in reversed(curves) if "held_out_psnr" in line)
