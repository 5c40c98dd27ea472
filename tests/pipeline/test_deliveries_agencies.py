"""The layouts of agencies: every column has a meaning, none is guessed, and what is not said is a fault."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from infra.guarded.refused import Refused
from infra.storage import Store
from pipeline import contract
from pipeline.contract import Asset, Delivery
from pipeline.deliveries import agency, forms, getty_api, shutterstock_api
from pipeline.deliveries.opened import OpenDelivery, open_delivery
from pipeline.deliveries.sample import Fault, Wrong
from pipeline.naming import derived_id

from .agencies import (
    ADOBE_ROW,
    API_OBJECT,
    BY_HAND,
    CONTRIBUTOR_ROW,
    DATASET_ROW,
    EDITORIAL_OBJECT,
    GETTY_OBJECT,
    Parcel,
    Row,
    encoded,
    file_row,
    table,
)

Found = dict[str, Asset | Fault]


def opened(folder: Path, parcel: Parcel, **changes: Any) -> OpenDelivery:
    store = Store.at(folder)
    parcel.write(store, **changes)
    return open_delivery(store)


def found(folder: Path, parcel: Parcel, **changes: Any) -> Found:
    delivery = opened(folder, parcel, **changes)
    form = forms.of(delivery.delivery)
    samples = [sample for batch in delivery.batches for sample in form.read(delivery, batch)]
    assert len({sample.key for sample in samples}) == len(samples)
    return {sample.key: sample.asset for sample in samples}


def told(asset: Asset | Fault) -> Row:
    """The record, without the file and what every record has."""
    assert isinstance(asset, Asset), asset
    record = asset.model_dump(mode="json")
    assert record["provider"] == "acme"
    common = {"schema", "provider", "asset_revision", "delivery_id", "file", "status"}
    return {name: value for name, value in record.items() if name not in common}


def codes(found: Found) -> dict[str, str]:
    return {key: asset.code if isinstance(asset, Fault) else "" for key, asset in found.items()}


def complaint(asset: Asset | Fault, code: str = "invalid_record") -> str:
    assert isinstance(asset, Fault)
    assert asset.code == code
    return asset.message


def one(form: str, row: Row, *, image: str | None = None, **stated: Any) -> Parcel:
    """A delivery of a single asset; ``stated`` are more fields that hold for it."""
    parcel = BY_HAND[form]()
    name = image or {**row, "id": row.get("id", row.get("Filename"))}["id"]
    files: dict[str, bytes] = {f"images/{name}" if "." in str(name) else f"images/{name}.jpg": encoded(1)}
    if form == "shutterstock_dataset":
        files["asset_metadata.csv"] = table(row)
    else:
        files |= {"rows.csv": table(row)} if "Filename" in row else {"rows.json": json.dumps([row]).encode()}
    return replace(parcel, files=files, roles={}, every_asset={**parcel.every_asset, **stated})


WORDS = "A red bicycle leans against a blue wall"
PEOPLE: Row = {
    "has_people": "no",
    "releases": {"model": "not_applicable", "property": "not_applicable"},
}
LICENSED: Row = {"license_ids": ["acme-data-2026"]}
UPLOADED: Row = {
    **LICENSED,
    **PEOPLE,
    "image_type": "photo",
    "is_editorial": False,
    "is_adult": False,
    "ai_generated": "no",
    "contributor": {"id": "c-77", "display_name": "J. Doe"},
    "description": WORDS,
    "keywords": ["bicycle", "red", "wall"],
}
DATASET: Row = {
    **LICENSED,
    **PEOPLE,
    "asset_id": "101",
    "image_type": "photo",
    "description": WORDS,
    "descriptions": [
        {"lang": "de", "text": "Ein rotes Fahrrad", "origin": "translated"},
        {"lang": "ko", "text": "빨간 자전거", "origin": "translated"},
    ],
    "keywords": ["bicycle", "red", "wall"],
    "categories": [{"name": "Transportation"}],
    "is_editorial": False,
    "is_adult": False,
    "moderation_labels": [{"name": "Alcohol", "score": 0.25}],
    "ai_generated": "no",
    "location": {"text": "Utrecht, Netherlands"},
    "date_created": "2019-05-30T00:00:00Z",
    "date_submitted": "2019-06-04T19:56:44Z",
    "contributor": {"id": "shutterstock"},
    "extra": {
        "popularity_score": "0.75",
        "labels": '["Bicycle", "Wheel"]',
        "moderation_labels": '["Alcohol: 0.25"]',
    },
}
GETTY: Row = {
    **LICENSED,
    **PEOPLE,
    "asset_id": "501",
    "image_type": "photo",
    "title": "Red bicycle",
    "description": WORDS,
    "keywords": ["bicycle"],
    "is_editorial": False,
    "is_adult": False,
    "ai_generated": "no",
    "date_created": "2017-09-12T07:00:00Z",
    "contributor": {"id": "getty", "display_name": "J. Doe"},
    "credit_line": "Getty Images/J. Doe",
    "copyright_notice": "J. Doe",
    "extra": {
        "collection_code": "FKF",
        "collection_id": "348",
        "collection_name": "Moment",
        "license_model": "royaltyfree",
    },
}
RECORDS: dict[str, list[Row]] = {
    "shutterstock_dataset": [
        DATASET,
        {
            **DATASET,
            "asset_id": "102",
            "is_editorial": True,
            "has_people": "yes",
            "releases": {"model": "none", "property": "not_applicable"},
        },
    ],
    "shutterstock_api": [
        {
            **LICENSED,
            "asset_id": "201",
            "image_type": "photo",
            "description": WORDS,
            "keywords": ["bicycle", "red, dark"],
            "categories": [{"id": "26", "name": "Transportation"}],
            "is_editorial": False,
            "is_adult": False,
            "ai_generated": "no",
            "has_people": "unknown",
            "releases": {"model": "unlimited", "property": "none", "model_release_ids": ["m-1", "m-2"]},
            "date_submitted": "2019-06-04T00:00:00Z",
            "contributor": {"id": "c-9"},
            "extra": {
                "models": '[{"id": "p-1"}]',
                "url": "https://www.shutterstock.com/image-photo/201",
                "asset_collection": "Essentials",
            },
        },
        {
            **LICENSED,
            "asset_id": "9804979n",
            "image_type": "photo",
            "title": "Tournament in Hong Kong",
            "description": "Members of a team prepare",
            "categories": [{"name": "Sports"}],
            "is_editorial": True,
            "is_adult": False,
            "ai_generated": "no",
            "has_people": "yes",
            "releases": {"model": "unlimited", "property": "none"},
            "date_created": "2018-08-24T00:00:00Z",
            "date_updated": "2019-07-16T00:04:44Z",
            "contributor": {"id": "editorial-desk"},
            "credit_line": "A. PHOTOGRAPHER/AGENCY/Shutterstock",
            "usage_restrictions": [
                "rights: CAN,+DEU,-*",
                'commercial_status: {"status": "restricted", "reason": "event"}',
                "Not for use in games, or on covers",
            ],
            "extra": {"supplier_code": "AGY"},
        },
    ],
    "shutterstock_contributor": [
        {
            **UPLOADED,
            "asset_id": "IMG_0301",
            "categories": [{"name": "Transportation"}, {"name": "Objects"}],
        },
        {
            **UPLOADED,
            "asset_id": derived_id("my drawing"),
            "image_type": "illustration",
            "is_editorial": True,
            "categories": [{"name": "Transportation"}, {"name": "Objects"}],
            "extra": {"provider_id": "my drawing"},
        },
    ],
    "adobe_stock": [
        {
            **UPLOADED,
            "asset_id": "IMG_0401",
            "categories": [{"id": "20", "name": "Transport"}],
            "extra": {"releases": "Jane Roe, Blue House"},
        },
        {**UPLOADED, "asset_id": "IMG_0402", "categories": [{"id": "20", "name": "Transport"}]},
    ],
    "getty_api": [
        GETTY,
        {
            **GETTY,
            "asset_id": "502",
            "is_editorial": True,
            "has_people": "yes",
            "usage_restrictions": [
                "Not for use on covers, or in games.",
                "call_for_image: the agency is to be asked before the picture is used",
            ],
        },
    ],
}
SENT_WHOLE = ("file metadata", "allowed_use")
"""Entries of ``extra`` that hold a whole object or row; they are looked at by themselves."""


@pytest.mark.parametrize("form", BY_HAND)
def test_an_agencys_rows_become_these_records(tmp_path: Path, form: str) -> None:
    records = [told(asset) for asset in found(tmp_path, BY_HAND[form]()).values()]
    for record in records:
        kept = record.get("extra", {})
        for name in SENT_WHOLE:
            assert isinstance(json.loads(kept.pop(name, "{}")), dict | list)
    assert records == RECORDS[form]


def test_what_the_image_is_comes_from_its_bytes_and_not_from_sizes_that_an_api_lists(tmp_path: Path) -> None:
    for asset in found(tmp_path, BY_HAND["shutterstock_api"]()).values():
        assert isinstance(asset, Asset)
        assert (asset.file.width, asset.file.height, asset.file.mime) == (4, 3, "image/jpeg")


def leaves(stated: Row, prefix: str = "") -> list[str]:
    inner = [leaves(value, f"{prefix}{name}.") for name, value in stated.items() if isinstance(value, dict)]
    flat = [f"{prefix}{name}" for name, value in stated.items() if not isinstance(value, dict)]
    return [*flat, *(name for names in inner for name in names)]


OPTIONAL = {"contributor.display_name"}
STATED = [(form, name) for form in BY_HAND for name in leaves(dict(BY_HAND[form]().every_asset))]


@pytest.mark.parametrize(("form", "name"), [pair for pair in STATED if pair[1] not in OPTIONAL])
def test_what_neither_the_row_nor_the_delivery_says_is_a_fault_that_names_it(
    tmp_path: Path, form: str, name: str
) -> None:
    whole = found(tmp_path / "whole", BY_HAND[form]())
    less = found(tmp_path / "less", BY_HAND[form]().without(name))
    assert whole.keys() == less.keys()
    assert any(isinstance(asset, Fault) for asset in less.values())
    for key, asset in less.items():
        if isinstance(asset, Fault):
            assert name in complaint(asset, "no_license" if name == "license_ids" else "invalid_record")
        else:
            assert asset == whole[key]  # its row says it


@pytest.mark.parametrize(
    ("form", "row", "column", "field"),
    [
        ("shutterstock_dataset", DATASET_ROW, "description", "description"),
        ("shutterstock_dataset", DATASET_ROW, "mature_flag", "is_adult"),
        ("shutterstock_dataset", DATASET_ROW, "image_type", "image_type"),
        ("shutterstock_dataset", DATASET_ROW, "has_people", "has_people"),
        ("shutterstock_api", API_OBJECT, "contributor", "contributor"),
        ("shutterstock_api", API_OBJECT, "is_editorial", "is_editorial"),
        ("shutterstock_api", API_OBJECT, "is_adult", "is_adult"),
        ("shutterstock_api", API_OBJECT, "image_type", "image_type"),
        ("shutterstock_api", API_OBJECT, "models", "has_people"),
        ("shutterstock_contributor", CONTRIBUTOR_ROW, "Editorial", "is_editorial"),
        ("shutterstock_contributor", CONTRIBUTOR_ROW, "Mature content", "is_adult"),
        ("shutterstock_contributor", CONTRIBUTOR_ROW, "Description", "description"),
        ("adobe_stock", ADOBE_ROW, "Title", "description"),
        ("getty_api", GETTY_OBJECT, "asset_family", "is_editorial"),
        ("getty_api", GETTY_OBJECT, "graphical_style", "image_type"),
    ],
)
def test_a_column_that_is_left_out_or_blank_has_no_default(
    tmp_path: Path, form: str, row: Row, column: str, field: str
) -> None:
    least = {name: value for name, value in row.items() if name != column}
    blank = {**row, column: ""}
    for number, silent in enumerate((least, blank)):
        parcel = one(form, silent, image=None).without(field)
        (asset,) = found(tmp_path / str(number), parcel).values()
        assert field in complaint(asset)


@pytest.mark.parametrize(
    ("form", "row", "column"),
    [
        ("shutterstock_dataset", DATASET_ROW, "is_creative"),
        ("shutterstock_dataset", DATASET_ROW, "mature_flag"),
        ("shutterstock_dataset", DATASET_ROW, "has_people"),
        ("shutterstock_dataset", DATASET_ROW, "has_model_release"),
        ("shutterstock_contributor", CONTRIBUTOR_ROW, "Editorial"),
        ("shutterstock_contributor", CONTRIBUTOR_ROW, "Mature content"),
        ("shutterstock_api", API_OBJECT, "is_adult"),
        ("shutterstock_api", API_OBJECT, "has_model_release"),
        ("getty_api", GETTY_OBJECT, "call_for_image"),
        ("getty_api", GETTY_OBJECT, "asset_family"),
        ("getty_api", GETTY_OBJECT, "allowed_use"),
    ],
)
def test_a_cell_that_says_something_else_than_it_may_is_a_fault_and_not_silence(
    tmp_path: Path, form: str, row: Row, column: str
) -> None:
    parcel = one(form, {**row, column: "perhaps"}, is_editorial=False, is_adult=False)
    (asset,) = found(tmp_path, parcel).values()
    assert f"{agency.column(column)}: got 'perhaps'" in complaint(asset)


@pytest.mark.parametrize("word", ["yes", "TRUE", "t", "1", " Y "])
def test_yes_is_written_in_many_ways(tmp_path: Path, word: str) -> None:
    row = {**CONTRIBUTOR_ROW, "Editorial": word, "Mature content": word.lower()}
    (asset,) = found(tmp_path, one("shutterstock_contributor", row)).values()
    assert (told(asset)["is_editorial"], told(asset)["is_adult"]) == (True, True)


@pytest.mark.parametrize("form", ["shutterstock_contributor", "adobe_stock", "shutterstock_dataset"])
def test_headers_are_read_in_any_case_behind_a_byte_order_mark(tmp_path: Path, form: str) -> None:
    parcel = BY_HAND[form]()
    shouted = {}
    for path, data in parcel.files.items():
        header, feed, rest = data.partition(b"\r\n")
        table_ = path.endswith(".csv")
        shouted[path] = b"\xef\xbb\xbf" + header.upper().replace(b"_", b" ") + feed + rest if table_ else data
    assert found(tmp_path / "0", replace(parcel, files=shouted)) == found(tmp_path / "1", parcel)


def test_two_headers_that_differ_by_case_alone_refuse_the_delivery(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="rule header: column 'KEYWORDS' is there twice"):
        opened(tmp_path, one("adobe_stock", {**ADOBE_ROW, "KEYWORDS": "x"}))


@pytest.mark.parametrize(
    ("released", "people", "model"),
    [
        ("yes", "yes", None),
        ("yes", "", None),
        ("yes", "no", None),
        ("no", "yes", "none"),
        ("no", "", "none"),
        ("no", "no", "not_applicable"),
        ("", "yes", None),
        ("", "no", "not_applicable"),
        ("", "unknown", None),
    ],
)
def test_a_release_is_never_unlimited_because_a_column_says_that_there_is_one(
    tmp_path: Path, released: str, people: str, model: str | None
) -> None:
    row = {**DATASET_ROW, "has_model_release": released, "has_people": people}
    stated = {"releases": {"model": "unlimited", "property": "none"}, "has_people": "unknown"}
    (asset,) = found(tmp_path / "0", one("shutterstock_dataset", row, **stated)).values()
    assert told(asset)["releases"]["model"] == (model or "unlimited")
    assert told(asset)["has_people"] == (people or "unknown")
    silent = one("shutterstock_dataset", row, **stated).without("releases.model")
    (asset,) = found(tmp_path / "1", silent).values()
    assert isinstance(asset, Fault) == (model is None)


@pytest.mark.parametrize(
    "place",
    [
        "52.0907, 5.1214",
        "POINT(5 52)",
        "52\u00b05'N 5\u00b07'E",
        '{"lat": 52, "lon": 5}',
        "5231, 0512",
        "Utrecht (52.0907 5.1214)",
        "52 5 N, 5 7 E",
    ],
)
def test_coordinates_are_kept_nowhere(tmp_path: Path, place: str) -> None:
    row = {**DATASET_ROW, "asset_location": place, "GPS Latitude": place, "lon": place}
    (asset,) = found(tmp_path, one("shutterstock_dataset", row)).values()
    assert "location" not in told(asset)
    assert place not in str(told(asset))


@pytest.mark.parametrize("place", ["Utrecht in the 1980s", "Point Reyes 12", "12.50 km from Utrecht"])
def test_a_place_in_words_may_hold_a_number(tmp_path: Path, place: str) -> None:
    (asset,) = found(tmp_path, one("shutterstock_dataset", {**DATASET_ROW, "asset_location": place})).values()
    assert told(asset)["location"] == {"text": place}


def test_a_time_without_a_zone_or_in_other_words_is_kept_as_it_was_sent(tmp_path: Path) -> None:
    row = {**DATASET_ROW, "date_captured": "2019-05-30 12:00:00", "date_submitted": "May 2019"}
    (asset,) = found(tmp_path, one("shutterstock_dataset", row)).values()
    assert not {"date_created", "date_submitted"} & told(asset).keys()
    extra = told(asset)["extra"]
    assert (extra["date_captured"], extra["date_submitted"]) == ("2019-05-30 12:00:00", "May 2019")


@pytest.mark.parametrize(
    ("cell", "moment"),
    [
        ("2019-06-04T15:56:44.25+0530", "2019-06-04T10:26:44.250000Z"),
        ("2019-06-04 15:56Z", "2019-06-04T15:56:00Z"),
        ("2019-02-30", None),
        ("0001-01-01", None),
        ("9999-12-31T23:00:00-04:00", None),
        ("04/06/2019", None),
        (20190604, None),
    ],
)
def test_a_moment_is_a_day_or_has_a_zone(cell: Any, moment: str | None) -> None:
    assert agency.moment(cell) == moment


def dataset(*files: Row, image: bytes | None = None, **tables: bytes) -> Parcel:
    parcel = BY_HAND["shutterstock_dataset"]()
    everything = {
        "images/101.jpg": encoded(1) if image is None else image,
        "a/asset_metadata.csv": table(DATASET_ROW),
        **({"a/file_metadata.csv": table(*files)} if files else {}),
        **{path.replace("__", "/") + ".csv": data for path, data in tables.items()},
    }
    return replace(parcel, files=everything)


def test_the_one_row_of_a_file_is_held_against_the_image(tmp_path: Path) -> None:
    small = file_row("101", b"")
    assert codes(found(tmp_path / "0", dataset(file_row("101", encoded(1))))) == {"101": ""}
    assert codes(found(tmp_path / "1", dataset(small))) == {"101": "invalid_record"}  # no file has 0 bytes
    assert codes(found(tmp_path / "2", dataset(file_row("101", b"x")))) == {"101": "size_mismatch"}
    assert codes(found(tmp_path / "3", dataset())) == {"101": ""}


def test_of_several_sizes_the_delivered_one_counts_and_an_eps_is_none(tmp_path: Path) -> None:
    sizes = [file_row("101", encoded(1)), file_row("101", b"x", asset_file_size="huge")]
    drawn = [file_row("101", encoded(1)), file_row("101", b"x", asset_file_extension="eps")]
    for number, rows in enumerate((sizes, drawn)):
        (asset,) = found(tmp_path / str(number), dataset(*rows)).values()
        assert len(json.loads(told(asset)["extra"]["file metadata"])) == 2


def test_tables_come_in_parts_and_are_joined_across_them(tmp_path: Path) -> None:
    second = table({**DATASET_ROW, "id": "102"})
    rows = [file_row("101", encoded(1)), file_row("102", encoded(2))]
    parcel = dataset(b__asset_metadata_0002=second, c__file_metadata_0001=table(*rows))
    parcel = replace(parcel, files={**parcel.files, "more/shutterstock_102.jpg": encoded(2)})
    assert codes(found(tmp_path, parcel)) == {"101": "", "102": ""}


@pytest.mark.parametrize(
    ("parcel", "rule"),
    [
        (dataset(file_row("101", encoded(1)), file_row("999", encoded(1))), "join"),
        (dataset(other=table(DATASET_ROW)), "table"),
        (dataset(b__asset_metadata=table({**DATASET_ROW, "id": "102"}) + b"\0"), "nul"),
        (replace(dataset(), files={**dataset().files, "103.jpg": encoded(3)}), "unused"),
        (replace(dataset(), files={**dataset().files, "x.json": b"[]"}), "extension"),
        (replace(dataset(), files={**dataset().files, "f.csv": b"a\n"}, roles={"f.csv": "feed"}), "role"),
    ],
)
def test_a_dataset_that_cannot_be_told_apart_is_refused(tmp_path: Path, parcel: Parcel, rule: str) -> None:
    with pytest.raises(Refused, match=f"rule {rule}"):
        opened(tmp_path, parcel)


def test_rows_that_share_an_asset_or_say_too_much_are_faults_of_their_own(tmp_path: Path) -> None:
    again = dataset(b__asset_metadata=table(DATASET_ROW))
    assert codes(found(tmp_path / "0", again)) == {
        "101": "duplicate",
        "b/asset_metadata.csv row 1": "duplicate",
    }
    long = table({**DATASET_ROW, "id": "102", "description": "x" * 100_000})
    parcel = dataset(b__asset_metadata=long)
    assert codes(found(tmp_path / "1", parcel)) == {"101": "", "102": "invalid_record"}
    joined = dataset(file_row("101", encoded(1), note="x" * 100_000))
    assert codes(found(tmp_path / "2", joined)) == {"101": "invalid_record"}


def test_ids_that_are_no_asset_ids_are_derived_and_kept(tmp_path: Path) -> None:
    parcel = one("shutterstock_dataset", {**DATASET_ROW, "id": "../../etc/101"}, image="x")
    parcel = replace(
        parcel, files={path: data for path, data in parcel.files.items() if "images" not in path}
    )
    assert codes(found(tmp_path / "0", parcel)) == {derived_id("../../etc/101"): "no_image"}
    named = {**GETTY_OBJECT, "id": "=cmd()|' /C calc'!A0"}
    parcel = replace(one("getty_api", named, image="501"), files={"rows.json": json.dumps([named]).encode()})
    assert codes(found(tmp_path / "1", parcel)) == {derived_id(named["id"]): "no_image"}
    named = {**GETTY_OBJECT, "id": "get ty 1"}
    (asset,) = found(tmp_path / "2", one("getty_api", named)).values()
    assert told(asset)["extra"]["provider_id"] == "get ty 1"


def test_a_row_without_an_id_goes_by_its_place_and_says_so(tmp_path: Path) -> None:
    parcel = one("shutterstock_dataset", {**DATASET_ROW, "id": ""}, image="x")
    parcel = replace(
        parcel, files={path: data for path, data in parcel.files.items() if "images" not in path}
    )
    assert codes(found(tmp_path, parcel)) == {"asset_metadata.csv row 1": "no_image"}


@pytest.mark.parametrize(
    "name", ["../IMG_0301.jpg", "/etc/passwd", "..", "", "images/../IMG_0301.jpg", "a\tb.jpg"]
)
def test_a_file_name_leads_nowhere_but_to_a_delivered_image(tmp_path: Path, name: str) -> None:
    parcel = one("shutterstock_contributor", {**CONTRIBUTOR_ROW, "Filename": name}, image="x")
    parcel = replace(
        parcel, files={path: data for path, data in parcel.files.items() if "images" not in path}
    )
    (asset,) = found(tmp_path, parcel).values()
    complaint(asset, "no_image")


def test_formulas_and_hidden_characters_are_text(tmp_path: Path) -> None:
    row = {
        **ADOBE_ROW,
        "Title": "=1+1 \u202edlrow",
        "Keywords": "@x,-2\u2066,+3",
        "Category": "=1",
        "Note": "=A1\u202e",
    }
    (asset,) = found(tmp_path, one("adobe_stock", row)).values()
    record = told(asset)
    assert (record["description"], record["keywords"]) == ("=1+1 dlrow", ["@x", "-2", "+3"])
    assert record["categories"] == [{"name": "=1"}]
    assert record["extra"]["note"] == "=A1"


def test_addresses_lose_their_credentials(tmp_path: Path) -> None:
    addresses = [
        "https://me:pw-1@host.example/a.jpg?sig=pw-2#pw-3",
        "see s3://key:pw-4@bucket/x?pw-5, or http://b/c",
    ]
    row = {**GETTY_OBJECT, "one": addresses[0], "more": {"deep": addresses}}
    (asset,) = found(tmp_path, one("getty_api", row)).values()
    assert told(asset)["extra"]["one"] == "https://host.example/a.jpg"
    assert "see s3://bucket/x or http://b/c" in told(asset)["extra"]["more"]
    assert "pw-" not in str(told(asset))


def test_columns_that_nobody_knows_are_kept_within_bounds_and_what_was_cut_is_told(tmp_path: Path) -> None:
    row = {**CONTRIBUTOR_ROW, **{f"x{i:02d}": "v" for i in range(60)}, "x00": "w" * 5000}
    (asset,) = found(tmp_path, one("shutterstock_contributor", row)).values()
    extra = told(asset)["extra"]
    assert len(extra) == 49
    assert extra["x00"] == "w" * 4096
    assert extra["cut_columns"].split(", ") == ["x00", *(f"x{i}" for i in range(48, 60))]


def pages(*objects: Row, path: str = "rows.json", feed: Any = None) -> Parcel:
    parcel = BY_HAND["shutterstock_api"]()
    files = {f"images/{item['id']}.jpg": encoded(1) for item in objects}
    files[path] = json.dumps({"data": list(objects)}).encode()
    if feed is not None:
        files["feed.json"] = json.dumps(feed).encode()
    return replace(parcel, files=files, roles={"feed.json": "feed"})


def test_a_page_a_list_and_lines_of_objects_are_the_same(tmp_path: Path) -> None:
    parcel = pages(API_OBJECT)
    image = {"images/201.jpg": parcel.files["images/201.jpg"]}
    forms_ = {
        "rows.json": json.dumps([API_OBJECT]),
        "one.json": json.dumps(API_OBJECT),
        "rows.jsonl": f"{json.dumps(API_OBJECT)}\n\n",
    }
    paged = found(tmp_path / "page", parcel)
    for path, text in forms_.items():
        files = {**image, path: text.encode()}
        assert found(tmp_path / path, replace(parcel, files=files)) == paged


def test_an_object_that_is_no_image_is_a_fault(tmp_path: Path) -> None:
    (asset,) = found(tmp_path, pages({**API_OBJECT, "media_type": "video"})).values()
    assert "media_type" in complaint(asset)


def test_a_deletion_that_is_listed_among_the_objects_refuses_the_delivery(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"refused by rule feed: .*role feed"):
        found(tmp_path, pages({**API_OBJECT, "updates": ["edit", "deletion"]}))


def test_what_only_editorial_objects_have_makes_one_editorial(tmp_path: Path) -> None:
    item = {name: EDITORIAL_OBJECT[name] for name in ("id", "description", "byline")}
    for number, stated in enumerate((False, True)):
        parcel = pages(item)
        parcel = replace(parcel, every_asset={**parcel.every_asset, "is_editorial": stated})
        (asset,) = found(tmp_path / str(number), parcel).values()
        assert told(asset)["is_editorial"] is True


def test_a_status_that_says_available_restricts_nothing(tmp_path: Path) -> None:
    free = {**EDITORIAL_OBJECT, "commercial_status": {"status": "available"}, "rights": {"countries": ""}}
    (asset,) = found(tmp_path, pages({**free, "special_instructions": " "})).values()
    assert "usage_restrictions" not in told(asset)


NOON, LATER = "2019-06-04T12:00:00-04:00", "2019-06-05T12:00:00Z"


def test_deletions_of_the_feed_are_revocations_from_their_first_time_on(tmp_path: Path) -> None:
    entries = [
        {"id": "7", "updated_time": LATER, "updates": ["deletion"]},
        {"id": "7", "updated_time": NOON, "updates": ["edit", "deletion"]},
        {"id": "a b", "updated_time": LATER, "updates": ["DELETED"]},
        {"id": "201", "updated_time": LATER, "updates": ["addition", "edit"]},
    ]
    delivery = opened(tmp_path, pages(API_OBJECT, feed={"data": entries, "page": 1}))
    noon = datetime(2019, 6, 4, 16, tzinfo=UTC)
    records = [
        (r.revocation_id, r.targets, r.target_type, r.action, r.reason, r.effective_at, r.requested_at)
        for r in delivery.revocations
    ]
    later = datetime(2019, 6, 5, 12, tzinfo=UTC)
    odd = derived_id("a b")
    assert records == [
        ("acme-000000:7", ("7",), "asset", "remove", "other", noon, noon),
        (f"acme-000000:{odd}", (odd,), "asset", "remove", "other", later, later),
    ]


def test_a_feed_alone_is_a_delivery_under_an_id_of_any_length(tmp_path: Path) -> None:
    feed = [{"id": "7", "updated_time": NOON, "updates": ["deletion"]}]
    parcel = pages(feed=feed)
    delivery = opened(
        tmp_path, replace(parcel, files={"feed.json": parcel.files["feed.json"]}), delivery_id="d" * 128
    )
    assert list(delivery.batches) == []
    assert [(r.revocation_id, r.targets) for r in delivery.revocations] == [
        (derived_id("d" * 128 + ":7"), ("7",))
    ]


@pytest.mark.parametrize(
    "entry",
    [
        {"id": "8", "updated_time": NOON, "updates": ["edit"]},
        {"id": "8", "updated_time": NOON, "updates": ["addition"]},
        {"id": "201", "updated_time": NOON, "updates": ["withdrawn"]},
        {"id": "201", "updated_time": NOON, "updates": ["edit", "withdrawn"]},
        {"id": "201", "updated_time": NOON, "updates": []},
        {"id": "201", "updated_time": NOON},
        {"id": "201", "updated_time": "2019-06-04T12:00:00", "updates": ["deletion"]},
        {"updated_time": NOON, "updates": ["deletion"]},
    ],
)
def test_a_change_that_nobody_would_hear_of_refuses_the_delivery(tmp_path: Path, entry: Row) -> None:
    with pytest.raises(Refused, match="rule feed"):
        opened(tmp_path, pages(API_OBJECT, feed=[entry]))


def test_restrictions_in_words_are_kept_whole_whatever_shape_they_have(tmp_path: Path) -> None:
    for number, (cell, kept) in enumerate(
        [("One, two.", ["One, two."]), ([{"a": 1}, " "], ['{"a": 1}']), ([], []), (7, ["7"])]
    ):
        row = {**GETTY_OBJECT, "allowed_use": {"usage_restrictions": cell}}
        (asset,) = found(tmp_path / str(number), one("getty_api", row)).values()
        assert told(asset).get("usage_restrictions", []) == kept


@pytest.mark.parametrize(
    ("words", "kept", "releases"),
    [
        ({"how_can_i_use_it": "Available for all permissible uses."}, [], None),
        (
            {"how_can_i_use_it": "Editorial use only"},
            ["how_can_i_use_it: Editorial use only"],
            None,
        ),
        ({"release_info": "Model and property released"}, [], None),
        ({"release_info": "No release required"}, [], None),
        ({"release_info": "Not released. More information"}, [], "none"),
        ({"release_info": "No release"}, [], "none"),
        (
            {"how_can_i_use_it": "Available for all permitted uses except machine learning."},
            ["how_can_i_use_it: Available for all permitted uses except machine learning."],
            None,
        ),
        (
            {"release_info": "Not released. Must not be used for AI"},
            ["release_info: Not released. Must not be used for AI"],
            "none",
        ),
        ({"release_info": "Partially released"}, ["release_info: Partially released"], None),
    ],
)
def test_words_of_getty_that_may_restrict_are_read_and_unknown_ones_are_for_a_person(
    tmp_path: Path, words: Row, kept: list[str], releases: str | None
) -> None:
    (asset,) = found(tmp_path, one("getty_api", {**GETTY_OBJECT, "allowed_use": words})).values()
    (silent,) = found(tmp_path / "s", one("getty_api", {**GETTY_OBJECT, "allowed_use": {}})).values()
    assert told(asset).get("usage_restrictions", []) == kept
    held = {"model": releases, "property": releases} if releases else told(silent)["releases"]
    assert told(asset)["releases"] == held


def test_names_of_pictured_people_are_not_kept(tmp_path: Path) -> None:
    (asset,) = found(tmp_path, one("getty_api", {**GETTY_OBJECT, "people": ["Jane Roe"]})).values()
    assert told(asset)["has_people"] == "yes"
    assert "Roe" not in str(told(asset))


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False)
    | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["id", "name", "a"]), inner),
    max_leaves=6,
)
OBJECTS = {
    "shutterstock_api": (API_OBJECT | EDITORIAL_OBJECT, shutterstock_api),
    "getty_api": (GETTY_OBJECT, getty_api),
}


@pytest.mark.long
@pytest.mark.parametrize("form", OBJECTS)
@settings(max_examples=50)
@given(data=st.data())
def test_no_object_does_anything_but_become_fields_or_a_fault(form: str, data: st.DataObject) -> None:
    good, layout = OBJECTS[form]
    changes = data.draw(st.dictionaries(st.sampled_from([*good, "other"]), JSON, max_size=4))
    delivery = Delivery.model_validate(contract.template()["delivery"])
    cells = {name: cell for name, cell in {**good, **changes}.items() if cell is not None}
    try:
        fields = layout.record(cells, delivery)
    except Wrong as wrong:
        assert wrong.fault.code == "invalid_record"  # noqa: PT017  # both ends are right
        return
    json.dumps(fields)
    with contextlib.suppress(ValidationError):
        Asset.model_validate({**contract.template()["asset"], **fields})


@pytest.mark.parametrize(
    ("cell", "entries"),
    [
        ("a, b;c|d ,,", ["a", "b", "c", "d"]),
        ('["a, b", "c"]', ["a, b", "c"]),
        ("['a', 'b']", ["a", "b"]),
        ("[", []),
        (None, []),
        (["a", " b ", "", None], ["a", "b"]),
        ("", []),
    ],
)
def test_a_list_is_written_in_many_ways(cell: Any, entries: list[str]) -> None:
    assert agency.words(cell) == entries
