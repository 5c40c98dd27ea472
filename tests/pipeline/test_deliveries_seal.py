"""`pardalis contract seal`: every file of the folder has its use, is told as left out, or refuses it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from infra.cli import run
from infra.guarded.refused import Refused
from infra.storage import Store
from pipeline import contract
from pipeline.contract import Form
from pipeline.deliveries import forms, seal
from pipeline.deliveries.opened import open_delivery

from . import agencies, downloaded
from .test_deliveries_tables import EVERY, JPEG, Files, delivered, pair

SIDE = b'{"title": "told"}'
PICTURE = {"a.jpg": JPEG, "a.json": SIDE}
DELETION = {"id": "201", "updated_time": "2026-05-04T15:56:44-04:00", "updates": ["deletion"]}
OBJECT = {"id": "301", "media_type": "image", "description": "A man"}


def filled(folder: Path, files: Files) -> Store:
    store = Store.at(folder)
    for name, data in {"licenses.jsonl": license_(), **files}.items():
        store.write(name, data)
    return store


def license_() -> bytes:
    return json.dumps(contract.template()["license"]).encode()


def sealed(store: Store, form: Form = "folder") -> dict[str, str]:
    """Roles by path, of a delivery that opens."""
    at = datetime(2026, 1, 1, tzinfo=UTC)
    told = seal.Statement(provider="acme", sequence=0, kind="full", created_at=at, every_asset=EVERY)
    seal.seal(store, form, told)
    return {file.path: file.role for file in open_delivery(store).delivery.files}


def page(*objects: dict[str, Any]) -> bytes:
    return json.dumps({"data": objects}).encode()


def lines(*objects: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(one).encode() + b"\n" for one in objects)


@pytest.mark.parametrize("stem", ["Caf\u00e9", "Cafe\u0301", "a&b", "50% off! (1)", "日本/写真"])
def test_a_file_may_be_called_what_people_call_theirs(tmp_path: Path, stem: str) -> None:
    files = {f"{stem}.jpg": JPEG, f"{stem}.json": SIDE}
    found = sealed(filled(tmp_path, files))
    assert found == {f"{stem}.jpg": "image", f"{stem}.json": "sidecar", "licenses.jsonl": "licenses"}


def test_what_an_operating_system_left_is_told_and_is_no_part_of_the_delivery(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    left = dict.fromkeys((".DS_Store", "._a.jpg", "Thumbs.db", ".git/x.tar", "sub/desktop.ini"), b"x")
    store = filled(tmp_path / "images", {**PICTURE, **left})
    (tmp_path / "mine.json").write_text(json.dumps(EVERY))
    words = ["contract", "seal", store.uri, "--provider", "acme", "--every-asset", f"{tmp_path}/mine.json"]
    assert run(words) == 0
    told = capsys.readouterr().out
    assert "left out 5 files of the operating system, such as '.DS_Store'" in told
    assert {file.path for file in open_delivery(store).delivery.files} == {"licenses.jsonl", *PICTURE}


@pytest.mark.parametrize("target", ["../private.json", "a.jpg", "../away", "nowhere"])
def test_a_link_is_refused_by_its_name_before_anything_is_read(tmp_path: Path, target: str) -> None:
    (tmp_path / "private.json").write_text("{}")
    (tmp_path / "away").mkdir()
    store = filled(tmp_path / "images", PICTURE)
    (tmp_path / "images" / "b.json").symlink_to(target)
    with pytest.raises(Refused, match=r"b\.json: refused by rule link: it is a symbolic link"):
        sealed(store)
    assert not store.exists("delivery.json")


@pytest.mark.parametrize(
    ("name", "data", "role"),
    [
        ("changes.json", page(DELETION), "feed"),
        ("changes.jsonl", lines(DELETION, DELETION), "feed"),
        ("updated/1.json", page(OBJECT), "manifest"),
        ("updated.json", page(), "manifest"),
    ],
)
def test_a_file_of_changes_is_known_by_what_is_in_it(
    tmp_path: Path, name: str, data: bytes, role: str
) -> None:
    parcel = agencies.shutterstock_api()
    images = {path: image for path, image in parcel.files.items() if path.endswith(".jpg")}
    objects = {path: raw for path, raw in parcel.files.items() if parcel.role(path) == "manifest"}
    extra = {"301.jpg": JPEG} if role == "manifest" and b"301" in data else {}
    found = sealed(filled(tmp_path, {**images, **objects, **extra, name: data}), "shutterstock_api")
    assert found[name] == role
    revoked = [
        target for record in open_delivery(Store.at(tmp_path)).revocations for target in record.targets
    ]
    assert revoked == (["201"] if role == "feed" else [])


def test_a_file_of_changes_and_objects_is_no_feed_and_is_refused(tmp_path: Path) -> None:
    store = filled(tmp_path, {"images.json": page(OBJECT, DELETION), "301.jpg": JPEG})
    with pytest.raises(Refused, match="rule feed"):
        sealed(store, "shutterstock_api")


@pytest.mark.parametrize("name", ["README", "readme.MD", "sub/README.txt", "LICENSE", "LICENCE-CC0-1.0.txt"])
def test_what_is_for_people_is_a_readme(tmp_path: Path, name: str) -> None:
    assert sealed(filled(tmp_path, {**PICTURE, name: b"read"}))[name] == "readme"


def test_a_picture_is_no_readme_whatever_it_is_called(tmp_path: Path) -> None:
    assert sealed(filled(tmp_path, {"license-plate.jpg": JPEG}))["license-plate.jpg"] == "image"


@pytest.mark.parametrize("name", ["PIL.py", "notes.txt", "README.py", "b.jpg", "license-plate.jpg", "c.json"])
def test_no_file_is_passed_over_as_a_readme(tmp_path: Path, name: str) -> None:
    opened = delivered(tmp_path, "folder", pair("a"))
    told = opened.delivery.model_dump(mode="json", by_alias=True)
    told["files"].append({**told["files"][1], "path": name, "role": "readme"})
    opened.store.write(name, JPEG)
    opened.store.write("delivery.json", json.dumps(told).encode())
    with pytest.raises(Refused, match="rule role: a file of role 'readme' is README"):
        open_delivery(opened.store)


def test_statistics_of_img2dataset_are_a_readme_of_that_form_alone(tmp_path: Path) -> None:
    assert forms.is_readme("img2dataset", "00000_stats.json")
    assert not forms.is_readme("folder", "00000_stats.json")
    files = dict(downloaded.img2dataset(tmp_path / "made").files)
    found = sealed(filled(tmp_path / "sealed", files), "img2dataset")
    assert {role for path, role in found.items() if path.endswith("_stats.json")} == {"readme"}


def test_a_revocation_needs_no_licence_and_nothing_else_is_without_one(tmp_path: Path) -> None:
    taken_back = json.dumps(contract.template()["revocation"]).encode()
    for name in ("back", "forth"):
        Store.at(tmp_path / name).write("revocations.jsonl", taken_back)
    said = ["--provider", "acme", "--sequence", "1"]
    assert run(["contract", "seal", str(tmp_path / "back"), *said, "--kind", "revocation"]) == 0
    opened = open_delivery(Store.at(tmp_path / "back"))
    assert [record.revocation_id for record in opened.revocations] == ["acme-r-000017"]
    assert run(["contract", "seal", str(tmp_path / "forth"), *said, "--kind", "delta"]) == 2


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (["--kind", "correction"], "say which number it has with --sequence"),
        (["--license-id", "nobodys"], "every_asset names 'nobodys', which it has no record of"),
        (["--every-asset", "mine.json"], "mine.json"),
    ],
)
def test_what_would_come_to_nothing_is_not_sealed(
    tmp_path: Path, said: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    store = filled(tmp_path, PICTURE)
    assert run(["contract", "seal", store.uri, "--provider", "acme", *said]) == 2
    assert told in capsys.readouterr().err
    assert not store.exists("delivery.json")


def test_a_place_that_is_not_there_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["contract", "seal", str(tmp_path / "nowhere"), "--provider", "acme"]) == 2
    assert "nowhere: refused by rule empty: there is no such folder" in capsys.readouterr().err


def test_a_licence_or_a_revocation_that_ingest_would_refuse_is_not_sealed(tmp_path: Path) -> None:
    foreign = contract.template()["revocation"] | {"provider": "other"}
    other = contract.template()["license"] | {"licensee": "somebody else"}
    twice = license_() + b"\n" + json.dumps(other).encode()
    for number, files in enumerate(
        ({"revocations.jsonl": json.dumps(foreign).encode()}, {"licenses.jsonl": twice})
    ):
        store = filled(tmp_path / str(number), {**PICTURE, **files})
        with pytest.raises(Refused, match=r"rule (provider|ambiguous)"):
            sealed(store)
        assert not store.exists("delivery.json")
