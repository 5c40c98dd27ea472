"""What :mod:`infra.s3` promises, before a real server, through a proxy that does what networks do."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import xxhash

from infra import s3 as s3_clients
from infra.artifact import Corrupt
from infra.guarded import s3 as foreign
from infra.guarded.https import Unreachable
from infra.pieces import Piece, Pieces, PiecesSection
from infra.s3 import Unavailable
from infra.storage import Store
from tests.infra import faulty_s3
from tests.infra.faulty_s3 import Fault, FaultyS3
from tests.seaweed import BUCKET, SECRET, Seaweed, free_ports

pytestmark = pytest.mark.long

Ask = Callable[[Store], object]
DATA = os.urandom(300_000)
LIMITS = {"CONNECT_S": "2", "READ_S": "0.7", "PATIENCE_S": "30"}


def created(store: Store) -> object:
    store.create("created", DATA)
    return store.create("created", DATA), store.read("created")


def written(store: Store) -> object:
    store.write("written", DATA[::-1])
    return store.read("written")


def opened(store: Store) -> object:
    with store.open("a/one") as stream:
        stream.seek(-1000, os.SEEK_END)
        end = stream.read(600), stream.read(5000), stream.read(1)
        stream.seek(7)
        return end, stream.read()


def deleted(store: Store) -> object:
    store.write("deleted", b"x")
    store.delete(["deleted"])
    return store.exists("deleted")


def erased(store: Store) -> object:
    store.write("erased", b"x")
    store.erase(["erased"])
    return store.exists("erased")


OPERATIONS: dict[str, tuple[str, Ask, object]] = {
    "read": ("GET", lambda store: store.read("a/one"), DATA),
    "open": ("GET", opened, ((DATA[-1000:-400], DATA[-400:], b""), DATA[7:])),
    "write": ("PUT", written, DATA[::-1]),
    "create": ("PUT", created, (False, DATA)),
    "size": ("HEAD", lambda store: store.size("a/one"), len(DATA)),
    "stamp": ("HEAD", lambda store: store.stamp("a/one") == store.stamp("a/same"), True),
    "list": ("GET", lambda store: store.sizes("a/"), {"a/one": len(DATA), "a/same": len(DATA)}),
    "delete": ("DELETE", deleted, False),
    "erase": ("DELETE", erased, False),
    "hidden": ("GET", lambda store: store.hidden(), {}),
}
"""The method, what is asked, and what comes of it when nothing fails."""
WITH_A_BODY = ["read", "open", "list", "hidden"]


@pytest.fixture
def proxy(s3: Store, seaweed: Seaweed, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyS3]:
    """Before the server; ``s3`` is asked through it, with short limits."""
    for name in ("a/one", "a/same"):
        s3.write(name, DATA)
    upstream = urlsplit(seaweed.endpoint)
    with FaultyS3((upstream.hostname or "", upstream.port or 0)) as made:
        monkeypatch.setenv("AWS_ENDPOINT_URL", made.endpoint)
        limited(monkeypatch, **LIMITS)
        yield made


def limited(monkeypatch: pytest.MonkeyPatch, **limits: str) -> None:
    for name, value in limits.items():
        monkeypatch.setenv(f"PARDALIS_S3_{name}", value)
    s3_clients.forget()


@pytest.fixture
def retried(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The operations that were tried again."""
    told: list[str] = []
    monkeypatch.setattr(s3_clients, "retried", [told.append])
    return told


@pytest.mark.parametrize("kind", ["slow-down", "internal-error", "reset-before", "hang"])
def test_what_fails_and_passes_is_tried_again_and_counted(
    kind: faulty_s3.Kind, proxy: FaultyS3, s3: Store, retried: list[str]
) -> None:
    for number, (operation, (method, ask, wanted)) in enumerate(OPERATIONS.items()):
        retried.clear()
        proxy.faults = [Fault(kind=kind, methods=[method], count=1)]
        assert ask(s3) == wanted
        assert [done.kind for done in proxy.done] == [kind] * (number + 1)
        assert set(retried) == {operation}  # once, or again where a busy machine took its time


@pytest.mark.parametrize("kind", ["reset-midway", "truncated"])
def test_a_body_that_ends_too_early_is_never_taken(
    kind: faulty_s3.Kind, proxy: FaultyS3, s3: Store, retried: list[str]
) -> None:
    for operation in WITH_A_BODY:
        retried.clear()
        _, ask, wanted = OPERATIONS[operation]
        proxy.faults = [Fault(kind=kind, methods=["GET"], count=2)]
        assert ask(s3) == wanted
        assert retried == [operation] * 2


def test_a_whole_object_that_was_spoilt_on_its_way_is_read_again(
    proxy: FaultyS3, s3: Store, retried: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy.faults = [Fault(kind="corrupt", methods=["GET"], count=2)]
    assert s3.read("a/one") == DATA
    with s3.local("a/same") as file:
        assert file.read() == DATA
    assert retried == ["read"] * 2
    limited(monkeypatch, PATIENCE_S="0.5")
    proxy.faults = [Fault(kind="corrupt", methods=["GET"])]
    with pytest.raises(Unavailable, match="FlexibleChecksumError"):
        s3.read("a/one")


def test_an_upload_that_was_spoilt_on_its_way_is_refused_and_sent_again(
    proxy: FaultyS3, s3: Store, retried: list[str]
) -> None:
    proxy.faults = [Fault(kind="corrupt-upload", methods=["PUT"], count=2)]
    s3.write("b", DATA)
    assert s3.create("c", DATA)
    assert retried == ["write"] * 2
    assert s3.read("b") == s3.read("c") == DATA


def piece(store: Store) -> Piece:
    part = DATA[1000:200_000]
    digest = xxhash.xxh3_64_hexdigest(part)
    return Piece(title="block 1", store=store, name="a/one", offset=1000, size=len(part), xxh3=digest)


@pytest.mark.parametrize("kind", ["slow-down", "reset-midway", "truncated", "corrupt", "hang"])
def test_a_piece_is_fetched_again_until_it_is_what_its_manifest_says(
    kind: faulty_s3.Kind, proxy: FaultyS3, s3: Store, tmp_path: Path
) -> None:
    proxy.faults = [Fault(kind=kind, methods=["GET"], count=1)]
    found = Pieces(PiecesSection(patience_s=20), tmp_path).get(piece(s3))
    assert found.to_pybytes() == DATA[1000:200_000]
    assert [done.kind for done in proxy.done] == [kind]


def test_a_piece_that_stays_spoilt_is_never_served(proxy: FaultyS3, s3: Store, tmp_path: Path) -> None:
    proxy.faults = [Fault(kind="corrupt", methods=["GET"])]
    with pytest.raises(Corrupt, match="block 1 of s3://"):
        Pieces(PiecesSection(patience_s=20), tmp_path).get(piece(s3))
    assert [path for path in tmp_path.iterdir() if path.name[0] != "."] == []


def test_who_created_an_object_learns_it_though_the_answer_was_lost(
    proxy: FaultyS3, s3: Store, retried: list[str]
) -> None:
    proxy.faults = [Fault(kind="reset-after", methods=["PUT"], count=1)]
    assert s3.create("versions/1", b"the same bytes")
    assert retried == ["create"]
    proxy.faults = [Fault(kind="reset-after", methods=["PUT"], count=1)]
    assert not s3.create("versions/1", b"the same bytes")
    assert s3.read("versions/1") == b"the same bytes"


def test_of_creators_of_the_same_bytes_one_wins_though_answers_are_lost(proxy: FaultyS3, s3: Store) -> None:
    proxy.faults = [Fault(kind="reset-after", methods=["PUT"], share=0.5, seed=3)]
    with ThreadPoolExecutor(8) as pool:
        for round_ in range(4):
            name = f"leases/{round_}"
            won = list(pool.map(lambda _, name=name: s3.create(name, b"the same bytes"), range(8)))
            assert sum(won) == 1, name
    assert len(proxy.done) > 8


@pytest.mark.parametrize("operation", ["write", "delete", "erase"])
def test_what_was_done_and_not_answered_is_done_again(
    operation: str, proxy: FaultyS3, s3: Store, retried: list[str]
) -> None:
    method, ask, wanted = OPERATIONS[operation]
    proxy.faults = [Fault(kind="reset-after", methods=[method], count=2)]
    assert ask(s3) == wanted
    assert retried == [operation] * 2


def test_a_creation_that_meets_another_on_its_way_is_tried_again(
    proxy: FaultyS3, s3: Store, retried: list[str]
) -> None:
    """409: so AWS answers where two create at once, of which one may be our own lost attempt."""
    proxy.faults = [Fault(kind="conflict", methods=["PUT"], count=2)]
    assert s3.create("versions/1", DATA)
    assert retried == ["create"] * 2


def test_an_error_in_an_answer_that_says_200_is_one(proxy: FaultyS3, s3: Store, retried: list[str]) -> None:
    proxy.faults = [Fault(kind="error-in-200", methods=["GET"], path="list-type=2", count=2)]
    assert s3.names("a/") == ["a/one", "a/same"]
    assert retried == ["list"] * 2


def test_a_copy_that_failed_under_200_is_tried_again(proxy: FaultyS3, s3: Store) -> None:
    """Of the operations that answer like this by design; ours copy nothing, who uses the client may."""
    key = s3.root.partition("/")[2]
    client = s3_clients.client()

    def copy() -> Any:
        source = {"Bucket": BUCKET, "Key": f"{key}/a/one"}
        return client.copy_object(Bucket=BUCKET, Key=f"{key}/copied", CopySource=source)

    proxy.faults = [Fault(kind="error-in-200", methods=["PUT"], count=1)]
    s3_clients.patiently("copy", "copied", copy)
    assert s3.read("copied") == DATA


def test_a_listing_goes_on_at_the_page_that_failed(proxy: FaultyS3, s3: Store, retried: list[str]) -> None:
    names = [f"many/{number:04d}" for number in range(1001)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: s3.write(name, b""), names))
    retried.clear()
    proxy.faults = [Fault(kind="truncated", path="continuation-token", count=1)]
    assert s3.names("many/") == names
    assert [done.kind for done in proxy.done] == ["truncated"]
    assert retried == ["list"]


@pytest.mark.parametrize("kind", ["slow-down", "out"])
def test_the_error_at_the_end_says_what_was_tried_and_holds_no_secret(
    kind: faulty_s3.Kind, proxy: FaultyS3, s3: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint.replace("://", "://user:canary@"))
    limited(monkeypatch, PATIENCE_S="0.2")
    last = {"slow-down": "503( SlowDown)?", "out": "(Endpoint)?Connection(Closed)?Error"}[kind]
    for method, ask, _ in OPERATIONS.values():
        proxy.faults = [Fault(kind=kind, methods=[method])]
        with pytest.raises(Unavailable) as raised:
            ask(s3)
        told = str(raised.value)
        said = rf"{s3.uri}/.*: `\w+` failed \d+ times in \d+\.\d s, at last with {last}; see to the store "
        assert re.fullmatch(said + "and run again, or raise PARDALIS_S3_PATIENCE_S", told), told
        assert not any(secret in told for secret in ("canary", SECRET))


def test_a_server_that_drips_is_given_up(proxy: FaultyS3, s3: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """At 400 bytes a second the object would take 12 minutes, and never be without a byte for long."""
    limited(monkeypatch, PATIENCE_S="0.5", READ_S="0.5", SLOWEST_BYTES_S="100000")
    proxy.faults = [Fault(kind="slow", bytes_per_s=400)]
    for operation in ("read", "list"):
        began = time.monotonic()
        with pytest.raises(Unavailable):
            OPERATIONS[operation][1](s3)
        assert time.monotonic() - began < 30


def test_a_late_first_byte_and_a_slow_network_are_waited_for(
    proxy: FaultyS3, s3: Store, retried: list[str]
) -> None:
    proxy.faults = [Fault(kind="slow", first_byte_s=0.3, bytes_per_s=400_000)]
    assert s3.read("a/one") == DATA
    assert retried == []


def test_an_outage_is_survived_by_every_operation(proxy: FaultyS3, s3: Store, retried: list[str]) -> None:
    proxy.faults = [Fault(kind="out")]

    def end_when_all_have_met_it() -> None:
        while (
            len(set(retried)) < len(OPERATIONS) - 3
        ):  # `open`, `delete`, `erase` ask for something else first
            time.sleep(0.05)
        proxy.faults = []

    asked_all(s3, end_when_all_have_met_it)
    assert {"read", "size", "stamp", "list", "hidden", "write", "create"} <= set(retried)


@pytest.mark.slow
def test_an_outage_of_half_a_minute_is_survived_with_the_limits_as_they_are(
    proxy: FaultyS3, s3: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in LIMITS:
        monkeypatch.delenv(f"PARDALIS_S3_{name}")
    s3_clients.forget()
    s3_clients.client()
    proxy.faults = [Fault(kind="out", seconds=30)]
    began = time.monotonic()
    asked_all(s3)
    took = time.monotonic() - began
    sys.stdout.write(f"answered {took - 30:.1f} s after an outage of 30 s\n")
    assert 29 < took < 60


def asked_all(store: Store, meanwhile: Callable[[], None] = lambda: None) -> None:
    with ThreadPoolExecutor(len(OPERATIONS)) as pool:
        asked = {name: pool.submit(ask, store) for name, (_, ask, _) in OPERATIONS.items()}
        meanwhile()
        found = {name: one.result() for name, one in asked.items()}
    assert found == {name: wanted for name, (_, _, wanted) in OPERATIONS.items()}


def test_a_foreign_object_is_read_through_faults_and_told_of_when_they_stay(
    proxy: FaultyS3, s3: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = f"{s3.uri}/a/one"
    for kind in ("slow-down", "truncated", "corrupt", "reset-midway"):
        proxy.faults = [Fault(kind=kind, count=1)]
        assert foreign.read(uri, "", buckets=[BUCKET], max_bytes=len(DATA)) == DATA
    limited(monkeypatch, PATIENCE_S="0.3")
    proxy.faults = [Fault(kind="slow-down")]
    with pytest.raises(Unreachable, match="503"):
        foreign.read(uri, "", buckets=[BUCKET], max_bytes=len(DATA))


@pytest.mark.parametrize("value", ["soon", "0", "-1", "nan", "inf"])
def test_a_limit_that_is_none_is_named(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARDALIS_S3_READ_S", value)
    s3_clients.forget()
    with pytest.raises(ValueError, match=f"PARDALIS_S3_READ_S is '{value}'; write a number above 0"):
        s3_clients.limits()
    monkeypatch.undo()
    s3_clients.forget()


def test_the_proxy_runs_by_itself_and_takes_its_faults_from_a_file(
    s3: Store, seaweed: Seaweed, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, retried: list[str]
) -> None:
    s3.write("a", DATA)
    listen, control = f"127.0.0.1:{free_ports(1)[0]}", tmp_path / "faults.json"
    faulty_s3.write_faults(control, [Fault(kind="slow-down", methods=["GET"], count=2)])
    words = ["--listen", listen, "--upstream", urlsplit(seaweed.endpoint).netloc, "--control", control]
    run = subprocess.Popen([sys.executable, faulty_s3.__file__, *words], stdout=subprocess.PIPE, text=True)
    with run:
        assert run.stdout is not None
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{listen}")
        limited(monkeypatch, **LIMITS)
        assert s3.read("a") == DATA
        assert [json.loads(run.stdout.readline())["kind"] for _ in range(2)] == ["slow-down"] * 2
        faulty_s3.write_faults(control, [Fault(kind="out")])
        assert json.loads(run.stdout.readline())["kind"] == "out"
        threading.Timer(1, faulty_s3.write_faults, (control, [])).start()
        assert s3.read("a") == DATA
        run.kill()
    assert set(retried) == {"read"}
