"""C2PA: each entry of both assertions is read from signed files; what cannot be read asks for a person."""

from __future__ import annotations

import functools
import importlib.metadata
import io
import socket
import threading
from collections.abc import Iterator
from typing import Any, get_args

import c2pa as sdk
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.guarded.isolated import Died, Isolated, Limits
from pipeline import c2pa
from pipeline.contract import Use
from pipeline.embedded import Extracted, signals
from pipeline.extract import extract

from . import signing
from .signing import encoded, mining, said, signed

KINDS = ("JPEG", "PNG", "WEBP")
UNREAD = (c2pa.UNREAD,)
TRAINED = said("cawg", "cawg.ai_training", "notAllowed")


def manifests(image: bytes) -> c2pa.Entries | None:
    answer, files = c2pa.read(image, c2pa.SETTINGS)
    assert files == []
    return c2pa.entries_of(answer)


def told(image: bytes) -> Extracted:
    return extract(image, manifests=manifests).extracted


MINING = {"ml_training", "generation", "retrieval_index", "evaluation", "derived_captions"}
EXPECTED = [
    ("data_mining", "allowed", set(), set()),
    ("data_mining", "notAllowed", MINING, set()),
    ("data_mining", "constrained", set(), MINING),
    ("ai_training", "allowed", set(), set()),
    ("ai_training", "notAllowed", {"ml_training"}, set()),
    ("ai_training", "constrained", set(), {"ml_training"}),
    ("ai_generative_training", "allowed", set(), set()),
    ("ai_generative_training", "notAllowed", {"generation"}, set()),
    ("ai_generative_training", "constrained", set(), {"generation"}),
    ("ai_inference", "allowed", set(), set()),
    ("ai_inference", "notAllowed", {"retrieval_index"}, set()),
    ("ai_inference", "constrained", set(), {"retrieval_index"}),
    ("something_new", "allowed", set(), set()),
    ("something_new", "notAllowed", set(get_args(Use)), set()),
    ("something_new", "constrained", set(), set(get_args(Use))),
    ("ai_training", "perhaps", set(), {"ml_training"}),
]


@pytest.mark.parametrize("label", ["cawg", "c2pa"])
@pytest.mark.parametrize("prefix", ["cawg.", "c2pa.", ""])
@pytest.mark.parametrize(("entry", "use", "denied", "unclear"), EXPECTED)
def test_each_entry_of_each_assertion_forbids_its_uses_or_asks(
    label: str, prefix: str, entry: str, use: str, denied: set[Use], unclear: set[Use]
) -> None:
    found = told(signed(encoded("JPEG"), said(label, prefix + entry, use)))
    assert found == Extracted(training_mining=((prefix + entry, use),))
    assert (signals(found).denied, signals(found).unclear.keys()) == (denied, unclear)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_file_that_is_delivered_is_read(kind: str) -> None:
    both = signed(encoded(kind), TRAINED, said("c2pa", "c2pa.data_mining", "constrained"))
    assert told(both).training_mining == (
        ("cawg.ai_training", "notAllowed"),
        ("c2pa.data_mining", "constrained"),
    )


def test_two_assertions_of_one_label_both_count() -> None:
    image = signed(encoded("JPEG"), TRAINED, said("cawg", "cawg.ai_inference", "notAllowed"))
    assert signals(told(image)).denied == {"ml_training", "retrieval_index"}


@pytest.mark.parametrize("kind", KINDS)
def test_what_forbade_training_on_the_original_forbids_it_on_what_was_made_of_it(kind: str) -> None:
    original = signed(encoded(kind), TRAINED)
    edited = signed(encoded(kind), said("cawg", "cawg.ai_training", "allowed"), parent=original)
    assert signals(told(edited)).denied == {"ml_training"}
    again = signed(encoded(kind), parent=edited)
    assert signals(told(again)).denied == {"ml_training"}


@pytest.mark.parametrize("kind", KINDS)
def test_a_manifest_that_does_not_speak_of_training_says_nothing(kind: str) -> None:
    assert told(signed(encoded(kind))) == Extracted()


@pytest.mark.parametrize(
    "entries",
    [{}, [], "notAllowed", None, {"cawg.ai_training": "notAllowed"}, {"cawg.ai_training": {"use": 0}}],
)
def test_entries_of_another_shape_ask_for_a_person(entries: Any) -> None:
    found = signals(told(signed(encoded("JPEG"), mining("cawg", entries))))
    assert not found.denied
    assert "training_mining" in found.unclear["ml_training"]


def test_an_assertion_without_entries_asks_even_beside_one_that_has_some() -> None:
    image = signed(encoded("JPEG"), TRAINED, mining("c2pa", {}))
    assert told(image).training_mining == (("cawg.ai_training", "notAllowed"), c2pa.UNREAD)


def flipped(image: bytes, place: int) -> bytes:
    return image[:place] + bytes([image[place] ^ 1]) + image[place + 1 :]


PIXELS = {"JPEG": lambda image: len(image) - 20, "PNG": lambda image: image.rfind(b"IDAT") + 50}


@pytest.mark.parametrize("kind", PIXELS)
def test_pixels_that_were_changed_after_the_signature_leave_it_unread(kind: str) -> None:
    image = signed(encoded(kind), said("cawg", "cawg.ai_training", "allowed"))
    changed = flipped(image, PIXELS[kind](image))
    context = sdk.Context.from_dict(dict(c2pa.SETTINGS))
    with sdk.Reader(signing.mime(image), io.BytesIO(changed), context=context) as reader:
        assert [one["code"] for one in reader.get_validation_results()["activeManifest"]["failure"]] == [
            "assertion.dataHash.mismatch"
        ]
    assert told(changed).training_mining == UNREAD
    assert told(image + b"more").training_mining == UNREAD


@pytest.mark.parametrize("kind", KINDS)
def test_a_prohibition_that_was_written_over_is_unread(kind: str) -> None:
    image = signed(encoded(kind), TRAINED)
    forged = image.replace(b"notAllowed", b"allowedxxx")
    assert forged != image
    assert told(forged).training_mining == UNREAD
    of_it = signed(encoded(kind), parent=image)
    assert told(of_it.replace(b"notAllowed", b"allowedxxx")).training_mining == UNREAD


@pytest.mark.parametrize("kind", KINDS)
def test_no_truncation_hides_the_assertion(kind: str) -> None:
    image = signed(encoded(kind), TRAINED)
    label = image.index(b".training-mining") + len(b".training-mining")
    for end in range(label, len(image), 97):
        assert told(image[:end]).training_mining == UNREAD, end


@given(st.sampled_from(KINDS), st.integers(0), st.binary(min_size=1, max_size=4))
def test_no_mutation_turns_a_prohibition_into_silence(kind: str, place: int, new: bytes) -> None:
    image = SIGNED[kind]
    place %= len(image)
    changed = image[:place] + new + image[place + len(new) :]
    found = told(changed)
    if b".training-mining" in changed:
        assert found.training_mining in (UNREAD, (("cawg.ai_training", "notAllowed"),))


SIGNED = {kind: signed(encoded(kind), TRAINED) for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
def test_where_nobody_reads_manifests_only_the_label_asks_for_a_person(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert extract(SIGNED[kind]).extracted.training_mining == UNREAD
    assert extract(signed(encoded(kind))).extracted == Extracted()

    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    assert c2pa.version() is None
    never_started = Isolated(function="pipeline.c2pa:nothing_of_that_name")
    read = functools.partial(c2pa.entries, reader=never_started)
    assert extract(SIGNED[kind], manifests=read).extracted.training_mining == UNREAD


@pytest.mark.long
def test_a_process_of_its_own_reads_the_same_and_where_it_dies_nothing_is_read() -> None:
    with c2pa.reader() as reader:
        for image in (*SIGNED.values(), SIGNED["PNG"][:-40], encoded("PNG"), b""):
            assert c2pa.entries(image, reader) == manifests(image)
    small = Isolated(
        function="pipeline.c2pa:read", settings=c2pa.SETTINGS, limits=Limits(memory_bytes=1 << 20)
    )
    with small, pytest.raises(Died):
        small.call(SIGNED["PNG"])
    read = functools.partial(c2pa.entries, reader=small)
    assert extract(SIGNED["PNG"], manifests=read).extracted.training_mining == UNREAD
    small.close()


@pytest.mark.parametrize("told", [None, "x", 1, {}, [["a"]], [["a", 1]], ["ab"], [["a", "b"], None]])
def test_an_answer_of_another_shape_is_none(told: Any) -> None:
    assert c2pa.entries_of({"entries": told}) is None
    assert c2pa.entries_of({}) is None


def test_the_version_of_the_package_is_known() -> None:
    assert c2pa.version() == importlib.metadata.version("c2pa-python")


def test_a_manifest_that_is_compressed_whole_may_hold_the_label() -> None:
    hidden = encoded("JPEG") + b"jumbbrob"
    assert extract(hidden).extracted.training_mining == UNREAD
    assert extract(hidden, manifests=lambda _: ()).extracted == Extracted(), "somebody could read it"
    assert extract(encoded("JPEG") + b"brob").extracted == Extracted()


def test_nobody_reads_a_file_without_any_sign_of_a_manifest() -> None:
    def never(_image: bytes) -> c2pa.Entries | None:
        raise AssertionError("there is nothing to read")

    for kind in KINDS:
        assert extract(encoded(kind), manifests=never).extracted == Extracted()


@pytest.fixture
def server() -> Iterator[tuple[str, list[bytes]]]:
    """An address on this machine, and the requests that came to it."""
    requests: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=answer, args=(listening, requests))
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/", requests
        listening.shutdown(socket.SHUT_RDWR)
    thread.join()


def answer(listening: socket.socket, requests: list[bytes]) -> None:
    while True:
        try:
            connection, _ = listening.accept()
        except OSError:
            return
        with connection:
            requests.append(connection.recv(1000))
            connection.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")


def opened_up(**settings: dict[str, Any]) -> dict[str, Any]:
    """The settings with some of them undone."""
    return {
        name: {**value, **settings.get(name, {})} if isinstance(value, dict) else value
        for name, value in c2pa.SETTINGS.items()
    }


SWITCHES = [(part, name) for part in ("core", "verify") for name in c2pa.SETTINGS[part]]


@pytest.mark.parametrize(("part", "name"), SWITCHES)
def test_every_switch_is_one_that_the_package_knows(part: str, name: str) -> None:
    with pytest.raises(sdk.C2paError, match="invalid type"):
        sdk.Settings.from_dict({part: {name: {"neither": "true nor a list"}}})
    sdk.Settings.from_dict({part: {f"{name}s": {"neither": "true nor a list"}}}).close()


def test_a_manifest_at_an_address_is_unread_and_nobody_asks_for_it(server: tuple[str, list[bytes]]) -> None:
    address, requests = server
    image = signed(encoded("JPEG"), TRAINED, address=f"{address}a.c2pa")
    assert told(image).unread == ("remote_manifest",)
    assert manifests(image) is None
    hosts = opened_up(core={"allowed_network_hosts": None})
    fetching = opened_up(verify={"remote_manifest_fetch": True})
    for settings in (hosts, fetching):  # each switch is enough alone
        c2pa.read(image, settings)
    assert requests == []
    c2pa.read(image, {**fetching, "core": hosts["core"]})
    assert requests, "the server would have seen it"


def test_nobody_asks_whether_a_certificate_was_revoked(server: tuple[str, list[bytes]]) -> None:
    address, requests = server
    image = signed(encoded("JPEG"), TRAINED, by=signing.identity(ocsp=address))
    assert address.encode() in image
    assert manifests(image) == (("cawg.ai_training", "notAllowed"),)
    assert requests == []
    asking = opened_up(verify={"ocsp_fetch": True}, core={"allowed_network_hosts": None})
    c2pa.read(image, asking)
    assert requests, "the server would have seen it"
