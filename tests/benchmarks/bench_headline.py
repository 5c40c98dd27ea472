"""Does retrieval buy compute? One small transformer, trained with neighbors, without, and with strangers in
their place, three seeds each.

Emoji and Debian's openclipart are one corpus, packed three times: split, tokenizers and targets are the same,
and so are the chances of every form of a caption; only what stands before a target in training differs. The
look-up memory of the demo is off, the learning rate stays where it is after its warm-up, every batch has as
many tokens, and documents are read from left to right. All are judged by the same held-out targets, alone
and behind two neighbors of the training split.

``make bench NAME=headline`` builds, trains and measures in PARDALIS_BENCH, writes what it found to
headline.json and the README's picture, and says where its page is; ``python -m
tests.benchmarks.bench_headline FOLDER`` draws picture and page again from that. It takes half an hour to
build and an hour and a half to train, on one busy core; what is there already is not done again.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from infra.artifact import fingerprint, pretty
from infra.corpus import Corpus
from infra.storage import LocalStore, Store
from infra.telemetry import say
from pipeline import packs
from pipeline.examples import KINDS
from pipeline.reading import CONFIGS
from tests.benchmarks import copying, headline_verdict, photographs
from tests.benchmarks.bench_pairs import AS_OF
from tests.benchmarks.copying import Document
from tokenizer_service import vocabulary
from trainer import stream
from trainer.checkpoint import Checkpoints, load_model
from trainer.evaluate import evaluate
from trainer.spans import MaskingSection
from trainer.training import metrics

RESULTS = Path(__file__).with_name("headline.json")
PICTURE = CONFIGS.parent / "pictures" / "headline.png"
PROVIDERS = {"emoji": "fluent-emoji", "openclipart": "openclipart"}
"""Deliveries, and what their uids begin with."""
BEHIND = "pipeline.examples.neighbors = [1.0, 1.0, 1.0]"
"""As many documents for training with no neighbor as with one and with two. Held-out ones have two."""
ARMS = {
    "neighbors": (BEHIND,),
    "alone": ("pipeline.examples.neighbors = [1.0, 0.0, 0.0]",),
    # Of pairs at random three in four are less alike than 0.1, and one in twenty is more alike than 0.28.
    "strangers": (BEHIND, "retrieval.neighbors.max_score = 0.2", "retrieval.neighbors.fetch = 1024"),
}
"""How each corpus is packed. What stands before a target in the third is the same in form, and tells nothing
of it: what that brings, retrieval has not brought.
"""
SEEDS = (0, 1, 2)
CONTEXT, LAYERS, WIDTH, ROWS, STEPS, EVERY = 384, 2, 192, 4, 1800, 100
BUILD = (
    "pipeline.split.validation = 0.08",
    f"pipeline.examples.rows.context = {CONTEXT}",
    # Three pairs fit a row, whatever their captions: no document loses a neighbor.
    "pipeline.examples.rows.neighbor_text_tokens = 48",
    "pipeline.examples.rows.target_text_tokens = 64",
    "pipeline.examples.rows.max_spans = 0",
)
TRAIN = (
    'trainer.model.variant = "paper"',
    f"trainer.model.num_layers = {LAYERS}",
    f"trainer.model.width = {WIDTH}",
    f"trainer.model.context = {CONTEXT}",
    "trainer.model.lookup_rows = 0",
    "trainer.masking.max_spans = 0",
    f"trainer.stream.rows_per_step = {ROWS}",
    "trainer.optimizer.learning_rate = 1e-3",
    f"trainer.optimizer.num_steps = {STEPS}",
    "trainer.optimizer.final_share = 1.0",
    f"trainer.loop.validate_every = {EVERY}",
    f"trainer.loop.checkpoint_every = {EVERY}",
    "trainer.loop.keep_checkpoints = 1",
    "trainer.loop.threads = 1",
)


def run() -> dict[str, Any]:
    found = measured()
    LocalStore(str(RESULTS.parent)).write(RESULTS.name, pretty(found))
    draw(folder() / "page", found)
    ratio = headline_verdict.verdict(found, "image").ratio
    return {
        "unit": "compute for the loss without neighbors' best, ratio",
        "ours": ratio,
        "peer": 1.0,
        "peer_name": "the same model trained without neighbors",
        "ratio": ratio,
        "details": headline_verdict.summary(found),
    }


def draw(page: Path, found: Mapping[str, Any]) -> None:
    LocalStore(str(page)).write("index.html", headline_verdict.page(found).encode())
    LocalStore(str(PICTURE.parent)).write(PICTURE.name, headline_verdict.picture(found))
    say(f"page: {page / 'index.html'}")


def folder() -> Path:
    return photographs.folder() / "headline"


def called(*words: str) -> None:
    """A command of ours, on one core."""
    command = [str(Path(sys.executable).with_name("pardalis")), *words]
    subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})


def configured(corpus: Path, settings: Sequence[str]) -> list[str]:
    words = ["--corpus", str(corpus), "--config", str(CONFIGS / "demo.toml"), "--engine", "inline"]
    return [*words, *(word for setting in settings for word in ("--set", setting))]


def corpora() -> dict[str, Corpus]:
    """A corpus for each arm, built once; the others are the first, packed anew."""
    found: dict[str, Corpus] = {}
    for arm, settings in ARMS.items():
        place = folder() / arm
        corpus = Corpus(Store.at(place))
        words = configured(place, (*BUILD, *settings))
        if not (folder() / f"{arm}.built").exists():
            if found:
                shutil.copytree(folder() / next(iter(found)), place, dirs_exist_ok=True)
            else:
                called("ingest", *delivered(), "--as-of", AS_OF, *words)
            called("build", *words)
            (folder() / f"{arm}.built").touch()
        found[arm] = corpus
    return found


def delivered() -> list[str]:
    places = [folder() / "deliveries" / name for name in PROVIDERS]
    for place in places:
        if not (place / "delivery.json").exists():
            called("contract", "example", place.name, str(place))
    return list(map(str, places))


def trained(arm: str, seed: int) -> Path:
    """The folder of a run that has ended."""
    settings = (*TRAIN, f"trainer.seed = {seed}", f"trainer.stream.seed = {seed}")
    place = folder() / "runs" / f"{arm}-{seed}-{fingerprint(settings, BUILD)[:8]}"
    called("train", "--run", str(place), "--resume", *configured(folder() / arm, settings))
    return place


def measured() -> dict[str, Any]:
    torch.set_num_threads(1)
    built = corpora()
    shape = shape_of(built["neighbors"])
    held_out = told(built["neighbors"], KINDS[1])
    training = {arm: told(corpus, KINDS[0]) for arm, corpus in built.items()}
    runs = [
        {"arm": arm, "seed": seed, **of_run(trained(arm, seed), built[arm], held_out)}
        for seed in SEEDS
        for arm in built
    ]
    return {
        "model": {"layers": LAYERS, "width": WIDTH, "weights": num_weights(shape)},
        "cost": {arm: step_cost(found, built[arm], shape) for arm, found in training.items()},
        "baselines": copying.baselines(training["neighbors"], held_out, shape.image_rows),
        "runs": runs,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What of a transformer costs compute: its blocks have 12 width^2 weights, and the head is tied."""

    num_layers: int
    width: int
    text_rows: int
    """Of the head, special ids among them."""
    image_rows: int


def shape_of(corpus: Corpus) -> Shape:
    version = corpus.newest()
    entries = corpus.artifact(version, "bpe").only.facts["entries"]
    codes = corpus.artifact(version, "vq").only.facts["codebook"]
    text_rows = vocabulary.TEXT_START + entries
    return Shape(num_layers=LAYERS, width=WIDTH, text_rows=text_rows, image_rows=codes)


def num_weights(shape: Shape) -> int:
    """Those of blocks and head; positions are looked up."""
    return 12 * shape.num_layers * shape.width**2 + shape.width * (shape.text_rows + shape.image_rows)


def training_flops(shape: Shape, *, num_tokens: int, num_codes: int) -> int:
    """Of a document, three times its forward pass (arXiv 2001.08361, section 2.1): 2 operations a weight and
    token in the blocks and in the part of the head that competes for the token, and 4 a unit of width for
    each token that a token looks at, itself among them. Nothing predicts the first.

    >>> shape = Shape(num_layers=1, width=1, text_rows=10, image_rows=5)
    >>> training_flops(shape, num_tokens=4, num_codes=2)  # 3 (24 x 4 + 4 x 10 + 2 (2 x 5 + 1 x 10))
    528
    """
    seen = num_tokens * (num_tokens + 1) // 2
    blocks = 2 * 12 * shape.width**2 * num_tokens + 4 * shape.width * seen
    rows = num_codes * shape.image_rows + (num_tokens - 1 - num_codes) * shape.text_rows
    return 3 * (shape.num_layers * blocks + 2 * shape.width * rows)


def told(corpus: Corpus, kind: str) -> list[Document]:
    return list(copying.documents(packs.listed(corpus, corpus.newest(), kind)))


def step_cost(found: Sequence[Document], corpus: Corpus, shape: Shape) -> dict[str, float]:
    """What a step costs on average over an epoch, which reads every row once."""
    num_rows = packs.fill(packs.slots(corpus, corpus.newest(), KINDS[0])).rows
    flops = sum(
        training_flops(shape, num_tokens=one.num_tokens, num_codes=one.codes_QT.size) for one in found
    )
    totals = {
        "flops": flops,
        "tokens": sum(one.num_tokens for one in found),
        "target_tokens": sum(one.num_target_tokens for one in found),
        "documents": len(found),
    }
    return {name: total * ROWS / num_rows for name, total in totals.items()} | {"rows_an_epoch": num_rows}


def of_run(run: Path, corpus: Corpus, held_out: Sequence[Document]) -> dict[str, Any]:
    """Held-out losses over steps, and those at the end by provider."""
    names = [name for pair in headline_verdict.TARGETS.values() for name in pair]
    points = [
        {"step": line["step"], **{name: round(line[name], 4) for name in names}}
        for line in metrics(run)
        if names[0] in line
    ]
    return {"points": points, "by_provider": by_provider(run, corpus, held_out)}


def by_provider(run: Path, corpus: Corpus, held_out: Sequence[Document]) -> dict[str, dict[str, Any]]:
    """Of the last weights, the loss of images, alone and behind two neighbors. Targets of other providers are
    blanked, which takes nobody's neighbors away: what is held out is in no memory.
    """
    last = Checkpoints(folder=run).latest()
    assert last is not None
    model, found = load_model(last), {}
    for name, provider in PROVIDERS.items():
        others = frozenset(one.uid for one in held_out if not one.uid.startswith(f"{provider}:"))
        losses = []
        for kind, place in ((KINDS[2], "target_0"), (KINDS[1], "target_2")):
            shards = packs.listed(corpus, corpus.newest(), kind, revoked=others)
            batches = stream.validation(shards, masking=MaskingSection(max_spans=0), batch_rows=ROWS)
            losses.append(round(evaluate(model, batches).mean(modality="image", place=place), 4))
        found[name] = {"held_out": len(held_out) - len(others), "images": losses}
    return found


if __name__ == "__main__":
    draw(Path(sys.argv[1]), json.loads(RESULTS.read_text()))
