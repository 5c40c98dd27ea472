"""The door's times and room: nobody holds it up, nobody fills it, and its end waits for those inside."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator

import httpx
import pytest

from infra.serving import bodies, listening
from infra.serving.callers import Anyone, Rates, Room

from .served import BEARER, JPEG, MAX_BODY, TOKEN, Served, in_base64, picture, refused, served

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def service() -> Iterator[Served]:
    with served() as found:
        yield found


def test_what_is_no_http_is_answered_as_json(service: Served) -> None:
    for words in (b"\x16\x03\x01\0\0\r\n\r\n", b"GET / HTTP/1.1\r\nX: " + b"x" * 100_000):
        with service.connected() as peer:
            peer.sendall(words)
            answer = peer.makefile("rb").read()
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"] == "no HTTP request"


def test_garbage_after_an_answer_ends_the_connection_and_nothing_else(
    service: Served, caplog: pytest.LogCaptureFixture
) -> None:
    with service.connected() as peer, contextlib.suppress(ConnectionError):
        peer.sendall(b"POST /encode HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        assert peer.recv(100).startswith(b"HTTP/1.1 401 ")
        peer.sendall(b"no chunk\r\n" * 20)
        while peer.recv(1000):
            pass
    assert httpx.get(f"{service.url}/healthz").status_code == 200
    assert not caplog.records


def test_an_answer_does_not_wait_until_its_first_piece_is_acknowledged(service: Served) -> None:
    """Which a caller does 40 ms later, by Nagle's algorithm against delayed acknowledgements."""
    waits = []
    with httpx.Client() as client:
        for _ in range(20):
            began = time.monotonic()
            client.get(f"{service.url}/openapi.json")
            waits.append(time.monotonic() - began)
    assert min(waits) < 0.03


def test_headers_that_never_end_end_the_connection(service: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "HEADERS_S", 0.5)
    began = time.monotonic()
    with service.connected() as peer, pytest.raises((ConnectionError, EOFError)):
        peer.sendall(b"GET /healthz HTTP/1.1\r\n")
        while time.monotonic() - began < 10:
            peer.sendall(b"X: y\r\n")
            time.sleep(0.1)
    assert time.monotonic() - began < 5


def test_a_body_that_dawdles_is_refused(service: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "BODY_S", 0.5)
    head = f"POST /encode HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nContent-Type: image/png\r\n"
    with service.connected() as peer:
        peer.sendall(head.encode() + b"Content-Length: 1000\r\n\r\nabc")
        assert peer.recv(100).startswith(b"HTTP/1.1 408 ")


def test_a_body_that_is_refused_is_not_listened_to_for_ever(
    service: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listening, "LINGER_S", 0.5)
    began = time.monotonic()
    with service.connected() as peer, pytest.raises(ConnectionError):
        peer.sendall(b"POST /encode HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n")
        assert peer.recv(100).startswith(b"HTTP/1.1 401 ")
        while time.monotonic() - began < 10:
            peer.sendall(b"x")
            time.sleep(0.05)
    assert time.monotonic() - began < 5


def test_answers_that_nobody_reads_end_the_connection(
    service: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listening, "UNREAD_S", 0.5)
    began = time.monotonic()
    with service.connected() as peer, pytest.raises(ConnectionError):
        peer.settimeout(10)
        while time.monotonic() - began < 10:
            peer.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 10)
    assert httpx.get(f"{service.url}/healthz").status_code == 200


def test_a_token_that_asks_too_much_waits_as_long_as_it_is_told() -> None:
    with served(rates=Rates(per_s=2, burst=3)) as service:
        three = {"images": in_base64([picture(1)] * 4)}
        assert service.post("/encode", json=three).status_code == 200
        answer = service.post("/encode", json=three)
        refused(answer, 429, "too many images")
        assert answer.headers["retry-after"] == "1"
        time.sleep(1.1)
        assert service.post("/encode", content=picture(1), headers=JPEG).status_code == 200


def test_a_full_queue_says_when_to_come_again() -> None:
    with served(room=Room(max_requests=1, max_bytes=MAX_BODY), callers=Anyone()) as service:
        service.coder.held.clear()
        with service.connected() as peer:
            image = picture(1)
            head = (
                f"POST /encode HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: {len(image)}"
            )
            peer.sendall(head.encode() + b"\r\n\r\n" + image)
            while not service.door.room.bytes:
                time.sleep(0.01)
            answer = httpx.post(f"{service.url}/encode", content=image, headers=JPEG)
            refused(answer, 503, "queue is full")
            assert answer.headers["retry-after"] == "1"
            service.do(service.coder.held.set)
            assert peer.recv(100).startswith(b"HTTP/1.1 200 ")
        assert (service.door.room.requests, service.door.room.bytes) == (0, 0)


def test_the_end_waits_for_those_inside_and_lets_nobody_in() -> None:
    with served() as service:
        service.coder.held.clear()
        with service.connected() as peer:
            image = picture(1)
            head = f"POST /encode HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n"
            head += f"Content-Type: image/png\r\nContent-Length: {len(image)}\r\n\r\n"
            peer.sendall(head.encode() + image)
            while not service.door.room.requests:
                time.sleep(0.01)
            service.do(service.asked.again)
            while httpx.get(f"{service.url}/healthz").status_code != 503:
                time.sleep(0.01)
            refused(service.post("/encode", content=image, headers=JPEG), 503, "about to end")
            assert httpx.get(f"{service.url}/healthz").json() == {"status": "draining"}
            service.do(service.coder.held.set)
            assert peer.recv(100).startswith(b"HTTP/1.1 200 ")
        service.thread.join(10)
        assert not service.thread.is_alive()
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{service.url}/healthz", headers=BEARER)
