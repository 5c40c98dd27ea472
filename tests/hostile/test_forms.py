"""Hostile deliveries in the other forms: addresses, tables, pages, sidecars, statements of every asset."""

from __future__ import annotations

import io
import json
import os
import pickle
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infra.storage import Store
from pipeline.explaining import catalog_rows
from tests.pipeline import agencies, metadata
from tests.pipeline.agencies import Parcel, encoded

from .made import Door, record

pytestmark = pytest.mark.plan
HOST = "images.example"
CANARY = "canary-of-the-query"
ENTITIES = b'<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]><x>&b;</x>'


def manifest(*rows: Mapping[str, Any], name: str = "assets.csv", **files: bytes) -> Parcel:
    """A table in the contract's columns."""
    pictures = {path.replace("__", "/").replace("_jpg", ".jpg"): data for path, data in files.items()}
    return Parcel(form="manifest", files={**pictures, name: agencies.table(*map(dict, rows))})


def row(asset_id: str = "b", **cells: Any) -> dict[str, Any]:
    """One that would be kept, if its image were there."""
    told = record(asset_id)
    plain = {name: value for name, value in told.items() if isinstance(value, str | int)}
    flat = {name: str(value).lower() if isinstance(value, bool) else value for name, value in plain.items()}
    nested = {"releases.model": "not_applicable", "releases.property": "not_applicable"}
    return {**flat, **nested, "contributor.id": "c", "license_ids": "acme-data-2026", **cells}


def at(uri: str, **cells: Any) -> Parcel:
    return manifest(row(**{"file.uri": uri, "file.sha256": "0" * 64, **cells}))


def parquet(columns: Mapping[str, Any], **options: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(dict(columns)), sink, **options)
    return sink.getvalue()


def changed(make: Any, path: str, data: bytes) -> Parcel:
    parcel: Parcel = make()
    return replace(parcel, files={**parcel.files, path: data})


def dataset(**cells: Any) -> Parcel:
    """Shutterstock's tables with one asset that says something else."""
    tables = {"asset_metadata.csv": agencies.table({**agencies.DATASET_ROW, **cells})}
    return replace(agencies.shutterstock_dataset(), files={"images/101.jpg": encoded(1), **tables})


def getty(**fields: Any) -> Parcel:
    page = json.dumps({"images": [{**agencies.GETTY_OBJECT, **fields}]}).encode()
    return replace(agencies.getty_api(), files={"images/501.jpg": encoded(1), "images.json": page})


def sidecars(**files: bytes) -> Parcel:
    """A picture ``b`` and what lies beside it."""
    beside = {f"b.{extension}": data for extension, data in files.items()}
    roles = dict.fromkeys(beside, "sidecar")
    stated = {**agencies.JUDGED, "description": "stated"}
    return Parcel(form="folder", files={"b.jpg": encoded(1), **beside}, roles=roles, every_asset=stated)


class Trap:
    """Touches a file when it is unpickled."""

    def __reduce__(self) -> Any:
        return os.system, ("touch pwned",)


def pickled_extension() -> bytes:
    """The column type that older readers of tensors unpickle."""
    facts = {
        "ARROW:extension:name": "ray.data.arrow_tensor",
        "ARROW:extension:metadata": pickle.dumps(Trap()),
    }
    schema = pa.schema([pa.field("path", pa.string()), pa.field("asset_id", pa.string(), metadata=facts)])
    sink = io.BytesIO()
    pq.write_table(pa.table({"path": ["b.jpg"], "asset_id": ["b"]}, schema=schema), sink)
    return sink.getvalue()


QUARANTINED: dict[str, tuple[Parcel, str, str]] = {
    # Addresses: of no kind, no host and no machine that anybody allowed. Nothing is asked.
    "file": (at("file:///etc/passwd"), "b", "scheme"),
    "http": (at(f"http://{HOST}/b.jpg"), "b", "scheme"),
    "ftp": (at(f"ftp://{HOST}/b.jpg"), "b", "scheme"),
    "gopher": (at(f"gopher://{HOST}/b.jpg"), "b", "scheme"),
    "data": (at("data:image/png;base64,AAAA"), "b", "scheme"),
    "pipe": (at("pipe:touch pwned"), "b", "scheme"),
    "other_host": (at(f"https://evil.example/b.jpg?{CANARY}"), "b", "host"),
    "host_in_the_userinfo": (at(f"https://{HOST}@evil.example/b.jpg"), "b", "userinfo"),
    "backslash": (at(f"https://evil.example\\@{HOST}/b.jpg"), "b", "characters"),
    "loopback": (at("https://127.0.0.1/b.jpg"), "b", "host"),
    "metadata_of_a_cloud": (at("https://169.254.169.254/latest/meta-data/"), "b", "host"),
    "decimal_address": (at("https://2130706433/b.jpg"), "b", "host"),
    "port": (at(f"https://{HOST}:22/b.jpg"), "b", "port"),
    "no_sha256": (at(f"https://{HOST}/b.jpg", **{"file.sha256": ""}), "b", "no_sha256"),
    "half_a_sha256": (at(f"https://{HOST}/b.jpg", **{"file.sha256": "00"}), "b", "no_sha256"),
    "bucket_of_somebody_else": (at("s3://others/b.jpg"), "b", "bucket"),
    "bucket_that_is_none": (at("s3://../b.jpg"), "b", "uri"),
    # Rows.
    "image_outside": (manifest(row(path="../../../etc/passwd")), "b", "no_image"),
    "image_at_the_root": (manifest(row(path="/etc/passwd")), "b", "no_image"),
    "two_places_of_one_image": (
        manifest(row(path="x.jpg", url=f"https://{HOST}/b?{CANARY}"), x_jpg=encoded(1)),
        "b",
        "invalid_record",
    ),
    "an_address_as_path": (at("", path=f"https://{HOST}/b?{CANARY}"), "b", "invalid_record"),
    "a_cell_of_100_000": (
        manifest(row(path="x.jpg", description="x" * 100_000), x_jpg=encoded(1)),
        "b",
        "invalid_record",
    ),
    "a_cell_of_200_000_in_lines": (
        manifest(row(path="x.jpg", description="x\n" * 100_000), x_jpg=encoded(1)),
        "b",
        "invalid_record",
    ),
    "an_asset_twice": (
        manifest(row(path="x.jpg"), row(path="y.jpg"), x_jpg=encoded(1), y_jpg=encoded(2)),
        "b",
        "duplicate",
    ),
    "an_asset_twice_at_addresses": (
        manifest(*[row(**{"file.uri": f"https://evil.example/{n}?{CANARY}"}) for n in "ab"]),
        "assets.csv row 2",
        "duplicate",
    ),
    "id_with_a_slash": (
        manifest(row(asset_id="../b", path="x.jpg"), x_jpg=encoded(1)),
        "assets.csv row 1",
        "invalid_record",
    ),
    "id_of_bidi": (
        manifest(row(asset_id="b\u202eg", path="x.jpg"), x_jpg=encoded(1)),
        "assets.csv row 1",
        "invalid_record",
    ),
    "half_a_jpeg": (
        manifest(row(path="x.jpg"), x_jpg=encoded(1)[:300]),
        "b",
        "undecodable",
    ),
    "a_script_as_jpeg": (
        manifest(row(path="x.jpg"), x_jpg=b"#!/bin/sh\ntouch pwned\n"),
        "b",
        "mime_mismatch",
    ),
    "a_flag_that_says_neither": (dataset(mature_flag="maybe"), "101", "invalid_record"),
    "restrictions_in_words": (
        getty(allowed_use={"usage_restrictions": ["No commercial use."]}),
        "501",
        "usage_restrictions",
    ),
    "a_page_in_a_page": (getty(title={"deep": {"er": [1]}}), "501", "invalid_record"),
    # Sidecars.
    "entities_beside": (sidecars(xmp=ENTITIES), "b", "embedded_constraint"),
    "a_prohibition_beside": (sidecars(xmp=metadata.xmp()), "b", "embedded_prohibition"),
    "no_xmp_beside": (sidecars(xmp=b"\0" * 100), "b", "embedded_constraint"),
    "two_meanings_beside": (sidecars(json=b'{"is_adult": true, "is_adult": false}'), "b", "invalid_json"),
    "deep_beside": (sidecars(json=b'{"extra":' * 5_000), "b", "invalid_json"),
    "a_list_beside": (sidecars(json=b"[]"), "b", "invalid_record"),
    "a_lie_beside": (sidecars(json=b'{"file": {"sha256": "%s"}}' % (b"0" * 64)), "b", "sha256_mismatch"),
}


@pytest.mark.parametrize("name", QUARANTINED)
def test_a_hostile_row_or_sidecar_ends_alone_and_with_its_reason(name: str, door: Door) -> None:
    parcel, key, reason = QUARANTINED[name]
    parcel.write(Store.at(door.root / "delivery"), allowed_hosts=[HOST], allowed_buckets=["mine"])
    allowed = f'pipeline.fetch = {{hosts = ["{HOST}", "127.0.0.1"], buckets = ["mine"]}}'
    code, told = door.ingest(door.root / "delivery", options=["--set", allowed])
    assert code == 0, told
    (row,) = catalog_rows(door.corpus, door.corpus.newest(), f"acme:{key}")
    outcome = "failed" if reason == "undecodable" else "quarantined"
    assert (row["outcome"], row["reasons"][0].partition(":")[0]) == (outcome, reason), row["reasons"]
    assert CANARY not in str(row["reasons"]) + told
    assert not list(door.root.rglob("pwned"))


REFUSED: dict[str, tuple[Parcel, list[str]]] = {
    "a_nul_in_a_table": (
        Parcel(form="manifest", files={"assets.csv": b"asset_id,path\nb,\0\n"}),
        ["rule nul", "assets.csv"],
    ),
    "a_table_of_one_quote": (Parcel(form="manifest", files={"assets.csv": b'a,b\n"'}), ["rule syntax"]),
    "a_column_twice": (Parcel(form="manifest", files={"assets.csv": b"a,a\n1,2\n"}), ["rule header"]),
    "an_image_that_nobody_names": (manifest(row(path="y.jpg"), x_jpg=encoded(1)), ["rule unused", "x.jpg"]),
    "an_extension_type": (
        Parcel(form="manifest", files={"b.jpg": encoded(1), "assets.parquet": pickled_extension()}),
        ["rule extension", "write plain types"],
    ),
    "a_dictionary_bomb": (
        Parcel(
            form="manifest",
            files={"assets.parquet": parquet({"description": ["y" * 60_000] * 20_000}, compression="snappy")},
        ),
        ["assets.parquet", "rule cells"],
    ),
    "zstandard_that_claims_anything": (
        Parcel(form="manifest", files={"assets.parquet": parquet({"a": ["b"]}, compression="zstd")}),
        ["rule codec", "snappy"],
    ),
    "nested_columns": (
        Parcel(form="manifest", files={"assets.parquet": parquet({"a": [{"b": 1}]}, compression="snappy")}),
        ["rule type"],
    ),
    "a_page_of_no_objects": (
        changed(agencies.getty_api, "images.json", b'{"images": [1, 2]}'),
        ["rule page", "every entry is an object"],
    ),
    "a_page_nested_30_000_deep": (
        changed(agencies.getty_api, "images.json", b"[" * 30_000 + b"]" * 30_000),
        ["rule depth"],
    ),
    "a_page_with_two_meanings": (
        changed(agencies.getty_api, "images.json", b'{"images": [], "images": [{}]}'),
        ["rule duplicate_key"],
    ),
    "a_feed_of_no_time": (
        changed(
            agencies.shutterstock_api,
            "updated/0001.json",
            b'{"data": [{"id": "7", "updated_time": "soon", "updates": ["deletion"]}]}',
        ),
        ["updated/0001.json", "rule feed"],
    ),
    "a_feed_of_an_edit_without_its_object": (
        changed(
            agencies.shutterstock_api,
            "updated/0001.json",
            b'{"data": [{"id": "7", "updated_time": "2019-06-04T15:56:44-04:00", "updates": ["edit"]}]}',
        ),
        ["updated/0001.json", "rule feed"],
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_table_or_a_page_that_lies_is_refused_whole(name: str, door: Door) -> None:
    parcel, said = REFUSED[name]
    parcel.write(Store.at(door.root / "delivery"))
    code, told = door.ingest(door.root / "delivery")
    assert code == 2, told
    assert not [one for one in said if one not in told], told
    assert not door.corpus.numbers()
    assert not list(door.root.rglob("pwned"))


STATED: dict[str, tuple[dict[str, Any], str]] = {
    "an_id": ({"asset_id": "1"}, "is each asset's own"),
    "another_provider": ({"provider": "rival"}, "is each asset's own"),
    "a_file": ({"file": {"sha256": "0" * 64}}, "is each asset's own"),
    "a_program": ({"\x1b[2J": "x"}, "is no field of an asset"),
    "a_word_for_a_flag": ({"is_adult": "no"}, "is_adult"),
    "a_release_of_no_kind": ({"releases": {"model": "granted"}}, "releases.model"),
    "a_credential": ({"credit_line": f"https://user:{CANARY}@host.example/"}, "credential"),
}


@pytest.mark.parametrize("name", STATED)
def test_a_statement_that_no_asset_could_have_refuses_the_delivery(name: str, door: Door) -> None:
    statement, said = STATED[name]
    parcel = replace(agencies.folder(), every_asset={**agencies.JUDGED, "description": "x", **statement})
    parcel.write(Store.at(door.root / "delivery"))
    code, told = door.ingest(door.root / "delivery")
    assert code == 2, told
    assert "delivery.json" in told
    assert said in told
    assert CANARY not in told


def test_a_formula_in_a_table_stays_a_text(door: Door) -> None:
    parcel = manifest(row(path="x.jpg", description='=HYPERLINK("http://x")'), x_jpg=encoded(1))
    parcel.write(Store.at(door.root / "delivery"))
    assert door.ingest(door.root / "delivery")[0] == 0
    (found,) = catalog_rows(door.corpus, door.corpus.newest(), "acme:b")
    assert found["description"].startswith("=HYPERLINK(")


def test_a_link_in_a_folder_is_no_way_out_of_it(door: Door) -> None:
    """Nobody follows it: what a delivery lists lies in it."""
    agencies.folder().write(Store.at(door.root / "delivery"))
    target = door.root / "delivery" / "images" / "a.jpg"
    target.unlink()
    target.symlink_to("/etc/passwd")
    code, told = door.ingest(door.root / "delivery")
    assert code == 2
    assert "rule missing" in told
