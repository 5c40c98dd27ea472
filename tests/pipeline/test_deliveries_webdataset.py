"""The WebDataset form: what is written is read back, a lying tar is refused whole, a wrong sample alone."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from webdataset.tariterators import group_by_keys, tar_file_expander

from infra.guarded.refused import Refused
from infra.storage import Store
from pipeline import contract
from pipeline.contract import Asset, License
from pipeline.deliveries.opened import OpenDelivery, open_delivery, peek_delivery
from pipeline.deliveries.sample import Sample
from pipeline.deliveries.webdataset import read_shard
from pipeline.deliveries.writer import Heading, write_delivery

HEADING = Heading(
    provider="acme",
    delivery_id="acme-000000",
    sequence=0,
    kind="full",
    created_at=datetime(2026, 5, 1, tzinfo=UTC),
)
LICENSE = License.model_validate(contract.template()["license"])


def encoded(kind: str = "JPEG", color: int = 0) -> bytes:
    sink = io.BytesIO()
    Image.new("RGB", (4, 3), (color % 256, color // 256, 7)).save(sink, kind)
    return sink.getvalue()


JPEG = encoded()


def record(asset_id: str, image: bytes = JPEG, **changes: Any) -> dict[str, Any]:
    file = {
        "sha256": hashlib.sha256(image).hexdigest(),
        "bytes": len(image),
        "mime": "image/jpeg",
        "width": 4,
        "height": 3,
    }
    return {**contract.template()["asset"], "asset_id": asset_id, "file": file, **changes}


def asset(asset_id: str, image: bytes = JPEG, **changes: Any) -> Asset:
    return Asset.model_validate(record(asset_id, image, **changes))


def written(folder: Path, num: int = 5, shard_samples: int = 2) -> Store:
    store = Store.at(folder)
    images = [encoded(color=i) for i in range(num)]
    samples = [(asset(f"a{i:03d}", image), image) for i, image in enumerate(images)]
    write_delivery(store, HEADING, licenses=[LICENSE], samples=samples, shard_samples=shard_samples)
    return store


def everything(opened: OpenDelivery) -> list[Sample]:
    return [sample for shard in opened.shards for sample in read_shard(opened, shard)]


def contents(store: Store) -> dict[str, bytes]:
    return {name: store.read(name) for name in store.names()}


def put(store: Store, path: str, data: bytes, **changes: Any) -> None:
    """Write a file and list it as it is."""
    manifest = json.loads(store.read("delivery.json"))
    manifest["files"] = [file for file in manifest["files"] if file["path"] != path]
    role = {"licenses.jsonl": "licenses", "revocations.jsonl": "revocations"}.get(path, "shard")
    listed = {"path": path, "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data), "role": role}
    manifest["files"].append(listed)
    store.write(path, data)
    store.write("delivery.json", json.dumps({**manifest, **changes}).encode())


def relisted(store: Store, **changes: Any) -> None:
    manifest = json.loads(store.read("delivery.json"))
    store.write("delivery.json", json.dumps({**manifest, **changes}).encode())


@pytest.mark.parametrize(("num", "shard_samples", "shards"), [(0, 2, 0), (1, 2, 1), (4, 2, 2), (5, 2, 3)])
def test_what_is_written_is_read_back(tmp_path: Path, num: int, shard_samples: int, shards: int) -> None:
    opened = open_delivery(written(tmp_path, num, shard_samples))
    samples = everything(opened)
    assert len(opened.shards) == shards
    assert [sample.key for sample in samples] == [f"a{i:03d}" for i in range(num)]
    assert [sample.image for sample in samples] == [encoded(color=i) for i in range(num)]
    for sample in samples:
        expected = asset(sample.key, sample.image, delivery_id="acme-000000")
        assert sample.asset == expected
    assert opened.licenses == {LICENSE.license_id: LICENSE}
    assert sum(shard.samples or 0 for shard in opened.shards) == num


def test_a_delivery_is_read_from_either_kind_of_storage(store: Store) -> None:
    write_delivery(store, HEADING, licenses=[LICENSE], samples=[(asset("a"), JPEG)], shard_samples=1)
    assert [sample.image for sample in everything(open_delivery(store))] == [JPEG]
    store.write("shards/more.tar", b"")
    with pytest.raises(Refused, match="rule unlisted"):
        open_delivery(store)


def test_the_same_samples_are_the_same_bytes(tmp_path: Path) -> None:
    assert contents(written(tmp_path / "a")) == contents(written(tmp_path / "b"))
    other = LICENSE.model_copy(update={"license_id": "a"})
    for name, records in {"c": [LICENSE, other], "d": [other, LICENSE]}.items():
        write_delivery(Store.at(tmp_path / name), HEADING, licenses=records, samples=[], shard_samples=1)
    assert contents(Store.at(tmp_path / "c")) == contents(Store.at(tmp_path / "d"))


def test_the_manifest_is_written_last_so_half_a_delivery_is_none(tmp_path: Path) -> None:
    def samples() -> Any:
        yield asset("a"), JPEG
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        write_delivery(Store.at(tmp_path), HEADING, licenses=[], samples=samples(), shard_samples=1)
    with pytest.raises(Refused, match=r"delivery\.json: refused by rule missing"):
        open_delivery(Store.at(tmp_path))


@pytest.mark.parametrize("ids", [["b", "a"], ["a", "a"]])
def test_samples_out_of_order_are_refused_by_the_writer(tmp_path: Path, ids: list[str]) -> None:
    samples = [(asset(name), JPEG) for name in ids]
    with pytest.raises(ValueError, match="sort the samples"):
        write_delivery(Store.at(tmp_path), HEADING, licenses=[], samples=samples, shard_samples=9)


def test_other_readers_of_webdataset_read_what_we_write(tmp_path: Path) -> None:
    store = written(tmp_path, num=3, shard_samples=3)
    with store.open("shards/acme-000000.tar") as stream:
        found = list(group_by_keys(tar_file_expander([{"url": "a.tar", "stream": stream}])))
    assert [sample["__key__"] for sample in found] == ["a000", "a001", "a002"]
    assert {"json", "txt", "jpg"} <= found[0].keys()


def test_an_id_of_128_characters_travels(tmp_path: Path) -> None:
    store = Store.at(tmp_path)
    write_delivery(store, HEADING, licenses=[LICENSE], samples=[(asset("k" * 128), JPEG)], shard_samples=1)
    assert [sample.key for sample in everything(open_delivery(store))] == ["k" * 128]


def test_an_open_delivery_reaches_the_workers(tmp_path: Path) -> None:
    opened = open_delivery(written(tmp_path))
    again = pickle.loads(pickle.dumps(opened))  # noqa: S301  # our own bytes, made on this line
    told = [[(sample.key, sample.asset, sample.image) for sample in everything(at)] for at in (again, opened)]
    assert told[0] == told[1]


@pytest.mark.parametrize("name", ["licenses.jsonl", "shards/acme-000001.tar"])
@settings(max_examples=25)
@given(data=st.data())
def test_a_file_with_one_byte_changed_is_refused(
    tmp_path_factory: pytest.TempPathFactory, name: str, data: st.DataObject
) -> None:
    store = written(tmp_path_factory.mktemp("delivery"), num=3)
    raw = bytearray(store.read(name))
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    store.write(name, bytes(raw))
    with pytest.raises(Refused, match="rule sha256"):
        open_delivery(store)


def test_a_shard_is_checked_again_when_it_is_read(tmp_path: Path) -> None:
    store = written(tmp_path)
    opened = open_delivery(store)
    raw = store.read("shards/acme-000001.tar")
    store.write("shards/acme-000001.tar", raw.replace(b"acme", b"ACME"))
    with pytest.raises(Refused, match="rule sha256"):
        next(read_shard(opened, opened.shards[1]))
    assert len(list(read_shard(opened, opened.shards[0]))) == 2


def test_a_peek_checks_sizes_and_leaves_the_shards_bytes_to_their_readers(tmp_path: Path) -> None:
    store = written(tmp_path)
    name = "shards/acme-000001.tar"
    store.write(name, store.read(name).replace(b"acme", b"ACME"))
    assert peek_delivery(store).delivery.sequence == 0
    store.write(name, store.read(name) + b"\0")
    with pytest.raises(Refused, match="rule size"):
        peek_delivery(store)


def test_files_that_are_not_listed_or_not_there_are_refused(tmp_path: Path) -> None:
    store = written(tmp_path)
    store.write("shards/more.tar", b"")
    with pytest.raises(Refused, match=r"shards/more\.tar: refused by rule unlisted"):
        open_delivery(store)
    store.delete(["shards/more.tar", "shards/acme-000000.tar"])
    with pytest.raises(Refused, match=r"shards/acme-000000\.tar: refused by rule missing"):
        open_delivery(store)


def test_a_file_that_is_listed_twice_is_refused(tmp_path: Path) -> None:
    store = written(tmp_path)
    files = json.loads(store.read("delivery.json"))["files"]
    relisted(store, files=[*files, files[1]])
    with pytest.raises(Refused, match="rule duplicate"):
        open_delivery(store)


def test_records_that_a_delivery_must_have_are_asked_for(tmp_path: Path) -> None:
    store = written(tmp_path)
    relisted(store, kind="revocation")
    with pytest.raises(Refused, match=r"revocations\.jsonl: refused by rule missing"):
        open_delivery(store)
    files = [file for file in json.loads(store.read("delivery.json"))["files"] if file["role"] == "shard"]
    relisted(store, files=files, kind="full")
    store.delete(["licenses.jsonl"])
    with pytest.raises(Refused, match=r"licenses\.jsonl: refused by rule missing"):
        open_delivery(store)


def test_files_that_have_no_use_in_the_form_are_refused(tmp_path: Path) -> None:
    store = written(tmp_path)
    relisted(store, form="folder")
    with pytest.raises(Refused, match="role 'shard' has no use in the form 'folder'"):
        open_delivery(store)


def test_every_fault_of_a_manifest_is_told_at_once(tmp_path: Path) -> None:
    store = written(tmp_path)
    relisted(store, sequence=-1, kind="whole")
    with pytest.raises(ValueError, match=r"sequence: .*\n.*kind: ") as caught:
        open_delivery(store)
    assert str(caught.value).count(str(store.where("delivery.json"))) == 2


def test_a_licence_at_fault_names_its_line(tmp_path: Path) -> None:
    store = written(tmp_path)
    good = LICENSE.model_dump_json()
    put(store, "licenses.jsonl", f"{good}\n\n{good.replace('worldwide', 'moon')}\n".encode())
    with pytest.raises(ValueError, match=r"licenses\.jsonl line 3: territory\.mode: .*got 'moon'"):
        open_delivery(store)


def test_the_last_revision_of_a_licence_counts_and_two_meanings_of_one_are_refused(tmp_path: Path) -> None:
    store = written(tmp_path)
    lines = [
        json.dumps({**contract.template()["license"], "license_revision": revision, "licensee": licensee})
        for revision, licensee in [(0, "a"), (2, "c"), (1, "b"), (2, "c")]
    ]
    put(store, "licenses.jsonl", "\n".join(lines).encode())
    assert open_delivery(store).licenses["acme-data-2026"].licensee == "c"
    lines.append(lines[1].replace('"c"', '"d"'))
    put(store, "licenses.jsonl", "\n".join(lines).encode())
    with pytest.raises(Refused, match="rule ambiguous"):
        open_delivery(store)


def test_revocations_are_read(tmp_path: Path) -> None:
    store = written(tmp_path)
    put(store, "revocations.jsonl", json.dumps(contract.template()["revocation"]).encode(), kind="revocation")
    [found] = open_delivery(store).revocations
    assert found.targets == ("1234567",)
