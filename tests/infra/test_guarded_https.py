"""Guarded https: what lies at an allowed public address comes back; all else is refused, or unreachable."""

from __future__ import annotations

import contextlib
import ipaddress
import itertools
import pickle
import socket
import time
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.guarded.address import check_address, check_uri, shown
from infra.guarded.https import INTERNET, USER_AGENT, Limits, Network, Unreachable, opener
from infra.guarded.refused import Refused
from tests.infra.tls_server import HOST, PUBLIC, Route, Site, body, raw, serving

pytestmark = pytest.mark.long

SECRET = "token-that-nobody-may-see"  # noqa: S105  # planted, and looked for
URI = f"https://{HOST}/a.jpg?Signature={SECRET}"
SMALL = Limits(max_bytes=1000)
HASTY = Limits(max_bytes=1000, connect_s=0.8, total_s=1.2)
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED_1001 = b"3e9\r\n" + b"x" * 1001 + b"\r\n0\r\n\r\n"
NOT_PUBLIC = [
    "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.0.1", "0.0.0.1", "255.255.255.255", "240.0.0.1",
    "169.254.169.254", "100.64.0.1", "100.100.100.200", "192.0.0.192", "192.88.99.1", "198.18.0.1",
    "192.0.2.1", "224.0.0.1", "::", "::1", "fe80::1", "fe80::1%eth0", "fd00:ec2::254", "fec0::1", "ff02::1",
    "ff0e::1", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "::ffff:100.100.100.200", "::127.0.0.1",
    "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::a00:1", "2002:7f00:1::", "2001:0:7f00:1::",
    "2001:db8::1", "3fff::1", "100::1", "5f00::1", "not-an-address", "",
]  # fmt: skip


@pytest.fixture(scope="module")
def served() -> Iterator[Site]:
    with serving() as site:
        yield site


@pytest.fixture
def site(served: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Site:
    """A server that is trusted, and has heard nothing yet."""
    served.trust(monkeypatch, tmp_path)
    served.asked.clear()
    served.dialled.clear()
    served.routes = {"/a.jpg": body(b"image")}
    return served


def read(site: Site, network: Network | None = None, limits: Limits = SMALL) -> bytes:
    with opener({HOST}, limits=limits, network=network or site.network()).open(URI) as answer:
        content: bytes = answer.read()
    return content


def refusal(site: Site, network: Network | None = None, limits: Limits = SMALL) -> str:
    """The rule that kept it out; its message tells no secret."""
    with pytest.raises(Refused) as caught:
        read(site, network=network, limits=limits)
    assert SECRET not in str(caught.value)
    return caught.value.rule


def failure(site: Site, network: Network | None = None, limits: Limits = SMALL) -> str:
    with pytest.raises(Unreachable) as caught:
        read(site, network=network, limits=limits)
    assert SECRET not in str(caught.value)
    return str(caught.value)


def test_an_image_comes_back_as_it_was_served_and_we_say_who_we_are(site: Site) -> None:
    request = urllib.request.Request(URI, headers={"User-Agent": "Mozilla/5.0", "Cookie": "a=b"})
    with opener({HOST}, network=site.network()).open(request) as answer:
        assert (answer.status, answer.read()) == (200, b"image")
    [(path, fields)] = site.asked
    assert path == f"/a.jpg?Signature={SECRET}"
    assert fields["User-Agent"] == USER_AGENT
    assert (fields["Host"], fields["Accept-Encoding"]) == (HOST, "identity")
    assert "Cookie" not in fields


@pytest.mark.parametrize(
    ("uri", "rule"),
    [
        (f"file:///etc/passwd?{SECRET}", "scheme"),
        (f"http://{HOST}/?{SECRET}", "scheme"),
        (f"ftp://{HOST}/?{SECRET}", "scheme"),
        (f"data:,{'x' * 20}{SECRET}", "scheme"),
        (f"s3://bucket/key?{SECRET}", "scheme"),
        (f"a.jpg?{SECRET}", "scheme"),
        ("", "scheme"),
        (f"https:/{HOST}/", "scheme"),
        (f"https://{HOST}/a b", "characters"),
        (f"https://{HOST}/a\r\nHost: evil.example", "characters"),
        (f"https://{HOST}\t/", "characters"),
        (f"https://evil.example\\@{HOST}/", "characters"),
        (f"https://{HOST}/\u00e9", "characters"),
        ("https://ima\u0261es.example/", "characters"),
        (f"https://{HOST}/#{SECRET}", "fragment"),
        (f"https://user:{SECRET}@{HOST}/", "userinfo"),
        (f"https://{HOST}@evil.example/", "userinfo"),
        ("https://evil.example/", "host"),
        (f"https://sub.{HOST}/", "host"),
        (f"https://{HOST}.evil.example/", "host"),
        (f"https://{HOST}./", "host"),
        (f"https://.{HOST}/", "host"),
        ("https://images%2eexample/", "host"),
        ("https:///a.jpg", "host"),
        ("https://?", "host"),
        ("https://127.0.0.1/", "host"),
        ("https://2130706433/", "host"),
        ("https://0x7f.1/", "host"),
        ("https://127.1/", "host"),
        ("https://[::1]/", "host"),
        (f"https://{HOST}:80/", "port"),
        (f"https://{HOST}:8443/", "port"),
        (f"https://{HOST}:/", "port"),
        (f"https://{HOST}:0443/", "port"),
        (f"https://{HOST}:443:443/", "port"),
        (f"https://{HOST}/{'a' * 2048}", "length"),
    ],
)
def test_an_address_of_another_shape_is_refused_before_anything_is_asked(uri: str, rule: str) -> None:
    hosts = {HOST, "127.0.0.1", "2130706433", "0x7f.1", "127.1", "[", f"{HOST}.", ""}
    with pytest.raises(Refused, match=f"rule {rule}") as caught:
        check_uri(uri, hosts)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        (f"https://{HOST}", "/"),
        (f"https://{HOST}?a=/@", "/?a=/@"),
        ("HTTPS://IMAGES.example:443/A%20b//../@c:1?d=%2F", "/A%20b//../@c:1?d=%2F"),
        (f"https://{HOST}/{'a' * (2048 - len(HOST) - 9)}", "/" + "a" * (2048 - len(HOST) - 9)),
    ],
)
def test_a_plain_address_leads_to_its_host_and_its_path_is_left_alone(uri: str, path: str) -> None:
    target = check_uri(uri, {HOST})
    assert (target.host, target.path) == (HOST, path)


@given(st.text(), st.sampled_from(["", "https://", f"https://{HOST}"]))
def test_whatever_is_written_leads_to_an_allowed_host_or_nowhere(text: str, start: str) -> None:
    with contextlib.suppress(Refused):
        assert check_uri(start + text, {HOST}).host == HOST
    assert SECRET not in shown(f"{start}{text}?{SECRET}")


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_a_name_that_leads_to_no_public_machine_is_not_dialled(site: Site, address: str) -> None:
    for answers in [(address,), (PUBLIC, address)]:
        assert refusal(site, network=site.network(*answers)) == "address"
    assert site.dialled == []


@given(st.ip_addresses())
def test_no_address_passes_that_the_standard_library_keeps_back(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    with contextlib.suppress(Refused):
        check_address(str(address), "")
        assert address.is_global
        assert not address.is_multicast


@pytest.mark.parametrize("address", ["8.8.8.8", "::ffff:8.8.8.8", "2606:4700::1111", "2a00:1450::1"])
def test_public_machines_are_dialled(site: Site, address: str) -> None:
    assert read(site, network=site.network(address)) == b"image"
    assert site.dialled == [(address, 443)]


def test_the_address_that_was_checked_is_the_one_that_is_dialled(site: Site) -> None:
    answers = itertools.chain([(PUBLIC,)], itertools.repeat(("127.0.0.1",)))
    rebinding = Network(resolve=lambda _host, _port: next(answers), connect=site.dial)
    assert read(site, network=rebinding) == b"image"
    assert site.dialled == [(PUBLIC, 443)]
    assert refusal(site, network=rebinding) == "address"


def test_the_real_resolver_does_not_lead_to_this_machine(site: Site) -> None:
    with pytest.raises((Refused, Unreachable), match=r"rule address|unreachable"):
        opener({"localhost"}).open("https://localhost/")


@pytest.mark.parametrize("location", ["https://127.0.0.1/", f"https://{HOST}/b.jpg", "file:///etc/passwd"])
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308, 300, 304])
def test_a_redirect_is_refused_wherever_it_leads(site: Site, status: int, location: str) -> None:
    site.routes |= {"/a.jpg": body(b"", status, Location=location), "/b.jpg": body(b"image")}
    assert refusal(site) == "redirect"
    assert len(site.asked) == 1


def test_a_certificate_of_another_host_or_of_nobody_we_trust_is_a_failure(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Unreachable, match="Hostname mismatch"):
        opener({"other.example"}, network=site.network()).open("https://other.example/a.jpg")
    monkeypatch.delenv("SSL_CERT_FILE")
    assert "certificate verify failed" in failure(site)
    assert site.asked == []


def test_proxies_of_the_environment_are_not_used(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert read(site) == b"image"
    assert site.dialled == [(PUBLIC, 443)]


def endless(at: BaseHTTPRequestHandler) -> None:
    at.wfile.write(OK + b"\r\n")
    while True:
        at.wfile.write(b"x" * 4096)


def many_chunks(at: BaseHTTPRequestHandler) -> None:
    at.wfile.write(OK + b"Transfer-Encoding: chunked\r\n\r\n")
    while True:
        at.wfile.write(b"1\r\nx\r\n" * 500)


def long_chunk_names(at: BaseHTTPRequestHandler) -> None:
    at.wfile.write(OK + b"Transfer-Encoding: chunked\r\n\r\n")
    while True:
        at.wfile.write(b"1;" + b"x" * 60_000 + b"\r\nx\r\n")


def endless_head(at: BaseHTTPRequestHandler) -> None:
    while True:
        at.wfile.write(b"HTTP/1.1 100 Continue\r\na: b\r\n\r\n")


@pytest.mark.parametrize(
    "route",
    [
        body(b"x" * 1001),
        raw(OK, b"\r\n", b"x" * 1001),
        raw(OK, b"Content-Length: 999999999999\r\n\r\nx"),
        raw(OK, b"Content-Length: -1\r\n\r\n", b"x" * 1001),
        raw(OK, b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", CHUNKED_1001),
        raw(OK, b"Transfer-Encoding: chunked\r\n\r\n", b"-1\r\n", b"x" * 100_000),
        endless,
        many_chunks,
        long_chunk_names,
        endless_head,
    ],
)
def test_an_answer_over_the_budget_is_not_read_to_its_end(site: Site, route: Route) -> None:
    site.routes["/a.jpg"] = route
    assert refusal(site) == "size"


@pytest.mark.parametrize(
    ("route", "least"),
    [
        (raw(OK, b"Transfer-Encoding: chunked\r\n\r\n", CHUNKED_1001), 1001),
        (raw(OK, b"Content-Length: 1000\r\n\r\n", b"x" * 999), 999),
        (body(b"image"), 0),
    ],
)
def test_it_is_told_how_much_came_of_an_answer_that_is_not_handed_on(
    site: Site, route: Route, least: int
) -> None:
    site.routes["/a.jpg"] = route
    told: list[int] = []
    guard = opener({HOST}, limits=SMALL, network=site.network(), cut_short=told.append)
    with contextlib.suppress(Refused, Unreachable), guard.open(URI):
        pass
    assert [least <= num_bytes < least + 200 for num_bytes in told] == [True] * bool(least)


def test_the_budget_itself_is_allowed(site: Site) -> None:
    full = b"x" * 1000
    chunked = OK + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 1000 + b"0\r\n\r\n"
    for route in (body(full), raw(OK, b"\r\n", full), raw(chunked)):
        site.routes["/a.jpg"] = route
        assert read(site) == full


def test_a_length_that_is_too_short_ends_the_answer_there(site: Site) -> None:
    site.routes["/a.jpg"] = raw(OK, b"Content-Length: 2\r\n\r\nimage")
    assert read(site) == b"im"


@pytest.mark.parametrize(
    "route",
    [
        raw(OK, b"Content-Length: 6\r\n\r\nimage"),
        raw(OK, b"Transfer-Encoding: chunked\r\n\r\n6\r\nimage"),
        raw(OK, b"Transfer-Encoding: chunked\r\n\r\n", SECRET.encode(), b"\r\n"),
        raw(b""),
    ],
)
def test_an_answer_that_ends_early_may_be_whole_the_next_time(site: Site, route: Route) -> None:
    site.routes["/a.jpg"] = route
    assert "early" in failure(site)


def test_a_slow_drip_ends_with_the_time_and_silence_before_it(site: Site) -> None:
    def drip(at: BaseHTTPRequestHandler) -> None:
        at.wfile.write(OK + b"Content-Length: 900\r\n\r\n")
        while not site.closing.wait(0.1):
            at.wfile.write(b"x")

    def drip_of_a_head(at: BaseHTTPRequestHandler) -> None:
        while not site.closing.wait(0.1):
            at.wfile.write(b"H")

    for route in (drip, drip_of_a_head):
        site.routes["/a.jpg"] = route
        began = time.monotonic()
        assert refusal(site, limits=HASTY) == "time"
        assert 1.2 <= time.monotonic() - began < 4.0

    def mute(_at: BaseHTTPRequestHandler) -> None:
        site.closing.wait(5)

    site.routes["/a.jpg"] = mute
    began = time.monotonic()
    assert "timed out" in failure(site, limits=HASTY)
    assert 0.8 <= time.monotonic() - began < 4.0


@pytest.mark.parametrize(
    "field",
    [{"Content_Encoding": "gzip"}, {"Content_Encoding": "br"}, {"Transfer_Encoding": "gzip, chunked"}],
)
def test_a_compressed_answer_is_refused(site: Site, field: dict[str, str]) -> None:
    site.routes["/a.jpg"] = body(b"image", **field)
    assert refusal(site) == "encoding"


def test_an_encoding_that_is_none_is_taken(site: Site) -> None:
    site.routes["/a.jpg"] = body(b"image", Content_Encoding="Identity")
    assert read(site) == b"image"


@pytest.mark.parametrize("status", [201, 204, 206, 400, 401, 403, 404, 410, 451])
def test_a_status_that_will_stay_is_a_refusal(site: Site, status: int) -> None:
    site.routes["/a.jpg"] = body(b"", status)
    assert refusal(site) == "status"


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_a_status_that_may_pass_is_a_failure(site: Site, status: int) -> None:
    site.routes["/a.jpg"] = body(b"", status)
    assert str(status) in failure(site)


@pytest.mark.parametrize(
    "answer",
    [
        f"GET /a.jpg?Signature={SECRET}\r\n\r\n".encode(),
        b"HTTP/1.1 " + SECRET.encode() + b"\r\n\r\n",
        OK + b"a: b\r\n" * 101 + b"\r\n",
    ],
)
def test_an_answer_that_is_not_http_is_refused_and_not_repeated(site: Site, answer: bytes) -> None:
    site.routes["/a.jpg"] = raw(answer)
    assert refusal(site) == "protocol"


def test_no_machine_no_name_and_no_answer_are_failures(site: Site) -> None:
    def nobody(_host: str, _port: int) -> tuple[str, ...]:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    def closed(_at: tuple[str, int], _timeout_s: float) -> socket.socket:
        raise ConnectionRefusedError(111, "Connection refused")

    assert "name resolution" in failure(site, Network(resolve=nobody, connect=site.dial))
    assert "no address" in failure(site, Network(resolve=lambda *_: (), connect=site.dial))
    assert "refused" in failure(site, Network(resolve=lambda *_: (PUBLIC,), connect=closed))


def test_a_machine_that_does_not_speak_tls_is_given_up_in_time(site: Site) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:

        def dial(_at: tuple[str, int], _timeout_s: float) -> socket.socket:
            return socket.create_connection(mute.getsockname())

        began = time.monotonic()
        network = Network(resolve=lambda *_: (PUBLIC,), connect=dial)
        assert "timed out" in failure(site, network, limits=HASTY)
        assert 0.8 <= time.monotonic() - began < 4.0


def test_what_travels_between_processes_survives_it() -> None:
    assert pickle.loads(pickle.dumps((INTERNET, SMALL))) == (INTERNET, SMALL)  # noqa: S301  # ours
    error = pickle.loads(pickle.dumps(Unreachable("https://a.example/", "it is away")))  # noqa: S301  # ours
    assert str(error) == "https://a.example/: unreachable: it is away; try again later"
