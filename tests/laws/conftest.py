"""A small delivery of drawn shapes with captions, and a configuration that builds it in seconds."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageOps

from infra.corpus import Corpus, Version
from infra.storage import Store
from infra.telemetry import Log
from pipeline import build, config, contract, folding, indexing, plan
from pipeline.config import Config
from pipeline.contract import Asset, License, template
from pipeline.deliveries.writer import Heading, write_delivery
from pipeline.engine import Engine

AS_OF = datetime(2026, 6, 1, tzinfo=UTC)
COLORS = {"red": (200, 30, 30), "green": (30, 160, 40), "blue": (40, 60, 210), "purple": (120, 30, 160)}
SHAPES = ("circle", "square", "triangle", "cross")
TINY = """
[pipeline.ingest]
max_side = 64
[pipeline.filters]
min_side = 32
max_aspect = 1.5
[pipeline.split]
validation = 0.2
[pipeline.examples]
documents_per_target = 2
neighbors = [0.5, 0.5]
targets_per_group = 16
[pipeline.examples.rows]
context = 96
block_rows = 4
[tokenizer.text]
entries = 300
[tokenizer.image]
side = 32
threads = 1
[tokenizer.image.fit]
steps = 4
batch_images = 4
[tokenizer.image.fit.vq]
codebook_size = 32
[retrieval.encoder]
side = 64
[retrieval.align]
ridge = 1.0
"""

Samples = list[tuple[Asset, bytes]]


def drawing(number: int) -> tuple[str, bytes]:
    """A picture that differs from every other number's, and its caption."""
    rng = np.random.default_rng(number)
    color, shape = list(COLORS)[number % 4], SHAPES[number // 4 % 4]
    picture = Image.new("RGB", (64, 64), "white")
    x, y, size = (int(value) for value in rng.integers([2, 2, 16], [20, 20, 40]))
    draw = ImageDraw.Draw(picture)
    box = (x, y, x + size, y + size)
    if shape == "circle":
        draw.ellipse(box, fill=COLORS[color])
    elif shape == "square":
        draw.rectangle(box, fill=COLORS[color])
    elif shape == "triangle":
        draw.polygon([(x, y + size), (x + size, y + size), (x + size // 2, y)], fill=COLORS[color])
    else:
        draw.line(box, fill=COLORS[color], width=6)
        draw.line((x, y + size, x + size, y), fill=COLORS[color], width=6)
    for _ in range(12):  # texture of its own, so that no two pictures are near-duplicates
        at = tuple(int(value) for value in rng.integers(0, 60, 2))
        draw.rectangle((*at, at[0] + 5, at[1] + 5), fill=tuple(int(v) for v in rng.integers(0, 255, 3)))
    sink = io.BytesIO()
    picture.save(sink, "PNG")
    return f"a {color} {shape}, number {number}", sink.getvalue()


def sample(number: int, **changes: Any) -> tuple[Asset, bytes]:
    caption, image = drawing(number)
    template = contract.template()["asset"]
    record = {
        **template,
        "asset_id": f"a{number:04d}",
        "description": caption,
        "keywords": caption.replace(",", "").split()[1:3],
        "is_editorial": False,
        "is_adult": False,
        "has_people": "no",
        "releases": {"model": "not_applicable", "property": "not_applicable"},
        "file": {
            "sha256": hashlib.sha256(image).hexdigest(),
            "bytes": len(image),
            "mime": "image/png",
            "width": 64,
            "height": 64,
        },
        **changes,
    }
    record.pop("delivery_id", None)
    return Asset.model_validate(record), image


def standing(number: int, **changes: Any) -> tuple[Asset, bytes]:
    """A sample on a plain ground, so that its thing may be cut out and stand in scenes."""
    asset, image = sample(number, **changes)
    with Image.open(io.BytesIO(image)) as picture:
        framed = ImageOps.expand(ImageOps.crop(picture, 4), 4, "white")
    sink = io.BytesIO()
    framed.save(sink, "PNG")
    data = sink.getvalue()
    file = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    return asset.model_copy(update={"file": asset.file.model_copy(update=file)}), data


def license_(**changes: Any) -> License:
    everything = dict.fromkeys(("ml_training", "generation", "retrieval_index", "retrieval_display"), "allow")
    template = contract.template()["license"]
    record = {
        **template,
        "uses": {**everything, "derived_captions": "allow"},
        "valid_from": "2020-01-01T00:00:00Z",
        "valid_until": None,
        "territory": {"mode": "worldwide"},
        "editorial_only": False,
        **changes,
    }
    record.pop("models", None)
    return License.model_validate(record)


class Deliveries:
    """Writes deliveries below a folder, numbered as they come."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._next = 0

    def write(
        self,
        samples: Samples,
        licenses: Mapping[str, License] | None = None,
        *,
        shard_samples: int = 8,
        kind: Literal["delta", "correction"] = "delta",
    ) -> str:
        number, self._next = self._next, self._next + 1
        heading = Heading(
            provider=samples[0][0].provider,
            delivery_id=f"d{number}",
            sequence=number,
            kind=kind if number else "full",
            created_at=AS_OF,
        )
        store = Store.at(self._root / f"delivery-{number}")
        records = list((licenses or {"": license_()}).values())
        write_delivery(
            store,
            heading,
            licenses=records,
            samples=sorted(samples, key=lambda s: s[0].asset_id),
            shard_samples=shard_samples,
        )
        return store.uri


def revoke(uri: str, **changes: Any) -> None:
    """A delivery that takes something back, as it was written."""
    store = Store.at(uri)
    named = {"revocation_id": "taken-back", "effective_at": "2026-05-01T00:00:00Z"}
    record = template()["revocation"] | named | changes
    raw = (json.dumps(record) + "\n").encode()
    store.write("revocations.jsonl", raw)
    manifest = json.loads(store.read("delivery.json"))
    entry = {"path": "revocations.jsonl", "sha256": hashlib.sha256(raw).hexdigest(), "bytes": len(raw)}
    files = [*manifest["files"], {**entry, "role": "revocations"}]
    counts = {name: value for name, value in manifest.get("counts", {}).items() if name == "samples"}
    store.write("delivery.json", json.dumps({**manifest, "files": files, "counts": counts}).encode())


@pytest.fixture
def deliveries(tmp_path: Path) -> Deliveries:
    return Deliveries(tmp_path)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Config:
    path = tmp_path_factory.mktemp("config") / "tiny.toml"
    path.write_text(TINY)
    return config.load(path)


Build = Callable[..., Version]


@pytest.fixture
def built(tiny: Config) -> Build:
    """Ingest and build as the commands do, on any engine."""

    def run(
        corpus: Corpus,
        uris: list[str],
        engine: Engine,
        *,
        log: Log | None = None,
        to: str | None = None,
        settings: Config | None = None,
    ) -> Version:
        log, settings = log or Log(), settings or tiny
        with corpus.writing(purpose="test") as lease:
            head = corpus.head()
            version = replace(folding.fold(corpus, head, uris), as_of=AS_OF.isoformat())
            version = build.run(corpus, version, plan.ingest_steps(settings, AS_OF), engine, log)
            for step in plan.up_to(plan.build_steps(settings), to):
                if step.name == "codes":
                    version = indexing.register(corpus, version)
                version = build.run(corpus, version, [step], engine, log)
            return corpus.publish(lease, head, version)

    return run
