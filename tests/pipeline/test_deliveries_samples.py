"""Samples: a wrong one is a fault, alone; a lying tar is refused whole, before its first sample."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from infra.guarded.refused import Refused
from infra.storage import Store
from pipeline import contract
from pipeline.deliveries.opened import OpenDelivery, open_delivery
from pipeline.deliveries.sample import Fault, Sample
from pipeline.deliveries.webdataset import groups, read_shard


def encoded(kind: str = "JPEG", color: int = 0) -> bytes:
    sink = io.BytesIO()
    Image.new("RGB", (4, 3), (color % 256, color // 256, 7)).save(sink, kind)
    return sink.getvalue()


JPEG = encoded()


def record(asset_id: str, image: bytes = JPEG, **changes: Any) -> dict[str, Any]:
    file = {
        "sha256": hashlib.sha256(image).hexdigest(),
        "bytes": len(image),
        "mime": "image/jpeg",
        "width": 4,
        "height": 3,
    }
    return {**contract.template()["asset"], "asset_id": asset_id, "file": file, **changes}


def packed(members: Mapping[str, bytes]) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return sink.getvalue()


def delivered(folder: Path, members: Mapping[str, bytes], *, left: int | None = None) -> OpenDelivery:
    """A delivery of one tar, made by somebody else: listed truly, whatever is in it."""
    files = {
        ("licenses.jsonl", "licenses"): json.dumps(contract.template()["license"]).encode(),
        ("shards/acme-000000.tar", "shard"): packed(members)[:left],
    }
    listed = [
        {"path": path, "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data), "role": role}
        for (path, role), data in files.items()
    ]
    store = Store.at(folder)
    for (path, _), data in files.items():
        store.write(path, data)
    manifest = {**contract.template()["delivery"], "files": listed}
    store.write("delivery.json", json.dumps(manifest).encode())
    return open_delivery(store)


def read(opened: OpenDelivery) -> list[Sample]:
    return list(read_shard(opened, opened.shards[0]))


def members(key: str, image: bytes = JPEG, **changes: Any) -> dict[str, bytes]:
    told = record(key, image, **changes)
    return {f"{key}.json": json.dumps(told).encode(), f"{key}.jpg": image}


def codes(opened: OpenDelivery) -> dict[str, str]:
    """The fault of each sample; empty where there is none."""
    samples = read(opened)
    found = {s.key: s.asset.code if isinstance(s.asset, Fault) else "" for s in samples}
    assert len(found) == len(samples)
    return found


BROKEN = {
    "no_record": {"b.jpg": JPEG},
    "no_image": {"b.json": members("b")["b.json"]},
    "several_images": {**members("b"), "b.png": encoded("PNG")},
    "invalid_json": {**members("b"), "b.json": b'{"a": 1, "a": 2}'},
    "invalid_record": members("b", is_adult="no"),
    "no_license": members("b", license_ids=[]),
    "key_mismatch": {**members("b"), "b.json": members("c")["c.json"]},
    "provider_mismatch": members("b", provider="other"),
    "delivery_mismatch": members("b", delivery_id="acme-000009"),
    "size_mismatch": {**members("b"), "b.jpg": JPEG + b"\0"},
    "sha256_mismatch": {**members("b"), "b.jpg": encoded(color=0)[:-1] + b"\0"},
    "mime_mismatch": {"b.json": members("b", encoded("PNG"))["b.json"], "b.jpg": encoded("PNG")},
    "invalid_text": {**members("b"), "b.txt": b"\xff"},
    "text_mismatch": {**members("b"), "b.txt": b"A red bicycle"},
}


def test_of_members_that_share_a_key_one_image_and_as_much_as_is_read_are_held(tmp_path: Path) -> None:
    long = {"b.json": b"[" + b" " * 100_000, "b.txt": b"x" * 100_000}
    opened = delivered(tmp_path, {"b.jpg": JPEG, "b.jpeg": JPEG, "b.png": JPEG, "b.webp": JPEG, **long})
    ((key, parts),) = groups(opened, opened.shards[0])
    sizes = {"jpg": len(JPEG), "jpeg": 0, "png": 0, "webp": 0, "json": 65_537, "txt": 8193}
    assert (key, {name: len(part) for name, part in parts.items()}) == ("b", sizes)


def test_the_image_after_several_of_one_key_is_whole(tmp_path: Path) -> None:
    opened = delivered(tmp_path, {**members("a"), "a.png": JPEG, **members("b"), **members("c")})
    assert codes(opened) == {"a": "several_images", "b": "", "c": ""}


def test_a_record_with_many_faults_tells_of_a_few_in_a_few_words(tmp_path: Path) -> None:
    bad = json.dumps({f"k{i}": "x" * 60 for i in range(500)}).encode()
    ((_, sample),) = enumerate(read(delivered(tmp_path, {"b.json": bad, "b.jpg": JPEG})))
    assert isinstance(sample.asset, Fault)
    assert len(sample.asset.message) < 420
    assert sample.asset.message.startswith("b.json: schema: Field required; add it\n")


@pytest.mark.parametrize("code", BROKEN)
def test_a_wrong_sample_is_a_fault_and_its_neighbors_are_assets(tmp_path: Path, code: str) -> None:
    opened = delivered(tmp_path, {**members("a"), **BROKEN[code], **members("c")})
    assert codes(opened) == {"a": "", "b": code, "c": ""}


def test_a_fault_says_where_and_what_to_do(tmp_path: Path) -> None:
    [sample] = read(delivered(tmp_path, members("b", is_adult="no")))
    assert isinstance(sample.asset, Fault)
    assert sample.asset.message.startswith("b.json: is_adult: ")
    assert sample.asset.message.endswith("got 'no'; write true or false, without quotes")


def test_a_licence_that_is_missing_beside_other_faults_is_a_broken_record(tmp_path: Path) -> None:
    assert codes(delivered(tmp_path, members("b", license_ids=[], is_adult=0))) == {"b": "invalid_record"}


@pytest.mark.parametrize(
    ("image", "extension", "mime", "code"),
    [
        (encoded("PNG"), "png", "image/png", ""),
        (encoded("WEBP"), "webp", "image/webp", ""),
        (encoded("JPEG"), "jpeg", "image/jpeg", ""),
        (encoded("PNG"), "png", "image/jpeg", "mime_mismatch"),
        (encoded("PNG"), "jpg", "image/png", "mime_mismatch"),
        (encoded("JPEG"), "webp", "image/webp", "mime_mismatch"),
        (b"<svg/>", "jpg", "image/jpeg", "mime_mismatch"),
        (b"RIFF....WAVE", "webp", "image/webp", "mime_mismatch"),
    ],
)
def test_record_extension_and_bytes_agree_on_the_kind(
    tmp_path: Path, image: bytes, extension: str, mime: str, code: str
) -> None:
    told = record("b", image)
    told["file"]["mime"] = mime
    opened = delivered(tmp_path, {"b.json": json.dumps(told).encode(), f"b.{extension}": image})
    assert codes(opened) == {"b": code}


def test_a_caption_in_another_normal_form_is_the_same_caption(tmp_path: Path) -> None:
    told = members("b", description="Ein Caf\u00e9")
    opened = delivered(tmp_path, {**told, "b.txt": "Ein Cafe\u0301".encode()})
    [sample] = read(opened)
    assert not isinstance(sample.asset, Fault)


def test_a_caption_may_have_8_kib(tmp_path: Path) -> None:
    text = "\u0634" * 4000
    assert codes(delivered(tmp_path / "a", {**members("b", description=text), "b.txt": text.encode()})) == {
        "b": ""
    }
    long = {**members("b"), "b.txt": b"x" * 8193}
    assert codes(delivered(tmp_path / "b", long)) == {"b": "invalid_text"}


def test_a_record_over_64_kib_is_a_fault_and_not_a_refused_shard(tmp_path: Path) -> None:
    padded = members("b")["b.json"].ljust(65_537)
    assert codes(delivered(tmp_path, {**members("b"), "b.json": padded})) == {"b": "invalid_json"}


@pytest.mark.parametrize(
    ("hostile", "rule"),
    [
        ({"b.pkl": b"cos\nsystem\n(S'true'\ntR."}, "extension"),
        ({"../b.jpg": b""}, "name"),
        ({"acme.123.jpg": b""}, "name"),
        ({"z.jpg": b"", "a.png": b""}, "scattered"),
    ],
)
def test_a_hostile_tar_is_refused_before_its_first_sample(
    tmp_path: Path, hostile: dict[str, bytes], rule: str
) -> None:
    opened = delivered(tmp_path, {**members("a"), **hostile})
    with pytest.raises(Refused, match=f"rule {rule}"):
        next(read_shard(opened, opened.shards[0]))


@pytest.mark.parametrize("left", [0, 512, 2000, 3072, 4095])
def test_a_tar_that_was_cut_before_it_was_listed_is_refused_before_its_first_sample(
    tmp_path: Path, left: int
) -> None:
    # Python pads a tar to 10,240 bytes; the two members take 3,072 of them and the end mark 1,024.
    opened = delivered(tmp_path, members("a"), left=left)
    with pytest.raises(Refused, match="rule truncated"):
        next(read_shard(opened, opened.shards[0]))


def test_the_padding_of_a_tar_is_not_missed(tmp_path: Path) -> None:
    assert codes(delivered(tmp_path, members("a"), left=4096)) == {"a": ""}


@pytest.mark.parametrize("told", [1, 3])
def test_a_tar_holds_as_many_samples_as_its_listing_says(tmp_path: Path, told: int) -> None:
    opened = delivered(tmp_path, {**members("a"), **members("b")})
    shard = opened.shards[0]
    assert len(list(read_shard(opened, shard.model_copy(update={"samples": 2})))) == 2
    with pytest.raises(Refused, match=rf"rule samples: it holds 2, delivery\.json says {told}"):
        next(read_shard(opened, shard.model_copy(update={"samples": told})))
