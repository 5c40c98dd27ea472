"""Small copies of some training images, out of tars on either kind of storage."""

from __future__ import annotations

import base64
import io
from dataclasses import replace

import numpy as np
from PIL import Image

from infra.artifact import Artifact, Made, publish_artifact, publish_shard
from infra.corpus import EMPTY, Corpus, Version
from infra.storage import Store
from pipeline import archive
from pipeline.reviewing.thumbnails import SIDE, thumbnails
from pipeline.step import IMAGES
from tokenizer_service import jpegs

LEVELS = {"00000-000000": {"a": 10, "b": 120}, "00001-000000": {"a": 230}}
"""Grey of each picture, by slot and key: keys repeat where another delivery brought the asset again."""


def published(store: Store) -> tuple[Corpus, Version]:
    shards = {}
    for slot, pictures in LEVELS.items():
        tar = archive.write(
            (key, jpegs.encode(np.full((300, 600, 3), level, np.uint8), 95), {}, "caption")
            for key, level in pictures.items()
        )
        shards[slot] = publish_shard(store, "images", f"k{slot}", Made(files={IMAGES: tar}))
    publish_artifact(store, Artifact(step="images", key="k", settings={}, inputs={}, shards=shards))
    return Corpus(store), replace(EMPTY, artifacts={"images": "k"})


def test_only_what_is_asked_for_comes_and_it_comes_small(store: Store) -> None:
    corpus, version = published(store)
    wanted = [("00000-000000", "b"), ("00001-000000", "a"), ("00001-000000", "a")]
    found = thumbnails(corpus, version, wanted)
    assert set(found) == set(wanted)
    for (slot, key), address in found.items():
        kind, _, data = address.partition(",")
        assert kind == "data:image/jpeg;base64"
        with Image.open(io.BytesIO(base64.b64decode(data))) as picture:
            assert picture.size == (SIDE, SIDE // 2)
            assert abs(np.asarray(picture).mean() - LEVELS[slot][key]) < 2


def test_a_picture_that_is_in_no_tar_is_left_out(store: Store) -> None:
    corpus, version = published(store)
    assert thumbnails(corpus, version, [("00001-000000", "nobody")]) == {}
    assert thumbnails(corpus, version, []) == {}
