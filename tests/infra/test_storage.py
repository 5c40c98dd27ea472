import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from infra import s3 as s3_clients
from infra.storage import LocalStore, Missing, S3Store, Store, objects


def test_what_is_written_is_read_whole_in_ranges_and_as_a_file(store: Store) -> None:
    store.write("a/b/c.bin", b"0123456789")
    assert store.read("a/b/c.bin") == b"0123456789"
    assert store.size("a/b/c.bin") == 10
    with store.local("a/b/c.bin") as file:
        assert file.read() == b"0123456789"
    with store.open("a/b/c.bin") as stream:
        stream.seek(7)
        assert stream.read(2) == b"78"


def test_writing_again_replaces(store: Store) -> None:
    store.write("x", b"old")
    store.write("x", b"new")
    assert store.read("x") == b"new"


def test_exactly_one_of_many_creators_wins(store: Store) -> None:
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda i: store.create("versions/1", str(i).encode()), range(8)))
    assert sum(won) == 1
    assert store.read("versions/1") == str(won.index(True)).encode()


def test_what_is_not_there_is_missing_by_its_full_name(store: Store) -> None:
    assert not store.exists("nothing")
    for ask in (store.read, store.size, store.open):
        with pytest.raises(Missing, match=f"there is no {store.uri}/nothing; see that"):
            ask("nothing")


def test_a_missing_output_of_a_step_says_what_to_delete_so_that_it_is_made_again(store: Store) -> None:
    with pytest.raises(Missing, match=f"delete {store.uri}/shards/dedup/k and {store.uri}/artifacts/dedup,"):
        store.read("shards/dedup/k/rows.parquet")


def test_a_file_where_a_folder_should_be_holds_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    store = Store.at(tmp_path / "file")
    for ask in (store.read, store.size, store.open):
        with pytest.raises(Missing, match=r"file/delivery\.json"):
            ask("delivery.json")


def test_objects_are_as_readable_as_the_umask_lets_them_be(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        store = Store.at(tmp_path / "shared")
        store.write("written", b"")
        store.create("created", b"")
    finally:
        os.umask(before)
    modes = [stat.S_IMODE((tmp_path / "shared" / name).stat().st_mode) for name in ("written", "created")]
    assert modes == [0o640, 0o640]


def test_names_are_sorted_and_filtered_by_prefix(store: Store) -> None:
    for name in ("b/2", "b/10", "a", "c/d/e", "bb"):
        store.write(name, b"")
    assert store.names() == ["a", "b/10", "b/2", "bb", "c/d/e"]
    assert store.names("b/") == ["b/10", "b/2"]
    assert store.names("b") == ["b/10", "b/2", "bb"]


def test_deleting_twice_is_no_error(store: Store) -> None:
    store.write("gone", b"x")
    store.delete(["gone"])
    store.delete(["gone"])
    assert store.names() == []


def test_a_half_written_file_is_never_listed(tmp_path: Path) -> None:
    store = Store.at(tmp_path)
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / ".partial-abc").write_bytes(b"half")
    assert store.names() == []


def test_links_are_not_listed_wherever_they_lead(tmp_path: Path) -> None:
    (tmp_path / "away").mkdir()
    (tmp_path / "away" / "private").write_bytes(b"x")
    store = Store.at(tmp_path / "store")
    store.write("a", b"x")
    for name, target in (("file", "../away/private"), ("folder", "../away"), ("nowhere", "b"), ("self", "a")):
        (tmp_path / "store" / name).symlink_to(target)
    assert store.sizes() == {"a": 1}
    assert store.names("f") == []


@pytest.mark.long
def test_what_stands_for_a_folder_on_s3_is_not_listed(s3: Store) -> None:
    s3.write("sub/a", b"x")
    for name in ("", "sub/", "empty/"):
        s3.write(name, b"")
    s3.write("nothing", b"")
    assert s3.sizes() == {"sub/a": 1, "nothing": 0}
    assert s3.names("sub/") == ["sub/a"]


@pytest.mark.parametrize("name", ["Caf\u00e9 & co.jpg", "Cafe\u0301.jpg", "50% #1?*+~.jpg", "日本/写真.png"])
def test_a_name_is_found_as_it_was_written_whatever_is_in_it(store: Store, name: str) -> None:
    store.write(name, b"x")
    assert store.names() == [name]
    assert (store.read(name), store.size(name)) == (b"x", 1)
    with store.open(name) as stream:
        assert stream.read() == b"x"


@pytest.mark.parametrize(("uri", "kind"), [("s3://bucket/a/b", S3Store), ("some/folder", LocalStore)])
def test_an_address_says_its_kind(uri: str, kind: type[Store]) -> None:
    assert isinstance(Store.at(uri), kind)


@pytest.mark.parametrize(
    "uri",
    [
        "s3://user:canary@bucket/x",
        "s3://canary@bucket/x",
        "s3://key:canary/with/slash@bucket",
        "s3://bucket:canary",
        "s3://bucket/x?canary",
        "https://user:canary@host/x?canary",
    ],
)
def test_an_address_that_holds_more_than_a_place_is_refused_and_not_repeated(uri: str) -> None:
    with pytest.raises(ValueError, match=r"s3://") as refused:
        Store.at(uri)
    assert "canary" not in str(refused.value)


@pytest.mark.parametrize("uri", ["http://host/x", "file:///etc", "s3://"])
def test_other_addresses_are_refused(uri: str) -> None:
    with pytest.raises(ValueError, match=r"neither|names no bucket"):
        Store.at(uri)


def test_a_stamp_changes_with_its_object_and_with_nothing_else(store: Store) -> None:
    for name in ("a/one", "a/two", "b"):
        store.write(name, b"before")
    before = store.stamps("a/")
    assert before == store.stamps("a/") == {name: store.stamp(name) for name in ("a/one", "a/two")}
    store.write("a/one", b"behind")
    after = store.stamps("a/")
    assert after["a/one"] != before["a/one"]
    assert after["a/two"] == before["a/two"]
    with pytest.raises(Missing):
        store.stamp("a/none")


def copies_here() -> list[Path]:
    return [path for path in objects().iterdir() if not path.name.startswith(".")]


@pytest.mark.long
def test_what_is_erased_has_no_older_version_and_no_copy_here(versioned: Store) -> None:
    store, bucket = versioned, versioned.uri.split("/")[2]
    for name in ("gone", "gone-not", "stays"):
        store.write(name, b"first")
        store.write(name, b"second")
    store.delete(["gone"])
    store.write("gone", b"third")
    store.local("gone").close()
    assert len(copies_here()) == 1
    store.erase(["gone"])
    assert copies_here() == []
    listed = s3_clients.client().list_object_versions(Bucket=bucket)
    names = [one["Key"] for kind in ("Versions", "DeleteMarkers") for one in listed.get(kind, ())]
    assert sorted(set(names)) == ["corpus/gone-not", "corpus/stays"]
    assert len(names) == 4
    assert store.names() == ["gone-not", "stays"]
