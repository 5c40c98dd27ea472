"""Names of delivered files: which of them are one name, and what is found under one that differs a little."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from infra.guarded.refused import Refused
from infra.storage import Store
from pipeline.contract import Asset
from pipeline.deliveries import forms, kept
from pipeline.deliveries.opened import open_delivery
from pipeline.naming import derived_id

from .test_deliveries_tables import EVERY, JPEG, Files, codes, delivered, pair, row, sidecar, tabled

NFC, NFD = (unicodedata.normalize(form, "Café") for form in ("NFC", "NFD"))


def test_no_two_names_in_a_folder_have_one_asset_id(tmp_path: Path) -> None:
    taken = derived_id("IMG 1.x")
    files = {"IMG 1.x.jpg": JPEG, f"{taken}.jpg": JPEG}
    with pytest.raises(Refused, match=f"rule duplicate.*{taken}.*have one asset id.*rename one"):
        delivered(tmp_path, "folder", files, every_asset=EVERY)


def test_names_of_many_batches_are_compared(tmp_path: Path) -> None:
    taken = derived_id("~ last")
    files = {f"{name}.jpg": JPEG for name in (*map(str, range(600)), "~ last", taken)}
    with pytest.raises(Refused, match="rule duplicate"):
        delivered(tmp_path, "folder", files, every_asset=EVERY)


@pytest.mark.parametrize(
    "files",
    [
        {"images/A.JPG": JPEG, "images/a.json": b"{}"},
        {"images/a.jpg": JPEG, "images/A.xmp": b"<x/>"},
        {"images/A.JPG": JPEG, "images/A.xmp": b"<x/>", "images/a.json": b"{}"},
        {"images/a.jpg": JPEG, "images/A.jpg.json": b"{}"},
        {"images/É.jpg": JPEG, "elsewhere/é.json": b"{}"},
        {**pair("a"), "images/A.json": sidecar("A")},
    ],
)
def test_a_sidecar_in_another_case_than_its_image_is_refused_and_not_passed_over(
    tmp_path: Path, files: Files
) -> None:
    with pytest.raises(Refused, match=r"rule case: images/.*in another case.*name it as its image is"):
        delivered(tmp_path, "folder", files, every_asset=EVERY)


def test_two_images_whose_names_differ_in_case_are_two_assets(tmp_path: Path) -> None:
    assert codes(delivered(tmp_path, "folder", {**pair("a"), **pair("A")})) == {"A": "", "a": ""}


def test_a_record_alone_in_a_folder_stays_a_fault(tmp_path: Path) -> None:
    files = {**pair("a"), "images/b.json": sidecar("b")}
    assert codes(delivered(tmp_path, "folder", files)) == {"a": "", "b": "no_image"}


def test_a_name_too_long_for_an_id_gets_one(tmp_path: Path) -> None:
    name = "a" * 129
    found = codes(delivered(tmp_path, "folder", {f"{name}.jpg": JPEG}, every_asset=EVERY))
    assert found == {derived_id(name): ""}


@pytest.mark.parametrize(
    ("lies", "told"),
    [
        ("images/A.JPG", "images/a.jpg"),
        ("images/A.JPG", "a.jpg"),
        ("images/a.jpg", "A"),
        ("images/É.jpg", "é.jpg"),
        (f"{NFD}.jpg", f"{NFC}.jpg"),
        (f"{NFD}.JPG", f"{NFC}.jpg"),
    ],
)
def test_a_row_finds_its_image_whatever_the_case_of_its_name(tmp_path: Path, lies: str, told: str) -> None:
    files = {lies: JPEG, "assets.csv": tabled(row("a", path=told))}
    assert codes(delivered(tmp_path, "manifest", files)) == {"a": ""}


def test_the_exact_name_of_an_image_goes_before_a_likeness(tmp_path: Path) -> None:
    images = {"a.jpg": JPEG, "A.jpg": JPEG + b"A", "sub/a.jpg": JPEG + b"s"}
    rows = [row(str(i), path=path, **{"file.sha256": "", "file.bytes": ""}) for i, path in enumerate(images)]
    opened = delivered(tmp_path, "manifest", {**images, "assets.csv": tabled(*rows)})
    found = [sample.image for sample in forms.of(opened.delivery).read(opened, next(opened.batches))]
    assert found == list(images.values())


def test_a_name_that_may_be_two_images_is_the_fault_of_its_row_alone(tmp_path: Path) -> None:
    images = {"x/a.JPG": JPEG, "x/A.JPG": JPEG, "b.jpg": JPEG}
    files = {**images, "assets.csv": tabled(row("a", path="a.jpg"), row("b", path="b.jpg"))}
    assert codes(delivered(tmp_path, "manifest", files)) == {"a": "ambiguous_image", "b": ""}


@pytest.mark.parametrize(
    ("lies", "first", "second", "becomes"),
    [
        ("AbC.jpg", "AbC.jpg", "aBc.jpg", ("", "no_image")),
        ("sub/1.jpg", "sub/1.jpg", "1.jpg", ("", "no_image")),
        ("1.jpg", "1.jpg", "1", ("", "no_image")),
        ("sub/1.jpg", "1.jpg", "1", ("ambiguous_image", "ambiguous_image")),
        ("sub/AbC.jpg", "aBc", "AbC", ("ambiguous_image", "ambiguous_image")),
        ("sub/1.jpg", "sub/1.jpg", "sub/1.jpg", ("", "")),
    ],
)
@pytest.mark.parametrize("turned", [False, True])
def test_no_row_gets_an_image_that_may_be_another_rows(
    tmp_path: Path, lies: str, first: str, second: str, becomes: tuple[str, str], *, turned: bool
) -> None:
    rows = [row("a", path=first), row("b", path=second)]
    files = {lies: JPEG, "assets.csv": tabled(*(reversed(rows) if turned else rows))}
    assert codes(delivered(tmp_path, "manifest", files)) == dict(zip("ab", becomes, strict=True))


def test_an_image_that_only_an_unreadable_row_may_name_refuses_nothing(tmp_path: Path) -> None:
    files = {
        "a.jpg": JPEG,
        "b.jpg": JPEG,
        "assets.csv": tabled(row("a", path="a" * 70_000), row("b", path="b.jpg")),
    }
    assert codes(delivered(tmp_path, "manifest", files)) == {"a": "invalid_record", "b": ""}


def test_a_file_is_found_under_the_spelling_that_its_system_gave_it(tmp_path: Path) -> None:
    """Apple's parts an accent from its letter, and ``delivery.json`` is read with the two as one."""
    files = {f"{NFD}.jpg": JPEG, f"{NFC}.json": b'{"title": "told"}'}
    opened = delivered(tmp_path / "delivery", "folder", files, every_asset=EVERY)
    corpus = Store.at(tmp_path / "corpus")
    sha256 = kept.write(corpus, opened, ("delivery.json",))
    [batch] = kept.batches(corpus, opened.manifest_sha256, sha256)
    assert {file.path for file in batch.files} == set(files)
    [found] = forms.of(opened.delivery).read(opened, next(opened.batches))
    assert isinstance(found.asset, Asset)
    assert (found.key, found.asset.title, found.image) == (derived_id(NFC), "told", JPEG)


def test_one_name_in_two_spellings_is_refused(tmp_path: Path) -> None:
    opened = delivered(tmp_path, "folder", {f"{NFC}.jpg": JPEG}, every_asset=EVERY)
    opened.store.write(f"{NFD}.jpg", JPEG)
    with pytest.raises(Refused, match=r"rule ambiguous.*one name"):
        open_delivery(opened.store)
