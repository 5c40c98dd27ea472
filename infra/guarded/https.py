"""Follow an https address that we did not write: allowed hosts, public machines, no redirects, budgets.

The only way our code follows one. A name is resolved once, every answer is checked, and the connection goes
to the address that was checked, so that a name which resolves differently a moment later changes nothing;
the certificate is still that of the name. Proxies of the environment are not used: they would resolve again.

The surprising rule: no message repeats a query string, which may hold a delivery's access token, nor
anything that the server said but its status number, since a server may say back what it was asked.
"""

from __future__ import annotations

import contextlib
import http.client
import importlib.metadata
import io
import socket
import ssl
import time
import urllib.request
import urllib.response
from collections.abc import Callable, Collection
from dataclasses import dataclass

from infra.guarded.address import PORT, Target, check_address, check_uri
from infra.guarded.refused import Refused

PIECE = 64 * 1024
USER_AGENT = f"pardalis/{importlib.metadata.version('pardalis')}"
BUSY = frozenset({408, 425, 429})


class Unreachable(Exception):
    """Nothing is known about what lies at an address: the network or the server failed. Try again later."""

    def __init__(self, place: str, detail: str) -> None:
        super().__init__(place, detail)  # both, so that the exception survives pickling between processes
        self.place = place
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.place}: unreachable: {self.detail}; try again later"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Budgets of one answer."""

    max_bytes: int = 64 * 1024 * 1024
    connect_s: float = 10.0
    """For the connection, for TLS, and the longest silence after that."""
    total_s: float = 120.0
    """For the whole answer. Looking up the name is the system's own affair, and outside of both."""


ANSWER = Limits()


def resolve(host: str, port: int) -> tuple[str, ...]:
    """The addresses of a name, of the families that this machine has."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
    return tuple(dict.fromkeys(str(place[0]) for *_, place in found))


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """How names are resolved and machines dialled. What ``resolve`` answers is always checked."""

    resolve: Callable[[str, int], tuple[str, ...]] = resolve
    connect: Callable[[tuple[str, int], float], socket.socket] = socket.create_connection


INTERNET = Network()


def forget(_num_bytes: int) -> None:
    """For those who have no budget of their own."""


def opener(
    hosts: Collection[str],
    *,
    limits: Limits = ANSWER,
    network: Network = INTERNET,
    cut_short: Callable[[int], object] = forget,
) -> urllib.request.OpenerDirector:
    """Opens https addresses on ``hosts``, and nothing else. What it opens has been read to its end.

    ``cut_short`` hears how many bytes had come of an answer that is not handed on.

    It sends its own headers only, and keeps to ``limits`` whatever timeout it is asked for. ``open`` raises
    :class:`Unreachable`, or :class:`Refused` with a rule of :func:`check_uri`, or ``address``, ``redirect``,
    ``status``, ``encoding``, ``size``, ``time`` or ``protocol``.
    """
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    director = urllib.request.OpenerDirector()
    handler = _Https(
        hosts=frozenset(hosts), limits=limits, network=network, context=context, cut_short=cut_short
    )
    director.add_handler(handler)
    return director


@dataclass(kw_only=True, eq=False)
class _Https(urllib.request.BaseHandler):
    hosts: frozenset[str]
    limits: Limits
    network: Network
    context: ssl.SSLContext
    cut_short: Callable[[int], object]

    def default_open(self, request: urllib.request.Request) -> urllib.response.addinfourl:
        """Asked before any handler that is named after a scheme, so it sees every scheme."""
        target = check_uri(request.full_url, self.hosts)
        try:
            with self._connected(target) as tls:
                answer, body = self._answer(tls, target)
        except OSError as error:
            raise Unreachable(target.place, str(error) or type(error).__name__) from None
        return urllib.response.addinfourl(io.BytesIO(body), answer.headers, request.full_url, answer.status)

    def _connected(self, target: Target) -> ssl.SSLSocket:
        addresses = self.network.resolve(target.host, PORT)
        if not addresses:
            raise Unreachable(target.place, "its host has no address")
        for address in addresses:
            check_address(address, target.place)
        plain = self.network.connect((addresses[0], PORT), self.limits.connect_s)
        with contextlib.closing(plain):  # TLS takes the socket over, and leaves nothing here to close
            plain.settimeout(self.limits.connect_s)
            return self.context.wrap_socket(plain, server_hostname=target.host)

    def _answer(self, tls: ssl.SSLSocket, target: Target) -> tuple[http.client.HTTPResponse, bytes]:
        tls.sendall(_question(target))
        wire = _Wire(tls, self.limits)
        answer = http.client.HTTPResponse(wire, method="GET")  # type: ignore[arg-type]  # it wants makefile only
        try:
            with contextlib.closing(answer), contextlib.ExitStack() as failing:
                failing.callback(lambda: self.cut_short(wire.num_bytes))
                answer.begin()
                _check_head(answer, target.place)
                body = _body(answer, target.place, self.limits.max_bytes)
                failing.pop_all()
                return answer, body
        except _Spent as spent:
            raise Refused(target.place, "", spent.rule, spent.detail) from None
        except (http.client.IncompleteRead, http.client.RemoteDisconnected):
            raise Unreachable(target.place, "the answer ended early") from None
        except http.client.HTTPException as error:
            told = f"the answer is not HTTP ({type(error).__name__})"
            raise Refused(target.place, "", "protocol", told) from None


def _question(target: Target) -> bytes:
    lines = (
        f"GET {target.path} HTTP/1.1",
        f"Host: {target.host}",
        f"User-Agent: {USER_AGENT}",
        "Accept: image/*, */*;q=0.1",
        "Accept-Encoding: identity",
        "Connection: close",
    )
    return "".join(f"{line}\r\n" for line in (*lines, "")).encode("ascii")


def _check_head(answer: http.client.HTTPResponse, place: str) -> None:
    status = answer.status
    if status in BUSY or status >= 500:
        raise Unreachable(place, f"the status is {status}")
    if 300 <= status < 400:
        raise Refused(place, "", "redirect", f"the status is {status}; give the address that it leads to")
    if status != http.HTTPStatus.OK:
        raise Refused(place, "", "status", f"the status is {status}, and only 200 will do")
    for field, plain in (("Content-Encoding", "identity"), ("Transfer-Encoding", "chunked")):
        if any(value.strip().lower() != plain for value in answer.headers.get_all(field, [])):
            raise Refused(place, "", "encoding", f"its {field} is not {plain}; serve the file as it is")


def _body(answer: http.client.HTTPResponse, place: str, most: int) -> bytes:
    """In pieces: a list of an answer's one-byte chunks would take many times its size."""
    if (answer.length or 0) > most:
        raise Refused(place, "", "size", f"{answer.length} bytes are announced, at most {most} are read")
    body = bytearray()
    while piece := answer.read(PIECE):
        body += piece
        if len(body) > most:
            raise Refused(place, "", "size", f"it goes on after {most} bytes, and no more are read")
    if answer.length:
        raise Unreachable(place, f"the answer ended {answer.length} bytes early")
    return bytes(body)


class _Spent(Exception):
    """A budget of ours. Not Refused, which is a ValueError, which http.client takes for a bad chunk."""

    def __init__(self, rule: str, detail: str) -> None:
        super().__init__(rule, detail)
        self.rule = rule
        self.detail = detail


class _Wire(io.RawIOBase):
    """What arrives, within the budgets, whatever the answer says of its own length."""

    def __init__(self, tls: ssl.SSLSocket, limits: Limits) -> None:
        self.tls, self.limits = tls, limits
        self.deadline = time.monotonic() + limits.total_s
        self.num_bytes = 0
        # Of head and framing an eighth and 64 KiB more: a chunk of 512 bytes is framed by seven.
        self.max_bytes = limits.max_bytes + limits.max_bytes // 8 + PIECE

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # what BufferedReader hands over
        self.tls.settimeout(min(self._left_s(), self.limits.connect_s))
        try:
            count = self.tls.recv_into(buffer)
        except TimeoutError:
            self._left_s()
            raise
        self.num_bytes += count
        if self.num_bytes > self.max_bytes:
            raise _Spent("size", "its head, or the framing of its chunks, is too large")
        return count

    def _left_s(self) -> float:
        left_s = self.deadline - time.monotonic()
        if left_s <= 0:
            told = f"it is still coming after {self.limits.total_s:g} s"
            raise _Spent("time", f"{told}; deliver the file instead")
        return left_s
