"""The images step: whatever one image does to its decoder, the others are kept, and sizes are those told."""

from __future__ import annotations

import functools
import io
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from infra import cluster
from infra.corpus import Corpus
from infra.guarded.isolated import Died
from infra.storage import Store
from infra.telemetry import Log
from pipeline import archive, build, config, folding, ingest, looking, plan, reading, refs, tables
from pipeline.engine import Engine, Inline
from pipeline.pool import OnRay
from pipeline.step import IMAGES, ROWS, Step
from tests.hostile.made import AS_OF, Parcel, encoded, license_, lines, picture, record, sample, tarred
from tokenizer_service import images

pytestmark = pytest.mark.long


def segments(jpeg: bytes) -> Iterator[tuple[int, bytes]]:
    """Marker and bytes of each segment, with the coded pixels behind it."""
    at = 2
    while jpeg[at + 1] != 0xD9:
        end = at + 2 + int.from_bytes(jpeg[at + 2 : at + 4])
        while jpeg[end] != 0xFF or jpeg[end + 1] == 0:
            end += 1
        yield jpeg[at + 1], jpeg[at:end]
        at = end


def many_scans(side: int, times: int) -> bytes:
    """A progressive JPEG that brings its last refinement again and again: 90 KB, and for 4,000 pixels a side
    15 ms of work each time.
    """
    whole = encoded(Image.new("L", (side, side), 90), "JPEG", progressive=True)
    *_, (marker, last) = segments(whole)
    assert marker == 0xDA
    return whole[:-2] + last * times + whole[-2:]


def hurried(step: Step, cpu_s: int) -> Step:
    """The step with so many seconds for a picture, and one death."""

    def opened() -> Any:
        decoder = looking.decoder(512)
        decoder.limits = replace(decoder.limits, cpu_s=cpu_s, deaths=1)
        assert isinstance(step.settings, ingest.IngestConfig)
        return functools.partial(ingest.ingest, config=step.settings, decoder=decoder)

    return replace(step, open=opened)


def ingested(
    root: Path, members: Mapping[str, bytes], engine: Engine, *settings: str
) -> dict[str, dict[str, Any]]:
    """The row of every key, with its training image."""
    Parcel(root / "delivery").good(tarred(members), lines(license_()))
    corpus, instant = Corpus(Store.at(root / "corpus")), datetime.fromisoformat(AS_OF)
    *before, last = plan.ingest_steps(config.load(reading.CONFIGS / "node.toml", settings), instant)
    with corpus.writing(purpose="test"):
        version = folding.fold(corpus, corpus.head(), [Store.at(root / "delivery").uri])
        version = build.run(corpus, version, [*before, hurried(last, 1)], engine, Log())
    shard = corpus.artifact(version, "images").only
    jpegs = archive.images(refs.of(corpus.store, shard, IMAGES).read())
    rows = tables.read_parquet(refs.of(corpus.store, shard, ROWS)).to_pylist()
    return {row["uid"].partition(":")[2]: {**row, "jpeg": jpegs.get(row["key"])} for row in rows}


def assert_the_poison_is_out_alone(root: Path, engine: Engine) -> None:
    poison = sample("b-poison", many_scans(4_000, 1_000), "jpg")
    found = ingested(root, {**sample("a-good"), **poison, **sample("c-good", encoded(picture(1)))}, engine)
    assert found["b-poison"]["outcome"] == "quarantined"
    assert found["b-poison"]["reasons"] == ["decoder_died: SIGXCPU"]
    assert found["b-poison"]["jpeg"] is None
    for key in ("a-good", "c-good"):
        assert found[key]["outcome"] == "kept"
        assert Image.open(io.BytesIO(found[key]["jpeg"])).size == (32, 32)


@pytest.mark.plan
def test_a_picture_that_its_decoder_dies_of_is_quarantined_and_its_neighbors_are_kept(tmp_path: Path) -> None:
    assert_the_poison_is_out_alone(tmp_path, Inline())


@pytest.mark.ray
@pytest.mark.timeout(300)
def test_the_same_on_ray(tmp_path: Path) -> None:
    with cluster.joined(None):
        engine = OnRay()
        assert_the_poison_is_out_alone(tmp_path, engine)
        engine.close()


def on_its_side() -> bytes:
    """24 x 40 for whoever looks at it."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(Image.new("RGB", (40, 24), "red"), "JPEG", exif=exif)


SIZED: dict[str, tuple[bytes, str, tuple[int, int], tuple[int, int] | None]] = {
    "stored": (on_its_side(), "jpg", (40, 24), (24, 40)),
    "upright": (on_its_side(), "jpg", (24, 40), (24, 40)),
    "plain": (encoded(Image.new("RGB", (40, 24), "blue")), "png", (40, 24), (40, 24)),
    "larger": (encoded(picture(1)), "png", (320, 320), None),
    "half": (encoded(Image.new("RGB", (40, 24), "lime")), "png", (40, 40), None),
}
"""Image, extension, the size that its record says, and the one that is found, if it is kept."""


@pytest.mark.plan
def test_a_picture_of_another_size_than_its_record_says_is_quarantined(tmp_path: Path) -> None:
    members: dict[str, bytes] = {}
    for key, (image, extension, (width, height), _) in SIZED.items():
        file = {**record(key, image, extension)["file"], "width": width, "height": height}
        members |= sample(key, image, extension, file=file)
    found = ingested(tmp_path, members, Inline())
    for key, (_, _, told, size) in SIZED.items():
        row = found[key]
        assert row["outcome"] == ("quarantined" if size is None else "kept"), key
        assert (row["jpeg"] is None) == (size is None)
        assert (row["width"], row["height"]) == (size or told)
    told = (
        "dimensions_mismatch: file.width, file.height: got 320x320; the picture has 32x32; "
        "correct the record, or send the image again"
    )
    assert found["larger"]["reasons"] == [told]


SOUND = {"delivered": [64, 32], "pixels": [2, 1], "plain": False}


@pytest.mark.plan
def test_a_jpeg_that_fits_keeps_its_coding_only_where_deliveries_are_trusted(tmp_path: Path) -> None:
    small, large = encoded(picture(1), "JPEG"), encoded(picture(2).resize((900, 600)), "JPEG")
    members = {**sample("a-small", small, "jpg"), **sample("b-large", large, "jpg")}
    trusted = ingested(tmp_path / "trusted", members, Inline(), 'pipeline.ingest.reencode = "needed"')
    guarded = ingested(tmp_path / "guarded", members, Inline())
    pixels = small[small.index(b"\xff\xda") :]
    assert trusted["a-small"]["jpeg"].endswith(pixels)
    assert not guarded["a-small"]["jpeg"].endswith(pixels)
    assert trusted["b-large"]["jpeg"] == guarded["b-large"]["jpeg"]


def test_pixels_come_back_as_they_were_seen() -> None:
    found = looking.picture((SOUND, [bytes(range(6))]), 2)
    assert (found.width, found.height) == (64, 32)
    assert found.pixels_HWC.tolist() == [[[0, 1, 2], [3, 4, 5]]]


@pytest.mark.parametrize(
    ("value", "parts"),
    [
        ({}, []),
        (SOUND, []),
        (SOUND, [bytes(5)]),
        (SOUND, [bytes(6), b""]),
        ({**SOUND, "pixels": [3, 1]}, [bytes(9)]),
        ({**SOUND, "pixels": [-2, -1]}, [bytes(6)]),
        ({**SOUND, "pixels": [True, 2]}, [bytes(6)]),
        ({**SOUND, "pixels": [2.0, 1]}, [bytes(6)]),
        ({**SOUND, "delivered": [65_501, 1]}, [bytes(6)]),
        ({**SOUND, "delivered": ["64", 32]}, [bytes(6)]),
        ({**SOUND, "plain": 1}, [bytes(6)]),
        ({"undecodable": 1}, []),
        ({"undecodable": "why"}, [b"x"]),
    ],
)
def test_an_answer_that_no_decoder_gives_is_its_death(value: dict[str, Any], parts: list[bytes]) -> None:
    with pytest.raises(Died, match="no answer in form"):
        looking.picture((value, parts), 2)


def test_why_a_picture_cannot_be_decoded_is_told_in_words_that_can_be_printed() -> None:
    with pytest.raises(images.Undecodable) as caught:
        looking.picture(({"undecodable": "\x1b[2J\n" + "y" * 1000}, []), 2)
    assert str(caught.value) == ("\\x1b[2J\\n" + "y" * 1000)[:500]
