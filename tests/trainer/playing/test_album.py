from __future__ import annotations

from pathlib import Path

import pytest

from infra.serving.refusal import Refusal
from trainer.playing.album import KEPT, Album

ANA, BEN = b"ana", b"ben"


def test_a_picture_is_its_callers_alone_and_is_named_by_its_content(tmp_path: Path) -> None:
    album = Album(folder=tmp_path)
    name = album.bring(ANA, "input", b"picture")
    assert name == album.bring(ANA, "input", b"picture")
    assert album.path(ANA, name).read_bytes() == b"picture"
    with pytest.raises(Refusal) as refused:
        album.path(BEN, name)
    assert refused.value.status == 404


def test_a_picture_that_was_taken_is_known_by_its_asset_and_the_same_one_brought_is_not(
    tmp_path: Path,
) -> None:
    album = Album(folder=tmp_path)
    mine, taken = album.bring(ANA, "input", b"picture"), album.take(ANA, "acme:1", b"picture")
    assert album.uids == {album.path(ANA, taken): frozenset({"acme:1"})}
    assert album.path(ANA, mine) not in album.uids
    for number in range(KEPT):
        album.bring(ANA, "input", str(number).encode())
    assert not album.uids


def test_what_was_made_of_assets_is_known_by_all_of_them(tmp_path: Path) -> None:
    album = Album(folder=tmp_path)
    one, other = album.take(ANA, "acme:1", b"one"), album.take(ANA, "acme:2", b"other")
    album.keep(ANA, "infill.png", b"both", uids=album.of([album.path(ANA, one), album.path(ANA, other)]))
    album.keep(ANA, "edit.png", b"again", uids=album.of([album.path(ANA, "infill.png")]))
    assert album.of([album.path(ANA, "edit.png")]) == {"acme:1", "acme:2"}
    album.keep(ANA, "edit.png", b"of none")
    assert album.of([album.path(ANA, "edit.png")]) == frozenset()


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "", ".", "616e61/secret", "secret"])
def test_no_name_leads_to_another_file(tmp_path: Path, name: str) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    album = Album(folder=tmp_path / "album")
    album.folder.mkdir()
    album.bring(ANA, "input", b"picture")
    (album.folder / ANA.hex() / "secret").write_bytes(b"secret")
    with pytest.raises(Refusal):
        album.path(ANA, name)


def test_a_picture_that_is_kept_again_never_stands_there_half_written(tmp_path: Path) -> None:
    album = Album(folder=tmp_path)
    album.keep(ANA, "draw.png", b"before")
    with album.path(ANA, "draw.png").open("rb") as reader:
        album.keep(ANA, "draw.png", b"after")
        assert reader.read() == b"before"
    assert album.path(ANA, "draw.png").read_bytes() == b"after"
    assert [*(tmp_path / ANA.hex()).iterdir()] == [album.path(ANA, "draw.png")]


def test_a_picture_that_cannot_be_written_is_not_kept(tmp_path: Path) -> None:
    album = Album(folder=tmp_path)
    (tmp_path / ANA.hex()).mkdir()
    (tmp_path / ANA.hex() / "draw.png").mkdir()
    with pytest.raises(OSError, match=r"draw\.png"):
        album.keep(ANA, "draw.png", b"picture")
    with pytest.raises(Refusal):
        album.path(ANA, "draw.png")


def test_the_latest_of_each_caller_are_kept_and_one_that_is_used_stays(tmp_path: Path) -> None:
    album = Album(folder=tmp_path)
    other = album.bring(BEN, "input", b"ben's")
    names = [album.bring(ANA, "input", str(number).encode()) for number in range(KEPT)]
    album.path(ANA, names[0])
    album.bring(ANA, "input", b"one more")
    assert album.path(ANA, names[0]).exists()
    assert album.path(BEN, other).exists()
    with pytest.raises(Refusal):
        album.path(ANA, names[1])
    assert len([*(tmp_path / ANA.hex()).iterdir()]) == KEPT
