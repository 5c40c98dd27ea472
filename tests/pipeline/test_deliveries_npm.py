"""npm packages: fetched once, by sha256, read in memory. A small program stands in for npm."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from pathlib import Path

import pytest

from infra.guarded.refused import Refused
from pipeline.deliveries import npm

STAND_IN = """#!/bin/sh
echo "$@" >> "{log}"
while [ "$1" != --pack-destination ]; do shift; done
{act}
"""


def tgz(members: dict[str, bytes]) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return gzip.compress(sink.getvalue(), mtime=0)


GOOD = tgz({"package/package.json": b"{}", "package/assets/1f600.webp": b"RIFF"})
SHA256 = hashlib.sha256(GOOD).hexdigest()


def calls(folder: Path) -> int:
    log = folder / "log"
    return len(log.read_text().splitlines()) if log.exists() else 0


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, act: str) -> None:
    """Put a program named npm first in the search path."""
    program = folder / "npm"
    program.write_text(STAND_IN.format(log=folder / "log", act=act))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An npm that packs GOOD."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "good.tgz").write_bytes(GOOD)
    install(folder, monkeypatch, f'cp "{folder}/good.tgz" "$2/scope-pkg-1.0.0.tgz"')
    return folder


def test_a_package_is_fetched_once_and_then_needs_no_npm(
    tmp_path: Path, registry: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    path = npm.fetch("@scope/pkg", "1.0.0", SHA256, cache)
    assert path.read_bytes() == GOOD
    assert calls(registry) == 1
    monkeypatch.setenv("PATH", "")
    assert npm.fetch("@scope/pkg", "1.0.0", SHA256, cache) == path
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_the_users_cache_folder_is_the_default(
    tmp_path: Path, registry: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    path = npm.fetch("@scope/pkg", "1.0.0", SHA256)
    assert path.parent == tmp_path / "home" / "pardalis" / "npm"


def test_a_package_with_another_sha256_is_refused_and_not_kept(tmp_path: Path, registry: Path) -> None:
    with pytest.raises(ValueError, match=f"sha256 is {SHA256}, need {'0' * 64}"):
        npm.fetch("@scope/pkg", "1.0.0", "0" * 64, tmp_path / "cache")
    assert not list(tmp_path.glob("cache/**/*.tgz"))


def test_a_damaged_file_in_the_cache_is_fetched_again(tmp_path: Path, registry: Path) -> None:
    path = npm.fetch("@scope/pkg", "1.0.0", SHA256, tmp_path)
    path.write_bytes(GOOD[:-1])
    assert npm.fetch("@scope/pkg", "1.0.0", SHA256, tmp_path).read_bytes() == GOOD
    assert calls(registry) == 2


SAYS = "echo 'npm error ENOTFOUND' >&2"


@pytest.mark.parametrize("act", [f"{SAYS}; exit 1", SAYS, f'{SAYS}; touch "$2/half.tgz"; exit 1'])
def test_without_a_network_the_error_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, act: str
) -> None:
    install(tmp_path, monkeypatch, act)
    with pytest.raises(
        ConnectionError, match=r"npm pack pkg@1 .*ENOTFOUND; connect .* or put the archive at"
    ):
        npm.fetch("pkg", "1", SHA256, tmp_path / "cache")


def test_the_archive_may_be_put_into_the_cache_by_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, monkeypatch, "exit 1")
    with pytest.raises(ConnectionError) as caught:
        npm.fetch("pkg", "1", SHA256, tmp_path / "cache")
    named = Path(str(caught.value).rpartition(" at ")[2])
    named.parent.mkdir(parents=True, exist_ok=True)
    named.write_bytes(GOOD)
    assert npm.fetch("pkg", "1", SHA256, tmp_path / "cache") == named


def test_members_come_from_memory_with_their_path_in_the_package(tmp_path: Path) -> None:
    path = tmp_path / "a.tgz"
    path.write_bytes(GOOD)
    assert list(npm.members(path)) == [("package.json", b"{}"), ("assets/1f600.webp", b"RIFF")]


@pytest.mark.parametrize(
    "name",
    ["package/../../x", "/etc/x", "other/x", "package/..", "package/a\\b", "package/a\nb", "package//x"],
)
def test_a_path_that_leaves_the_package_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.tgz"
    path.write_bytes(tgz({name: b""}))
    with pytest.raises(Refused, match="rule name"):
        list(npm.members(path))


def test_a_bomb_is_refused_when_its_header_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.tgz"
    path.write_bytes(tgz({"package/bomb": bytes(65 << 20)}))
    assert path.stat().st_size < 100_000
    with pytest.raises(Refused, match="rule member_size"):
        list(npm.members(path))
