"""The emoji delivery, on a handful of pictures made here; the real packages once, where they can be had."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime
from pathlib import Path

import pytest
from PIL import Image

from infra.storage import Store
from pipeline.contract import Asset
from pipeline.deliveries import emoji
from pipeline.deliveries.emoji import Entry
from pipeline.deliveries.opened import open_delivery
from pipeline.deliveries.webdataset import read_shard
from pipeline.revoked import Revoked
from pipeline.rights import Decision, Purpose, decide

COLUMNS = [
    "emoji",
    "hexcode",
    "group",
    "subgroups",
    "annotation",
    "tags",
    "openmoji_tags",
    "openmoji_author",
    "openmoji_date",
]
ROWS = [
    (
        "A",
        "1F34E",
        "food-drink",
        "food-fruit",
        "red apple",
        "apple, fruit, red",
        "red, round",
        "Ann B",
        "2018-04-18",
    ),
    ("B", "0023-FE0F-20E3", "symbols", "keycap", "keycap: #", "", "", "Ann B", "2019-01-01"),
    (
        "C",
        "1F441-FE0F-200D-1F5E8-FE0F",
        "symbols",
        "sign",
        "eye",
        "eye, eye ,,EYE",
        "",
        "J\u00fcrg",
        "2019-01-01",
    ),
    ("D", "1F999", "animals", "mammal", "llama", "", "", "Ann B", "2019-01-01"),
]


def webp(color: int, side: int = 8) -> bytes:
    sink = io.BytesIO()
    Image.new("RGBA", (side, side), (color, 0, 0, 128)).save(sink, "WEBP", lossless=True)
    return sink.getvalue()


ART = {
    "package.json": b"{}",
    "assets/1f34e.webp": webp(255),
    "assets/0023-fe0f-20e3.webp": webp(1),
    "assets/1f441-200d-1f5e8.webp": webp(2),
    "assets/1f441-fe0f-200d-1f5e8-fe0f.webp": webp(2),
    "assets/00a9.webp": webp(3),
}


def entries() -> dict[str, Entry]:
    table = io.StringIO()
    csv.writer(table).writerows([COLUMNS, *ROWS])
    words = {"package.json": b"{}", "data/openmoji.csv": table.getvalue().encode()}
    return emoji.join(iter(ART.items()), iter(words.items()))


def delivered(folder: Path, found: dict[str, Entry]) -> list[tuple[Asset, bytes, Decision]]:
    """What the delivery says, read back and judged for training."""
    store = Store.at(folder)
    emoji.deliver(store, found)
    opened = open_delivery(store)
    assets = []
    for sample in (sample for shard in opened.shards for sample in read_shard(opened, shard)):
        assert isinstance(sample.asset, Asset), sample.asset
        decision = decide(
            sample.asset,
            opened.licenses,
            purpose=Purpose(commercial=True),
            as_of=datetime(2026, 11, 1, tzinfo=UTC),
            revoked=Revoked(),
        )
        assets.append((sample.asset, sample.image, decision))
    return assets


def test_pictures_join_rows_by_code_point_whatever_the_variation_selectors() -> None:
    assert list(entries()) == ["0023-fe0f-20e3", "1f34e", "1f441-200d-1f5e8", "1f441-fe0f-200d-1f5e8-fe0f"]
    assert entries()["1f441-200d-1f5e8"].row == entries()["1f441-fe0f-200d-1f5e8-fe0f"].row


def test_a_delivery_is_read_back_with_its_words_and_its_bytes_untouched(tmp_path: Path) -> None:
    found = delivered(tmp_path, entries())
    assert [image for _, image, _ in found] == [entry.webp for entry in entries().values()]
    [apple] = [asset for asset, _, _ in found if asset.asset_id == "1f34e"]
    assert apple.uid == "fluent-emoji:1f34e"
    assert apple.description == "red apple"
    assert apple.keywords == ("apple", "fruit", "red", "round")
    assert [category.name for category in apple.categories] == ["food-drink", "food-fruit"]
    assert (apple.file.width, apple.file.height, apple.file.mime) == (8, 8, "image/webp")
    assert (apple.contributor.id, apple.attribution_text) == ("microsoft", "OpenMoji, Ann B, 2018-04-18")


def test_tags_are_split_stripped_and_given_once_and_the_annotation_is_no_tag() -> None:
    eye = emoji.record(entries()["1f441-200d-1f5e8"], "d")
    assert eye.keywords == ("EYE",)
    assert emoji.record(entries()["0023-fe0f-20e3"], "d").keywords == ()


def test_art_and_words_are_both_licensed_and_both_credited(tmp_path: Path) -> None:
    for asset, _, decision in delivered(tmp_path, entries()):
        assert decision.license_ids == ("fluent-emoji-mit", "openmoji-cc-by-sa-4.0")
        assert decision.may_be_neighbor
        assert decision.may_be_shown
        assert decision.may_derive
        assert "Microsoft, MIT; Words: OpenMoji, " in decision.attribution
        assert decision.attribution.endswith(f"{asset.extra['words_date']}, CC BY-SA 4.0")


@pytest.mark.parametrize("record", emoji.LICENSES, ids=lambda record: record.license_id)
def test_neither_licence_is_enough_alone(record: object) -> None:
    asset = emoji.record(entries()["1f34e"], "d")
    rest = {one.license_id: one for one in emoji.LICENSES if one != record}
    now = datetime(2026, 11, 1, tzinfo=UTC)
    assert decide(asset, rest, purpose=Purpose(), as_of=now, revoked=Revoked()).outcome == "rejected"


def test_the_same_choice_is_the_same_bytes_and_a_part_is_a_delivery_too(tmp_path: Path) -> None:
    one, two = Store.at(tmp_path / "a"), Store.at(tmp_path / "b")
    stems = ["1f34e", "0023-fe0f-20e3"]
    first = emoji.deliver(one, entries(), sequence=1, kind="delta", stems=stems)
    emoji.deliver(two, entries(), sequence=1, kind="delta", stems=reversed(stems))
    assert {name: one.read(name) for name in one.names()} == {name: two.read(name) for name in two.names()}
    assert (first.sequence, first.kind, first.counts) == (1, "delta", {"samples": 2})
    assert first.delivery_id == "fluent-emoji-000001"


def test_an_unknown_choice_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no emoji 'apple'; stems are code points such as '0023-fe0f-20e3'"):
        emoji.deliver(Store.at(tmp_path), entries(), stems=["apple"])
    with pytest.raises(ValueError, match=r"no data/openmoji\.csv"):
        emoji.join(iter(ART.items()), iter(()))


@pytest.mark.slow
def test_the_real_packages_join_to_3374_licensed_pictures(tmp_path: Path) -> None:
    found = emoji.fetched()
    assert len(found) == 3374
    samples = delivered(tmp_path, found)
    assert len(samples) == 3374
    assert {decision.outcome for _, _, decision in samples} == {"kept"}
