"""The scores step: a row for each kept row, from what its scorers need, and no model that is off."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from safetensors.torch import save_file

from infra.storage import Store
from pipeline import archive, refs, schema, scores, tables
from pipeline.embed import EncoderConfig
from pipeline.scorers import alignment, nsfw
from pipeline.scores import SCORES, ScoreConfig
from pipeline.step import Task
from tests.pipeline.test_scorers import noise
from tokenizer_service import images, jpegs

NUM, WIDTH = 20, 1664
"""Rows, every third of which was settled before; image features."""
OFFLINE = EncoderConfig()


def rows() -> pa.Table:
    found: list[dict[str, Any]] = []
    for place in range(NUM):
        outcome = "rejected" if place % 3 == 1 else "kept"
        facts = {"uid": f"a:{place:02d}", "key": f"a_{place:02d}", "revision": place, "outcome": outcome}
        found.append(facts)
    return pa.Table.from_pylist(found, pa.schema([schema.UID, schema.KEY, schema.REVISION, schema.OUTCOME]))


def kept() -> list[int]:
    return [place for place in range(NUM) if place % 3 != 1]


def features() -> pa.Table:
    rng = np.random.default_rng(0)
    columns = {"uid": [f"a:{place:02d}" for place in kept()], "revision": kept()}
    columns["image_features"] = rng.normal(size=(len(kept()), WIDTH)).tolist()
    columns["text_features"] = rng.normal(size=(len(kept()), 384)).tolist()
    kind = [schema.UID, schema.REVISION, schema.IMAGE_FEATURES, schema.TEXT_FEATURES]
    return pa.table(columns, schema=pa.schema(kind))


def tar() -> bytes:
    pictures = ((f"a_{place:02d}", jpegs.encode(noise(place), 95), {}, "") for place in kept())
    return archive.write(pictures)


def ref(store: Store, name: str, data: bytes) -> tuple[refs.Ref, ...]:
    store.write(name, data)
    return (refs.Ref(store, name, hashlib.sha256(data).hexdigest()),)


def scored(folder: Path, config: ScoreConfig, **files: bytes) -> pa.Table:
    """Of ``rows``, which may be given too."""
    store = Store.at(folder / "store")
    files = {"rows": tables.to_parquet(rows()), **files}
    reads = {role: ref(store, role, data) for role, data in files.items()}
    made = scores.score(Task(slot="0", reads=reads), lambda *_: None, config=config)
    table = pa.ipc.open_file(pa.BufferReader(made.files[SCORES])).read_all()
    assert made.counts == {"kept": table.num_rows}
    assert table.schema.equals(schema.SCORES)
    return table


def test_with_no_scorer_on_there_is_a_row_of_nulls_for_every_kept_row_and_no_picture_is_read(
    tmp_path: Path,
) -> None:
    table = scored(tmp_path, ScoreConfig())
    assert table["revision"].to_pylist() == kept()
    assert all(table[column.name].null_count == len(kept()) for column in schema.MEASURED)


@pytest.mark.long
def test_a_picture_scores_the_same_alone_and_in_a_shard_larger_than_a_batch(tmp_path: Path) -> None:
    table = scored(tmp_path, ScoreConfig(nsfw=True), images=tar())
    encoded = archive.images(tar())
    decoded = [images.decode(encoded[f"a_{place:02d}"]) for place in kept()]
    model = nsfw.Nsfw.load()
    assert table["nsfw"].to_pylist() == [float(model.seen([picture])[0][0]) for picture in decoded]
    others = [column.name for column in schema.MEASURED if column != schema.NSFW]
    assert all(table[name].null_count == table.num_rows for name in others)


def test_alignment_and_aesthetic_read_features_and_no_picture(tmp_path: Path) -> None:
    head = {"weight": torch.ones(1, WIDTH), "bias": torch.zeros(1)}
    save_file(head, tmp_path / "head.safetensors")
    config = ScoreConfig(alignment=True, aesthetic=str(tmp_path / "head.safetensors"))
    table = scored(tmp_path, config, features=tables.to_ipc(features()))
    images_BF, texts_BD = (
        np.array(features()[name].to_pylist(), np.float32) for name in ("image_features", "text_features")
    )
    assert table["alignment"].to_pylist() == alignment.cosines(images_BF, texts_BD).tolist()
    units = images_BF / np.linalg.norm(images_BF, axis=1, keepdims=True)
    np.testing.assert_allclose(table["aesthetic"].to_numpy(), units.sum(axis=1), rtol=1e-4, atol=1e-4)
    assert table["nsfw"].null_count == table.num_rows


@pytest.mark.long
def test_a_shard_of_which_nothing_is_kept_has_no_scores(tmp_path: Path) -> None:
    none = tables.to_parquet(rows().slice(1, 1))
    config = ScoreConfig(nsfw=True, alignment=True)
    empty = tables.to_ipc(features().slice(0, 0))
    assert scored(tmp_path, config, rows=none, images=tar(), features=empty).num_rows == 0


def test_features_of_other_rows_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="other rows"):
        scored(tmp_path, ScoreConfig(alignment=True), features=tables.to_ipc(features().slice(1)))


def test_a_step_is_known_by_the_weights_that_are_on_and_never_by_a_path(tmp_path: Path) -> None:
    identity = scores.step(ScoreConfig()).identity()
    assert scores.step(ScoreConfig(nsfw=True)).identity() != identity
    for name in ("one", "other"):
        (tmp_path / name).write_bytes(b"a head")
    (tmp_path / "third").write_bytes(b"another")
    one, other, third = (
        scores.step(ScoreConfig(aesthetic=str(tmp_path / name))).identity()
        for name in ("one", "other", "third")
    )
    assert one == other
    assert one != third
    assert str(tmp_path) not in str(one)


@pytest.mark.parametrize(("name", "library"), [("nsfw", "onnxruntime"), ("faces", "facenet-pytorch")])
def test_a_step_is_known_by_the_libraries_of_the_scorers_that_are_on(name: str, library: str) -> None:
    libraries = scores.step(ScoreConfig.model_validate({name: True})).numerics["scorers"]
    assert isinstance(libraries, dict)
    assert library in libraries
    assert "pyclipper" not in libraries
    read = scores.step(ScoreConfig(watermark=True)).numerics["scorers"]
    assert isinstance(read, dict)
    assert {"rapidocr-onnxruntime", "pyclipper", "shapely", "opencv-python-headless"} <= set(read)


@pytest.mark.long
def test_what_open_clip_has_no_weights_for_is_told_before_anything_is_downloaded(tmp_path: Path) -> None:
    def told(model: str, pretrained: str) -> list[str]:
        clip = EncoderConfig(kind="open_clip", model=model, pretrained=pretrained)
        return scores.missing(ScoreConfig(alignment=True), clip)

    (why,) = told("ViT-B-32", "laion3b")
    assert why.startswith("retrieval.encoder.pretrained: 'laion3b' is neither a file nor a tag")
    assert "laion2b_s34b_b79k" in why
    checkpoint = tmp_path / "own.pt"
    checkpoint.write_bytes(b"")
    for known in ("openai", "laion2b_s34b_b79k", str(checkpoint)):
        assert told("ViT-B-32", known) == []
    assert scores.missing(ScoreConfig(alignment=True), OFFLINE) == []


@pytest.mark.long
def test_a_head_that_is_missing_or_does_not_fit_is_told_before_anything_is_scored(tmp_path: Path) -> None:
    path = tmp_path / "head.pth"
    (told,) = scores.missing(ScoreConfig(aesthetic=str(path)), OFFLINE)
    assert told.startswith(f"pipeline.scores.aesthetic: {path} is no file; give the path of a head")
    torch.save({"weight": torch.ones(1, 768), "bias": torch.zeros(1)}, path)
    (told,) = scores.missing(ScoreConfig(aesthetic=str(path)), OFFLINE)
    assert "takes 768 features and the encoder gives 1664" in told
    clip = EncoderConfig(kind="open_clip", model="ViT-L-14", pretrained="openai")
    assert scores.missing(ScoreConfig(aesthetic=str(path)), clip) == []
    path.write_bytes(b"not weights")
    (told,) = scores.missing(ScoreConfig(aesthetic=str(path)), clip)
    assert "holds no weights that can be read safely" in told
