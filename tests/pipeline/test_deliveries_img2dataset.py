"""The form that img2dataset writes: every row ends in a sample, and nothing that it says is a licence."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infra.guarded import tar
from infra.guarded.refused import Refused
from infra.storage import Store
from pipeline.contract import Asset
from pipeline.deliveries import forms
from pipeline.deliveries.opened import open_delivery
from pipeline.deliveries.sample import Fault
from tests.hostile.made import tarred

from .agencies import Parcel, encoded
from .downloaded import img2dataset

pytestmark = pytest.mark.long
Found = dict[str, Asset | Fault]
KEYS = [f"{number:06d}" for number in range(6)]
A, B, *_, MISSING = KEYS
GOOD = {**dict.fromkeys(KEYS, ""), MISSING: "no_image"}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Parcel:
    return img2dataset(tmp_path_factory.mktemp("run"))


def found(folder: Path, parcel: Parcel, **changes: Any) -> Found:
    store = Store.at(folder)
    parcel.write(store, **changes)
    delivery = open_delivery(store)
    form = forms.of(delivery.delivery)
    assert forms.revocations(delivery) == []
    samples = [sample for batch in delivery.batches for sample in form.read(delivery, batch)]
    assert len({sample.key for sample in samples}) == len(samples)
    return {sample.key: sample.asset for sample in samples}


def codes(found: Found) -> dict[str, str]:
    return {key: asset.code if isinstance(asset, Fault) else "" for key, asset in found.items()}


def listing(parcel: Parcel, change: Callable[[pa.Table], pa.Table], **options: Any) -> Parcel:
    """The parcel with another table."""
    table = change(pq.read_table(io.BytesIO(parcel.files["00000.parquet"])))
    sink = io.BytesIO()
    pq.write_table(table, sink, **{"compression": "snappy", **options})
    return replace(parcel, files={**parcel.files, "00000.parquet": sink.getvalue()})


def cell(parcel: Parcel, key: str, name: str, value: Any) -> Parcel:
    def change(table: pa.Table) -> pa.Table:
        rows = [{**row, name: value} if row["key"] == key else row for row in table.to_pylist()]
        return pa.Table.from_pylist(rows, schema=table.schema)

    return listing(parcel, change)


def column(parcel: Parcel, name: str, values: pa.Array) -> Parcel:
    return listing(parcel, lambda table: table.append_column(name, values))


def members(parcel: Parcel) -> dict[str, bytes]:
    return dict(tar.members(io.BytesIO(parcel.files["00000.tar"]), file="00000.tar"))


def archive(parcel: Parcel, contents: Mapping[str, bytes]) -> Parcel:
    return replace(parcel, files={**parcel.files, "00000.tar": tarred(contents)})


def test_every_row_is_an_asset_or_the_fault_of_its_status(tmp_path: Path, written: Parcel) -> None:
    assets = found(tmp_path, written)
    assert codes(assets) == GOOD
    assert list(assets) == KEYS
    missing = assets[MISSING]
    assert isinstance(missing, Fault)
    assert "00000.parquet: 000005: " in missing.message
    assert "failed_to_download: <urlopen error [Errno 2]" in missing.message
    asset = assets[A]
    assert isinstance(asset, Asset)
    record = asset.model_dump(mode="json")
    file, extra = record.pop("file"), record.pop("extra")
    assert record == {
        "schema": "asset/1.0",
        "provider": "acme",
        "asset_id": A,
        "asset_revision": 0,
        "delivery_id": "acme-000000",
        "image_type": "photo",
        "description": "Square 0",
        "is_editorial": False,
        "is_adult": False,
        "ai_generated": "no",
        "has_people": "no",
        "releases": {"model": "not_applicable", "property": "not_applicable"},
        "contributor": {"id": "c-77", "display_name": "J. Doe"},
        "license_ids": ["acme-data-2026"],
        "status": "active",
    }
    assert (file["width"], file["height"]) == (43, 8)  # what was stored, not the 16 x 3 that were downloaded
    assert file["bytes"] == len(members(written)[f"{A}.jpg"])
    original = extra.pop("original_sha256")
    assert len(original) == 64
    assert original != file["sha256"]
    assert extra.pop("url").endswith("/a.jpg")
    assert extra == {"license": "CC0", "original_width": "16", "original_height": "3"}


@pytest.mark.parametrize("name", ["license_ids", "is_adult"])
def test_a_column_called_license_is_none_and_what_the_delivery_leaves_out_is_a_fault(
    tmp_path: Path, written: Parcel, name: str
) -> None:
    parcel = column(written, name, pa.array(["acme-data-2026", "no", "yes"] * 2))
    assets = found(tmp_path, parcel.without(name))
    code = "no_license" if name == "license_ids" else "invalid_record"
    assert codes(assets) == {**dict.fromkeys(KEYS, code), MISSING: "no_image"}
    assert name in str(assets[A])


def test_pictures_that_were_not_encoded_anew_are_of_the_kind_of_their_bytes(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encoded(1, "PNG"))
    columns = {"caption": ["x"], "url": [f"file://{tmp_path}/a.png"]}
    parcel = img2dataset(tmp_path / "run", columns, disable_all_reencoding=True)
    assert list(members(parcel)) == [f"{A}.jpg", f"{A}.json", f"{A}.txt"]
    asset = found(tmp_path / "delivery", parcel)[A]
    assert isinstance(asset, Asset)
    assert asset.file.mime == "image/png"
    assert asset.extra["original_sha256"] == asset.file.sha256


def test_what_cannot_be_a_cell_is_left_out_and_refuses_nothing(tmp_path: Path, written: Parcel) -> None:
    def exif(table: pa.Table) -> pa.Table:
        at = table.schema.get_field_index("exif")
        long = pa.array([json.dumps({"UserComment": "x" * 1_000_000})] * 6)
        return table.set_column(at, "exif", long)

    parcel = listing(written, exif)
    parcel = column(parcel, "boxes", pa.array([[[0, 1]], [], None] * 2))
    parcel = column(parcel, "bytes", pa.array([b"x", b"y", None] * 2))
    parcel = column(parcel, "when", pa.array([datetime(2026, 1, 1)] * 6))  # noqa: DTZ001  # no zone is the point
    parcel = column(parcel, "Größe; in cm", pa.array(["1", "2", "3"] * 2))
    parcel = column(parcel, "nothing", pa.nulls(6))
    parcel = column(parcel, "score", pa.array([0.5, None, 0.25] * 2))
    assets = found(tmp_path, parcel)
    assert codes(assets) == GOOD
    asset = assets[A]
    assert isinstance(asset, Asset)
    assert set(asset.extra) == {
        "url",
        "license",
        "original_sha256",
        "original_width",
        "original_height",
        "score",
    }
    assert asset.extra["score"] == "0.5"


def test_an_address_loses_its_credentials(tmp_path: Path, written: Parcel) -> None:
    told = cell(written, A, "url", "https://me:pw-1@host.example/a.jpg?sig=pw-2")
    told = cell(told, MISSING, "error_message", "no https://me:pw-3@host.example/c.jpg?sig=pw-4 there")
    assets = found(tmp_path, told)
    assert "https://host.example/a.jpg" in str(assets[A])
    assert "no https://host.example/c.jpg there" in str(assets[MISSING])
    assert "pw-" not in str(assets)


def test_what_is_wrong_with_one_member_is_a_fault_alone(tmp_path: Path, written: Parcel) -> None:
    good, keys = members(written), KEYS
    contents = {
        **good,
        f"{keys[0]}.jpg": b"GIF89a",
        f"{keys[1]}.jpg": good[f"{keys[1]}.jpg"][:20],
        f"{keys[2]}.png": encoded(1, "PNG"),
    }
    del contents[f"{keys[3]}.jpg"]
    assets = found(tmp_path, archive(written, dict(sorted(contents.items()))))
    wrong = ["mime_mismatch", "undecodable", "several_images", "no_image", "", "no_image"]
    assert codes(assets) == dict(zip(keys, wrong, strict=True))


def test_a_caption_is_the_same_in_the_table_and_in_the_tar_and_a_row_may_have_no_member(
    tmp_path: Path, written: Parcel
) -> None:
    told = cell(cell(written, A, "caption", "Something else"), B, "caption", None)
    contents = {**members(written), f"{B}.txt": b""}
    less = {name: content for name, content in contents.items() if not name.startswith(KEYS[2])}
    assets = found(tmp_path, archive(told, less))
    assert codes(assets) == {**GOOD, A: "text_mismatch", B: "invalid_record", KEYS[2]: "no_image"}
    assert "description" in str(assets[B])
    assert "success: no picture in the tar" in str(assets[KEYS[2]])


def first(table: pa.Table, name: str, value: Any) -> pa.Table:
    rows = table.to_pylist()
    return pa.Table.from_pylist([{**rows[0], name: value}, *rows[1:]], schema=table.schema)


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (lambda table: table.slice(1), "row"),
        (lambda table: first(table, "status", "failed_to_resize"), "row"),
        (lambda table: first(table, "key", B), "key"),
        (lambda table: first(table, "key", "../a"), "key"),
    ],
)
def test_a_table_that_contradicts_its_tar_refuses_both(
    tmp_path: Path, written: Parcel, change: Callable[[pa.Table], pa.Table], rule: str
) -> None:
    with pytest.raises(Refused, match=f"rule {rule}"):
        found(tmp_path, listing(written, change))


def test_numbers_that_the_delivery_says_are_compared(tmp_path: Path, written: Parcel) -> None:
    written.write(Store.at(tmp_path / "told"))
    files = json.loads((tmp_path / "told" / "delivery.json").read_text())["files"]
    right = {"00000.tar": 5, "00000.parquet": 6}
    for number, wrong in enumerate(({}, {"00000.tar": 6}, {"00000.parquet": 5})):
        said = {**right, **wrong}
        told = [{**file, "samples": said[file["path"]]} if file["path"] in said else file for file in files]
        if wrong:
            with pytest.raises(Refused, match="rule samples"):
                found(tmp_path / str(number), written, files=told)
        else:
            assert len(found(tmp_path / str(number), written, files=told, counts={"samples": 6})) == 6


@pytest.mark.parametrize(
    ("paths", "rule"),
    [
        ({"00000.parquet": None}, "pair"),
        ({"00000.tar": None}, "pair"),
        ({"00000.parquet": "00001.parquet"}, "pair"),
        ({"00000.parquet": "00000.csv"}, "extension"),
        ({"00000_stats.json": "00000.json"}, "extension"),
    ],
)
def test_a_tar_and_its_table_belong_together(
    tmp_path: Path, written: Parcel, paths: dict[str, str | None], rule: str
) -> None:
    files = {paths.get(path, path): data for path, data in written.files.items()}
    parcel = replace(written, files={path: data for path, data in files.items() if path is not None})
    with pytest.raises(Refused, match=f"rule {rule}"):
        found(tmp_path, parcel)


def test_two_runs_that_count_from_the_same_number_are_refused(tmp_path: Path, written: Parcel) -> None:
    again = {f"second/{path}": data for path, data in written.files.items() if "stats" not in path}
    with pytest.raises(Refused, match="rule duplicate: two runs count from the same number"):
        found(tmp_path, replace(written, files={**written.files, **again}))


def test_the_table_is_hashed_when_the_delivery_is_opened(tmp_path: Path, written: Parcel) -> None:
    store = Store.at(tmp_path)
    written.write(store)
    data = bytearray(written.files["00000.parquet"])
    data[100] ^= 1
    store.write("00000.parquet", bytes(data))
    with pytest.raises(Refused, match="rule sha256"):
        open_delivery(store)
