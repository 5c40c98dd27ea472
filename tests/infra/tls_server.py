"""A real TLS server on loopback, and a network on which a public address leads to it.

Only resolving and dialling are replaced, as ``Network`` allows: what the resolver answers is checked as ever.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import trustme

from infra.guarded.https import Network

HOST = "images.example"
PUBLIC = "8.8.8.8"
Route = Callable[[BaseHTTPRequestHandler], None]


@dataclass(kw_only=True)
class Site:
    """What is served, and what was asked."""

    port: int
    authority: trustme.CA
    routes: dict[str, Route]
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    dialled: list[tuple[str, int]] = field(default_factory=list)
    closing: threading.Event = field(default_factory=threading.Event)

    def network(self, *answers: str) -> Network:
        """On which every name resolves to ``answers``."""
        return Network(resolve=lambda _host, _port: answers or (PUBLIC,), connect=self.dial)

    def dial(self, at: tuple[str, int], timeout_s: float) -> socket.socket:
        self.dialled.append(at)
        return socket.create_connection(("127.0.0.1", self.port), timeout_s)

    def trust(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        """Through the variable that OpenSSL reads, so that the code under test is the code in use."""
        self.authority.cert_pem.write_to_path(folder / "authority.pem")
        monkeypatch.setenv("SSL_CERT_FILE", str(folder / "authority.pem"))


def body(content: bytes, status: int = 200, **fields: str) -> Route:
    """An answer with its length, and further fields (``_`` stands for ``-``)."""

    def answer(at: BaseHTTPRequestHandler) -> None:
        at.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **fields}.items():
            at.send_header(name.replace("_", "-"), value)
        at.end_headers()
        at.wfile.write(content)

    return answer


def raw(*parts: bytes) -> Route:
    """An answer as it stands, head and all."""

    def answer(at: BaseHTTPRequestHandler) -> None:
        for part in parts:
            at.wfile.write(part)

    return answer


class _Server(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """Clients hang up here on purpose."""


@contextlib.contextmanager
def serving(host: str = HOST) -> Iterator[Site]:
    """A site whose certificate names ``host``; routes are added by whoever asks for them."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(host).configure_cert(context)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            site.asked.append((self.path, dict(self.headers)))
            site.routes[self.path.partition("?")[0]](self)

        def log_message(self, *_: object) -> None:
            """Tests look at what was asked instead."""

    with _Server(("127.0.0.1", 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        site = Site(port=server.server_port, authority=authority, routes={})
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield site
        finally:
            site.closing.set()
            server.shutdown()
            thread.join()
