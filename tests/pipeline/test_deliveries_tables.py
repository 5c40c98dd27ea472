"""The folder and the table form: a wrong sample is a fault, alone; a listing that lies is refused."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from infra.guarded.refused import Refused
from infra.storage import Store
from pipeline import contract
from pipeline.contract import Asset
from pipeline.deliveries import columns, forms, table
from pipeline.deliveries.batch import ASSETS
from pipeline.deliveries.opened import OpenDelivery, open_delivery
from pipeline.deliveries.sample import Fault
from pipeline.naming import derived_id


def encoded(color: int = 0) -> bytes:
    sink = io.BytesIO()
    Image.new("RGB", (4, 3), (color, 0, 7)).save(sink, "JPEG")
    return sink.getvalue()


JPEG = encoded()
ROLES = {
    **dict.fromkeys(("jpg", "png"), "image"),
    **dict.fromkeys(("json", "xmp"), "sidecar"),
    **dict.fromkeys(("csv", "parquet"), "manifest"),
}
Files = dict[str, bytes]


def record(asset_id: str, **changes: Any) -> dict[str, Any]:
    file = {"sha256": hashlib.sha256(JPEG).hexdigest(), "bytes": len(JPEG), "mime": "image/jpeg"}
    sized = {**file, "width": 4, "height": 3}
    return {**contract.template()["asset"], "asset_id": asset_id, "file": sized, **changes}


def sidecar(asset_id: str, **changes: Any) -> bytes:
    return json.dumps(record(asset_id, **changes)).encode()


def pair(asset_id: str, **changes: Any) -> Files:
    return {f"images/{asset_id}.jpg": JPEG, f"images/{asset_id}.json": sidecar(asset_id, **changes)}


def row(asset_id: str, *, path: str | None = None, **changes: Any) -> dict[str, Any]:
    return {
        "path": f"images/{asset_id}.jpg" if path is None else path,
        **table.cells(record(asset_id)),
        **changes,
    }


def tabled(*rows: dict[str, Any]) -> bytes:
    sink = io.StringIO(newline="")
    writer = csv.DictWriter(sink, list(dict.fromkeys(name for row in rows for name in row)))
    writer.writeheader()
    writer.writerows(rows)
    return sink.getvalue().replace("True", "true").replace("False", "false").encode()


def delivered(folder: Path, form: str, files: Files, **changes: Any) -> OpenDelivery:
    """A delivery made by somebody else, its files listed truly."""
    store = Store.at(folder)
    everything = {"licenses.jsonl": json.dumps(contract.template()["license"]).encode(), **files}
    listed = []
    for path, data in everything.items():
        store.write(path, data)
        entry = {"path": path, "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
        role = ROLES.get(path.rpartition(".")[2].lower(), "licenses")
        counted = {"samples": data.count(b"\n") - 1} if role == "manifest" else {}
        listed.append({**entry, "role": role, **counted})
    told = {**contract.template()["delivery"], "form": form, "counts": {}, "files": listed, **changes}
    store.write("delivery.json", json.dumps(told).encode())
    return open_delivery(store)


def codes(opened: OpenDelivery) -> dict[str, str]:
    form = forms.of(opened.delivery)
    samples = [sample for batch in opened.batches for sample in form.read(opened, batch)]
    found = {s.key: s.asset.code if isinstance(s.asset, Fault) else "" for s in samples}
    assert len(found) == len(samples)
    return found


EVERY: dict[str, Any] = {
    "description": "stated",
    "image_type": "photo",
    "is_editorial": False,
    "is_adult": False,
    "ai_generated": "no",
    "has_people": "no",
    "releases": {"model": "not_applicable", "property": "not_applicable"},
    "contributor": {"id": "c"},
    "license_ids": ["acme-data-2026"],
}
SIDECARS: dict[str, Files] = {
    "no_record": {"images/b.jpg": JPEG},
    "no_image": {"images/b.json": sidecar("b")},
    "several_images": {**pair("b"), "images/b.png": JPEG},
    "invalid_json": {"images/b.jpg": JPEG, "images/b.json": b"{"},
    "invalid_record": pair("b", is_adult="no"),
    "no_license": pair("b", license_ids=[]),
    "key_mismatch": {"images/b.jpg": JPEG, "images/b.json": sidecar("c")},
    "provider_mismatch": pair("b", provider="other"),
    "sha256_mismatch": {**pair("b"), "images/b.jpg": JPEG[:-1] + b"\0"},
}


@pytest.mark.parametrize("code", SIDECARS)
def test_a_wrong_pair_in_a_folder_is_a_fault_and_its_neighbors_are_assets(tmp_path: Path, code: str) -> None:
    opened = delivered(tmp_path, "folder", {**pair("a"), **SIDECARS[code], **pair("c")})
    assert codes(opened) == {"a": "", "b": code, "c": ""}


@pytest.mark.parametrize("name", ["a.xmp", "a.jpg.xmp", "a.JPG.XMP"])
def test_xmp_beside_an_image_is_its_own_however_it_is_named(tmp_path: Path, name: str) -> None:
    opened = delivered(tmp_path, "folder", {**pair("a"), f"images/{name}": b"<x/>"})
    [found] = forms.of(opened.delivery).read(opened, next(opened.batches))
    assert found.packets == (b"<x/>",)


def test_folders_inside_a_folder_mean_nothing(tmp_path: Path) -> None:
    files = {path.replace("images", "deep/er"): data for path, data in pair("b").items()}
    assert codes(delivered(tmp_path, "folder", {**pair("a"), **files})) == {"a": "", "b": ""}


@pytest.mark.parametrize(
    ("files", "rule"),
    [
        ({**pair("a"), "other/a.jpg": JPEG}, "duplicate"),
        ({**pair("a"), "images/a.JPG": JPEG}, "duplicate"),
        ({**pair("a"), "images/a.JSON": b"{}"}, "duplicate"),
        ({"images/a.csv": b"a\n"}, "role"),
    ],
)
def test_a_folder_that_cannot_be_told_apart_is_refused(tmp_path: Path, files: Files, rule: str) -> None:
    with pytest.raises(Refused, match=f"rule {rule}"):
        delivered(tmp_path, "folder", files)


IMAGES: Files = {f"images/{name}.jpg": JPEG for name in "abc"}
ROWS: dict[str, dict[str, Any]] = {
    "no_image": row("b", path="images/x.jpg"),
    "invalid_record": row("b", is_adult="no"),
    "no_license": row("b", license_ids=""),
    "provider_mismatch": row("b", provider="other"),
    "size_mismatch": row("b", **{"file.bytes": "7"}),
    "sha256_mismatch": row("b", **{"file.sha256": "0" * 64}),
    "mime_mismatch": row("b", **{"file.mime": "image/png"}),
}
LONG = "x" * (64 * 1024)
ALONE: dict[str, dict[str, Any]] = {
    "delivered_and_at_an_address": row("b", url="s3://xxx/b.jpg"),
    "an_address_as_path": row("b", path="https://example.org/b.jpg"),
    "a_cell_too_long": row("b", title=f"{LONG}x"),
    "a_cell_too_long_for_python": row("b", title=LONG * 3),
}


@pytest.mark.parametrize("code", ROWS)
def test_a_wrong_row_is_a_fault_and_its_neighbors_are_assets(tmp_path: Path, code: str) -> None:
    images = {name: data for name, data in IMAGES.items() if code != "no_image" or name != "images/b.jpg"}
    data = tabled(row("a"), ROWS[code], row("c"))
    assert codes(delivered(tmp_path, "manifest", {**images, "assets.csv": data})) == {
        "a": "",
        "b": code,
        "c": "",
    }


@pytest.mark.parametrize("case", ALONE)
def test_a_row_that_was_never_one_sample_is_a_fault_of_its_own(tmp_path: Path, case: str) -> None:
    images = {path: data for path, data in IMAGES.items() if "address_as" not in case or "b.jpg" not in path}
    opened = delivered(
        tmp_path, "manifest", {**images, "assets.csv": tabled(row("a"), ALONE[case], row("c"))}
    )
    assert codes(opened) == {"a": "", "b": "invalid_record", "c": ""}
    [batch] = opened.batches
    assert (batch.addresses, b"xxx" in batch.rows) == (0, False)


def test_the_longest_cell_is_read(tmp_path: Path) -> None:
    opened = delivered(
        tmp_path, "manifest", {"images/a.jpg": JPEG, "assets.csv": tabled(row("a", title=LONG))}
    )
    [found] = forms.of(opened.delivery).read(opened, next(opened.batches))
    assert isinstance(found.asset, Fault)
    assert "title: " in found.asset.message  # the contract's own 200 characters


def test_rows_of_one_asset_are_faults_all_and_each_has_a_name_of_its_own(tmp_path: Path) -> None:
    files = {
        **IMAGES,
        "images/z.jpg": JPEG,
        "a.csv": tabled(row("b"), row("a"), row("b", path="images/z.jpg")),
    }
    opened = delivered(tmp_path, "manifest", {**files, "b.csv": tabled(row("c"), row("b"))})
    assert codes(opened) == {
        "b": "duplicate",
        "a": "",
        "a.csv row 3": "duplicate",
        "c": "",
        "b.csv row 2": "duplicate",
    }


def test_an_asset_that_comes_again_in_a_later_batch_is_a_fault_in_the_first(tmp_path: Path) -> None:
    rows = [row(f"a{number}", path="images/a.jpg") for number in range(ASSETS)]
    data = tabled(*rows, row("a0", path="images/a.jpg"))
    found = codes(delivered(tmp_path, "manifest", {"images/a.jpg": JPEG, "assets.csv": data}))
    assert (found["a0"], found[f"assets.csv row {ASSETS + 1}"]) == ("duplicate", "duplicate")
    assert sum(map(bool, found.values())) == 2


def test_of_a_row_that_is_a_fault_no_address_is_kept(tmp_path: Path) -> None:
    signed = {"path": "", "url": "https://example.org/a.jpg?signature=canary"}
    opened = delivered(tmp_path, "manifest", {"assets.csv": tabled(row("a", **signed), row("a", **signed))})
    [batch] = opened.batches
    assert (batch.addresses, dict(batch.signed), b"canary" in batch.rows) == (0, {}, False)


@pytest.mark.parametrize("column", ["file.sha256", "sha256"])
def test_a_hash_may_be_written_in_capitals(tmp_path: Path, column: str) -> None:
    told = {**row("a"), "file.sha256": ""} | {column: hashlib.sha256(JPEG).hexdigest().upper()}
    opened = delivered(tmp_path, "manifest", {"images/a.jpg": JPEG, "assets.csv": tabled(told)})
    assert codes(opened) == {"a": ""}


def test_a_name_that_is_no_id_gets_one_and_is_kept(tmp_path: Path) -> None:
    opened = delivered(tmp_path, "folder", {"images/a b.jpg": JPEG}, every_asset=EVERY)
    [key] = codes(opened)
    [found] = forms.of(opened.delivery).read(opened, next(opened.batches))
    assert isinstance(found.asset, Asset)
    assert (key, found.asset.extra) == (derived_id("a b"), {"provider_id": "a b"})


def test_what_is_stated_of_every_asset_fills_and_never_overrides(tmp_path: Path) -> None:
    files = {"images/a.jpg": JPEG, **pair("b", is_adult=True), **pair("c")}
    opened = delivered(tmp_path, "folder", files, every_asset=EVERY)
    [a, b, c] = [sample.asset for sample in forms.of(opened.delivery).read(opened, next(opened.batches))]
    assert isinstance(a, Asset)
    assert isinstance(b, Asset)
    assert isinstance(c, Asset)
    assert (a.is_adult, b.is_adult, c.is_adult) == (False, True, False)
    assert (a.description, c.description) == ("stated", record("c")["description"])
    assert (a.file.width, a.file.height, a.asset_revision, a.status) == (4, 3, 0, "active")


@pytest.mark.parametrize("missing", ["license_ids", "is_adult", "is_editorial", "has_people", "releases"])
def test_nothing_that_decides_a_use_is_guessed(tmp_path: Path, missing: str) -> None:
    said = {name: value for name, value in EVERY.items() if name != missing}
    opened = delivered(tmp_path, "folder", {"images/a.jpg": JPEG}, every_asset=said)
    [found] = forms.of(opened.delivery).read(opened, next(opened.batches))
    assert isinstance(found.asset, Fault)
    assert missing in found.asset.message


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ({"asset_id": "x"}, "'asset_id' is each asset's own"),
        ({"is_adult": "no"}, "is_adult: .*got 'no'"),
        ({"anything": 1}, "'anything' is no field of an asset; leave it out"),
        ({"has_peple": "no"}, "'has_peple' is no field of an asset; write has_people"),
        ({"releases": {"model": "any"}}, "releases.model"),
    ],
)
def test_a_statement_that_no_asset_could_have_refuses_the_delivery(
    tmp_path: Path, statement: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        delivered(tmp_path, "folder", pair("a"), every_asset=statement)


def test_a_row_without_an_id_goes_by_its_place_and_says_so(tmp_path: Path) -> None:
    data = tabled(row("a"), {**row("b"), "asset_id": ""}, {**row("c"), "asset_id": "../c"})
    opened = delivered(tmp_path, "manifest", {**IMAGES, "assets.csv": data})
    assert codes(opened) == {
        "a": "",
        "assets.csv row 2": "invalid_record",
        "assets.csv row 3": "invalid_record",
    }


@pytest.mark.parametrize("name", ["file", "file.0", "releases", "releases.0", "extra", "contributor.0"])
def test_a_column_called_as_an_object_is_a_fault_of_the_rows_that_fill_it(tmp_path: Path, name: str) -> None:
    bare = {column: "" for column in row("b") if column.startswith(f"{name.partition('.')[0]}.")}
    data = tabled(row("a"), row("b", **bare, **{name: "x"}), row("c"))
    found = codes(delivered(tmp_path, "manifest", {**IMAGES, "assets.csv": data}))
    assert found == {"a": "", "b": "invalid_record", "c": ""}


def test_two_columns_for_one_field_are_a_fault(tmp_path: Path) -> None:
    data = tabled(row("a", **{"keywords.0": "x"}), row("b", contributor="me"), row("c"))
    found = codes(delivered(tmp_path, "manifest", {**IMAGES, "assets.csv": data}))
    assert found == {"a": "invalid_record", "b": "invalid_record", "c": ""}


@pytest.mark.parametrize(
    ("data", "rule"),
    [
        (tabled(row("a"), row("b")), "unused"),
        (tabled(row("a"), row("b"), row("c")) + b"d,e\n", "width"),
    ],
)
def test_a_table_that_lies_is_refused_whole(tmp_path: Path, data: bytes, rule: str) -> None:
    with pytest.raises(Refused, match=f"rule {rule}"):
        delivered(tmp_path, "manifest", {**IMAGES, "assets.csv": data})


def test_a_table_has_as_many_rows_as_it_is_said_to_have(tmp_path: Path) -> None:
    opened = delivered(tmp_path, "manifest", {**IMAGES, "assets.csv": tabled(row("a"), row("b"), row("c"))})
    told = opened.delivery.model_dump(mode="json", by_alias=True)
    told["files"][-1] = {**told["files"][-1], "samples": 2}
    opened.store.write("delivery.json", json.dumps(told).encode())
    with pytest.raises(ValueError, match=r"it holds 3, delivery\.json says 2"):
        open_delivery(opened.store)
    del told["files"][-1]["samples"]
    opened.store.write("delivery.json", json.dumps(told).encode())
    assert sum(batch.samples or 0 for batch in open_delivery(opened.store).batches) == 3


WORD = st.text(
    st.characters(codec="utf-8", categories=["L", "N"], include_characters=" ;.|"), min_size=1, max_size=9
)


@settings(max_examples=50)
@given(
    st.fixed_dictionaries(
        {"description": WORD, "is_adult": st.booleans(), "asset_revision": st.integers(0, 2**31 - 1)},
        optional={
            "keywords": st.lists(WORD, min_size=1, max_size=4),
            "title": WORD,
            "categories": st.lists(st.fixed_dictionaries({"name": WORD}), min_size=1, max_size=3),
            "moderation_labels": st.just([{"name": "n", "score": 0.125}, {"name": "m"}]),
            "extra": st.dictionaries(st.sampled_from(["a", "0", "b.c", "d.0"]), WORD, min_size=1),
        },
    )
)
def test_cells_hold_the_whole_record(changes: dict[str, Any]) -> None:
    asset = Asset.model_validate(record("a", **changes))
    cells = table.cells(asset.model_dump(mode="json", by_alias=True))
    assert Asset.model_validate(table.document(cells)) == asset
    texts = {name: str(cell).lower() if isinstance(cell, bool) else str(cell) for name, cell in cells.items()}
    assert Asset.model_validate(table.document(texts)) == asset


def leaves(schema: dict[str, Any], node: dict[str, Any], name: str = "") -> dict[str, str]:
    """Every field of a record in the JSON Schema, by column, with its type."""
    node = schema["$defs"][node["$ref"].rpartition("/")[2]] if "$ref" in node else node
    if node.get("type") == "object" and "properties" in node:
        parts = [
            leaves(schema, inner, f"{name}.{key}".lstrip(".")) for key, inner in node["properties"].items()
        ]
        return {column: kind for part in parts for column, kind in part.items()}
    if node.get("type") == "array":
        inside = leaves(schema, node["items"], f"{name}.0")
        return {name: "words"} if inside.get(f"{name}.0") == "string" else inside
    return {name: node.get("type", "string")}


def test_every_field_of_the_contract_is_read_from_text_by_its_type() -> None:
    schema = contract.json_schema()
    kinds = leaves(schema, {"$ref": "#/$defs/asset"})
    by_kind = {kind: {name for name, its in kinds.items() if its == kind} for kind in set(kinds.values())}
    assert by_kind.pop("string") | by_kind.pop("object") >= {"asset_id", "extra"}
    assert by_kind == {
        "boolean": table.BOOLEANS,
        "integer": table.INTEGERS,
        "number": table.NUMBERS,
        "words": table.LISTS,
    }


def test_the_tables_of_a_delivery_share_what_they_may_say() -> None:
    rows, budget = [("row 1", {"a": "x" * 471})] * 2, columns.Budget(most=4 * 1000)
    assert list(columns.bounded(rows, "a.csv", budget)) == rows
    with pytest.raises(Refused, match=r"b\.csv: row 3: refused by rule cells"):
        list(columns.bounded([*rows, ("row 3", {})], "b.csv", budget))


def test_a_row_may_say_a_mebibyte_and_no_more() -> None:
    least = columns.weight({"a": ""})
    (row,) = columns.bounded([("row 1", {"a": "x" * (columns.MAX_ROW - least)})], "t", columns.Budget())
    assert columns.weight(row[1]) == columns.MAX_ROW
    with pytest.raises(Refused, match="rule cells"):
        list(columns.bounded([("row 1", {"a": ["x" * columns.MAX_ROW]})], "t", columns.Budget()))
