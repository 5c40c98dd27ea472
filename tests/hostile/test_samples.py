"""Samples that are wrong inside a good tar: each alone, with its reason; the others go on.

All of them travel in one delivery, which is ingested once.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image

from infra.cli import run
from infra.corpus import Corpus
from infra.storage import Store
from pipeline import refs
from pipeline.explaining import catalog_rows
from pipeline.step import IMAGES

from .made import AS_OF, PNG, Parcel, encoded, license_, lines, picture, record, sample, tarred
from .pictures import all_pictures

pytestmark = pytest.mark.plan
GOODS = 3
Members = dict[str, bytes]
Case = tuple[Members, str, str]
"""Members, outcome, and how the reason begins."""


def as_json(key: str, text: str | bytes) -> Members:
    """A sample with a record of other bytes."""
    raw = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
    return {f"{key}.json": raw, f"{key}.png": PNG}


def rewritten(key: str, old: str, new: str) -> Members:
    text = json.dumps(record(key))
    assert old in text
    return as_json(key, text.replace(old, new, 1))


def filed(key: str, **changes: Any) -> Members:
    """A sample whose record says something else of its file."""
    return sample(key, file={**record(key)["file"], **changes})


def named(members: Members, old: str, new: str) -> Members:
    return {name.replace(old, new): data for name, data in members.items()}


def texts() -> Iterator[tuple[str, Case]]:
    """Records that are no JSON, or JSON with two meanings."""
    wrong = "quarantined"
    yield "dupkeys", (rewritten("dupkeys", '"status"', '"license_ids": [], "status"'), wrong, "invalid_json")
    yield "nan", (rewritten("nan", '"asset_revision": 0', '"asset_revision": NaN'), wrong, "invalid_json")
    yield (
        "inf",
        (rewritten("inf", '"asset_revision": 0', '"asset_revision": -Infinity'), wrong, "invalid_json"),
    )
    yield "big", (rewritten("big", '"asset_revision": 0', '"asset_revision": 1e999'), wrong, "invalid_json")
    long_number = f'"asset_revision": {"9" * 5_000}'
    yield "digits", (rewritten("digits", '"asset_revision": 0', long_number), wrong, "invalid_json")
    yield "deep", (as_json("deep", "[" * 30_000 + "]" * 30_000), wrong, "invalid_json")
    yield "levels", (as_json("levels", "[" * 17 + "]" * 17), wrong, "invalid_json")
    yield "surrogate", (rewritten("surrogate", "Market", "\\ud83d"), wrong, "invalid_json")
    yield "rawsurrogate", (rewritten("rawsurrogate", "Market", "\ud83d"), wrong, "invalid_json")
    yield "bom", (as_json("bom", "\ufeff" + json.dumps(record("bom"))), wrong, "invalid_json")
    yield "utf16", (as_json("utf16", json.dumps(record("utf16")).encode("utf-16")), wrong, "invalid_json")
    yield "two", (as_json("two", json.dumps(record("two")) * 2), wrong, "invalid_json")
    yield "large", (as_json("large", json.dumps(record("large")) + " " * 70_000), wrong, "invalid_json")
    yield "blank", (as_json("blank", ""), wrong, "invalid_json")
    yield "pickle", (as_json("pickle", b"\x80\x04cos\nsystem\n."), wrong, "invalid_json")
    yield "list", (as_json("list", json.dumps([record("list")])), wrong, "invalid_record")
    yield "null", (as_json("null", "null"), wrong, "invalid_record")


def fields() -> Iterator[tuple[str, Case]]:
    """Records that are JSON, and say what no record says."""
    wrong = "quarantined"
    yield "unknown", (sample("unknown", run_me="x"), wrong, "invalid_record: unknown.json: run_me")
    escapes = "invalid_record: escapes.json: \\x1b[2J"
    yield "escapes", (sample("escapes", **{"\x1b[2J": "x"}), wrong, escapes)
    yield "control", (sample("control", contributor={"id": "c\x1b[2J"}), wrong, "invalid_record")
    yield "slash", (sample("slash", asset_id="../../slash"), wrong, "invalid_record: slash.json: asset_id")
    yield "bidi", (sample("bidi", asset_id="bi\u202edi"), wrong, "invalid_record: bidi.json: asset_id")
    yield "linefeed", (sample("linefeed", asset_id="linefeed\n"), wrong, "invalid_record")
    yield "other", (sample("other", asset_id="another"), wrong, "key_mismatch")
    yield "rival", (sample("rival", provider="rival"), wrong, "provider_mismatch")
    yield "foreign", (sample("foreign", delivery_id="acme-000009"), wrong, "delivery_mismatch")
    yield "long", (sample("long", description="y" * 4_001), wrong, "invalid_record: long.json: description")
    yield "hidden", (sample("hidden", description="\u202e\x07"), wrong, "invalid_record")
    yield "words", (sample("words", keywords=["k"] * 101), wrong, "invalid_record: words.json: keywords")
    yield "february", (sample("february", date_created="2024-02-30T00:00:00Z"), wrong, "invalid_record")
    yield "yearone", (sample("yearone", date_created="0001-01-01T00:00:00Z"), wrong, "invalid_record")
    yield "minus", (sample("minus", asset_revision=-1), wrong, "invalid_record")
    yield "overflow", (sample("overflow", asset_revision=2**31), wrong, "invalid_record")
    yield "truth", (sample("truth", is_adult="false"), wrong, "invalid_record: truth.json: is_adult")
    yield "nulled", (sample("nulled", title=None), wrong, "invalid_record: nulled.json: title")
    yield "twice", (sample("twice", license_ids=["acme-data-2026"] * 2), "rejected", "no_license: twice.json")
    yield "when", (sample("when", status="revoked"), wrong, "invalid_record: when.json: revoked_at")
    yield (
        "passwd",
        (filed("passwd", uri="file:///etc/passwd"), wrong, "invalid_record: passwd.json: file.uri"),
    )
    yield "upwards", (filed("upwards", path="../../x"), wrong, "invalid_record: upwards.json: file.path")


def files() -> Iterator[tuple[str, Case]]:
    """Records that do not fit what lies beside them, and words that are strange and still words."""
    wrong = "quarantined"
    yield "nosha", (filed("nosha", sha256="0" * 64), wrong, "sha256_mismatch")
    yield "nosize", (filed("nosize", bytes=1), wrong, "size_mismatch")
    yield "nomime", (filed("nomime", mime="image/jpeg"), wrong, "mime_mismatch")
    yield "gifmime", (filed("gifmime", mime="image/gif"), wrong, "invalid_record")
    yield "free", (sample("free", license_ids=[]), "rejected", "no_license")
    yield (
        "forged",
        (sample("forged", license_ids=["rival-license"]), "rejected", "license_missing:rival-license"),
    )
    yield "record", ({"record.png": PNG}, wrong, "no_record")
    yield "image", ({"image.json": json.dumps(record("image")).encode()}, wrong, "no_image")
    yield "images", ({**sample("images"), "images.webp": PNG}, wrong, "several_images")
    yield "jpegs", ({"jpegs.jpeg": PNG, **named(sample("jpegs"), ".png", ".jpg")}, wrong, "several_images")
    yield "caption", ({**sample("caption"), "caption.txt": b"other words"}, wrong, "text_mismatch")
    yield "latin", ({**sample("latin"), "latin.txt": b"caf\xe9"}, wrong, "invalid_text")
    yield "essay", ({**sample("essay"), "essay.txt": b"y" * 9_000}, wrong, "invalid_text")
    yield "shown", (sample("shown", description="a \u202ecat\x00\x1b[2J"), "kept", "")
    yield "program", (sample("program", contributor={"id": "{asset_id.__class__}"}), "kept", "")
    yield (
        "formula",
        (sample("formula", description="=cmd|'/c calc'!A1", title="<script>1</script>"), "kept", ""),
    )


def pictured() -> Iterator[tuple[str, Case]]:
    for key, (image, extension, outcome, reason) in all_pictures().items():
        yield key, (sample(key, image, extension), outcome, reason)


CASES: dict[str, Case] = {**dict(texts()), **dict(fields()), **dict(files()), **dict(pictured())}


@pytest.fixture(scope="module")
def ingested(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What became of every key of the one delivery; good samples lie between the hostile ones."""
    root = tmp_path_factory.mktemp("hostile")
    members: Members = {}
    for number, (members_of_one, _, _) in enumerate(CASES.values()):
        if number % (len(CASES) // GOODS) == 0 and number // (len(CASES) // GOODS) < GOODS:
            good = f"good{number // (len(CASES) // GOODS)}"
            members |= sample(good, encoded(picture(number)), description="a good one")
        members |= members_of_one
    Parcel(root / "delivery").good(tarred(members), lines(license_(attribution_template="by {contributor}")))
    corpus = Corpus(Store.at(root / "corpus"))
    tokens = ["ingest", str(root / "delivery"), "--corpus", corpus.store.uri]
    before = {path for path in root.rglob("*") if path.is_file()}
    assert run([*tokens, "--as-of", AS_OF, "--engine", "inline"]) == 0
    after = {path for path in root.rglob("*") if path.is_file() and not path.is_relative_to(root / "corpus")}
    assert after == before
    version = corpus.newest()
    keys = [*CASES, *(f"good{number}" for number in range(GOODS))]
    rows = {key: catalog_rows(corpus, version, f"acme:{key}") for key in keys}
    assert all(len(found) == 1 for found in rows.values()), {
        k: len(v) for k, v in rows.items() if len(v) != 1
    }
    (shard,) = corpus.artifact(version, "images").shards.values()
    images = refs.of(corpus.store, shard, IMAGES).read()
    return {key: found[0] for key, found in rows.items()} | {"": {"images": images, "root": root}}


@pytest.mark.parametrize("key", CASES)
def test_a_hostile_sample_ends_alone_and_with_its_reason(
    key: str, ingested: dict[str, dict[str, Any]]
) -> None:
    _, outcome, reason = CASES[key]
    row = ingested[key]
    assert row["outcome"] == outcome, row["reasons"]
    told = "".join(row["reasons"])
    assert told.startswith(reason), ascii(told)
    assert all(character.isprintable() or character == "\n" for character in told), ascii(told)
    assert len(told) < 5_000


def test_every_sample_is_accounted_for_and_the_good_ones_are_kept(
    ingested: dict[str, dict[str, Any]],
) -> None:
    for number in range(GOODS):
        assert ingested[f"good{number}"]["outcome"] == "kept"


def test_words_are_stripped_of_what_hides_and_credits_are_no_programs(
    ingested: dict[str, dict[str, Any]],
) -> None:
    assert ingested["shown"]["description"] == "a cat[2J"
    assert ingested["program"]["attribution"] == "by {asset_id.__class__}"


def test_of_what_is_kept_only_pixels_reach_the_corpus(ingested: dict[str, dict[str, Any]]) -> None:
    images: bytes = ingested[""]["images"]
    for smuggled in (b"PK\x03\x04", b"<script>smuggled", b"smuggled-secret"):
        assert smuggled not in images
        for path in (ingested[""]["root"] / "corpus").rglob("*"):
            assert not path.is_file() or smuggled not in path.read_bytes(), path


def test_the_first_frame_of_a_moving_picture_is_taken(ingested: dict[str, dict[str, Any]]) -> None:
    with tarfile.open(fileobj=io.BytesIO(ingested[""]["images"])) as archive:
        for key in ("apng", "awebp"):
            file = archive.extractfile(f"acme_{key}.jpg")
            assert file is not None
            pixels_HWC = np.asarray(Image.open(file))
            assert np.abs(pixels_HWC.astype(int) - (255, 0, 0)).max() < 4, key
