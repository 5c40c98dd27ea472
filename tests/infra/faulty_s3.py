"""A proxy before a real S3 server that does to requests what networks and busy servers do.

In a test: ``with FaultyS3(upstream) as proxy: proxy.faults = [Fault(kind="slow-down", count=3)]``. In a
process of its own (another host, or a network namespace) the faults are a JSON list in a file, which is read
again whenever it is replaced, and a line of JSON on stdout tells each one that was done:

    python tests/infra/faulty_s3.py --listen 10.0.0.9:8333 --upstream 127.0.0.1:18333 --control faults.json

    [{"kind": "reset-after", "methods": ["PUT"], "path": "/leases/", "share": 0.3, "seed": 7}]

The Host header, which is signed, passes as it came. Requests and answers are held whole in memory.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import http.client
import json
import random
import re
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal, Self

Kind = Literal[
    "slow-down",  # 503 SlowDown; the server is not asked
    "internal-error",  # 500 InternalError; the server is not asked
    "conflict",  # 409 ConditionalRequestConflict; the server is not asked
    "error-in-200",  # 200 with InternalError in its body; the server is not asked
    "reset-before",  # the connection is reset; the server is not asked
    "reset-after",  # the server does it, and the answer is lost
    "reset-midway",  # half of the answer, then a reset
    "truncated",  # half of the body that the answer announces, then an orderly end
    "corrupt",  # one bit of the answer's body is another
    "corrupt-upload",  # one bit of the request's body is another
    "slow",  # nothing for `first_byte_s`, then `bytes_per_s`
    "hang",  # nothing is ever answered
    "out",  # connections are refused, and those there were are reset, for `seconds`
]
Address = tuple[str, int]
BLOCK = 1 << 16
PAUSE_S = 0.05
XML = b'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>%s</Code><Message>by the test</Message></Error>'
ANSWERS: dict[str | None, tuple[str, bytes]] = {
    "slow-down": ("503 Slow Down", b"SlowDown"),
    "internal-error": ("500 Internal Server Error", b"InternalError"),
    "conflict": ("409 Conflict", b"ConditionalRequestConflict"),
    "error-in-200": ("200 OK", b"InternalError"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    kind: Kind
    methods: Sequence[str] = ()
    """Which requests; none named: all."""
    path: str = ""
    """A pattern that is looked for in the target, such as ``/leases/`` or ``list-type=2``."""
    share: float = 1.0
    count: int | None = None
    """After so many requests it is over."""
    seed: int = 0
    """Of the share that is drawn."""
    bytes_per_s: float = float("inf")
    first_byte_s: float = 0.0
    seconds: float | None = None
    """Of an outage; ``None``: until the faults are others."""


@dataclass(frozen=True, slots=True)
class Done:
    """What was done to a request."""

    kind: Kind
    method: str
    target: str


@dataclass(slots=True)
class _Armed:
    fault: Fault
    left: float
    rng: random.Random

    @staticmethod
    def of(fault: Fault) -> _Armed:
        left = float("inf") if fault.count is None else fault.count
        return _Armed(fault, left, random.Random(fault.seed))  # noqa: S311  # no secret

    def meets(self, request: _Message) -> bool:
        fault = self.fault
        wanted = not fault.methods or request.method in fault.methods
        wanted = wanted and bool(re.search(fault.path, request.target))
        if fault.kind == "out" or self.left < 1 or not wanted or self.rng.random() >= fault.share:
            return False
        self.left -= 1
        return True


@dataclass(frozen=True, slots=True)
class _Message:
    first: str
    headers: Sequence[tuple[str, str]]
    body: bytes

    @property
    def method(self) -> str:
        return self.first.partition(" ")[0]

    @property
    def target(self) -> str:
        return self.first.split(" ")[1]

    def flipped(self) -> _Message:
        """One bit of the body is another; what carries no body stays as it is."""
        spoilt = bytearray(self.body)
        if spoilt:
            spoilt[len(spoilt) // 2] ^= 1
        return dataclasses.replace(self, body=bytes(spoilt))

    @property
    def head(self) -> bytes:
        lines = [self.first, *(f"{name}: {value}" for name, value in self.headers)]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


class FaultyS3:
    """Listens from ``start``, or entering, on. ``faults`` may be others at any time."""

    def __init__(
        self,
        upstream: Address,
        listen: Address = ("127.0.0.1", 0),
        tell: Callable[[Done], None] | None = None,
    ) -> None:
        self.done: list[Done] = []
        self._upstream, self._listen, self._tell = upstream, listen, tell
        self._armed: list[_Armed] = []
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._listener: socket.socket | None = None
        self._stopped = threading.Event()
        self._back = 0.0
        """When an outage ends."""

    def start(self) -> Self:
        self._up()
        threading.Thread(target=self._accept, daemon=True, name="faulty-s3").start()
        return self

    def stop(self) -> None:
        self._stopped.set()
        self._down()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def address(self) -> Address:
        """Where it listens, outages included."""
        return self._listen

    @property
    def endpoint(self) -> str:
        return "http://{}:{}".format(*self._listen)

    @property
    def faults(self) -> list[Fault]:
        with self._lock:
            return [armed.fault for armed in self._armed]

    @faults.setter
    def faults(self, faults: Sequence[Fault]) -> None:
        outs = [fault for fault in faults if fault.kind == "out"]
        with self._lock:
            self._armed = [_Armed.of(fault) for fault in faults]
        if outs:
            self._back = time.monotonic() + min(
                float("inf") if f.seconds is None else f.seconds for f in outs
            )
            self._down()
            self._note(Done("out", "", ""))
        else:
            self._back = 0.0

    def _note(self, done: Done) -> None:
        self.done.append(done)
        if self._tell is not None:
            self._tell(done)

    def _up(self) -> None:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(self._listen)
        listener.listen(128)
        listener.settimeout(PAUSE_S)
        self._listen, self._listener = listener.getsockname(), listener

    def _down(self) -> None:
        with self._lock:
            listener, self._listener = self._listener, None
            left, self._open = self._open, set()
        if listener is not None:
            listener.close()
        for one in left:
            reset(one)

    def _accept(self) -> None:
        while not self._stopped.is_set():
            listener = self._listener
            if listener is None:
                if time.monotonic() >= self._back:
                    self._up()
                else:
                    time.sleep(PAUSE_S)
                continue
            with contextlib.suppress(OSError):  # nobody came, or it was closed meanwhile
                connection, _ = listener.accept()
                connection.settimeout(None)
                with self._lock:
                    self._open.add(connection)
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection.makefile("rb") as reader:
                while (request := received(reader, connection)) is not None:
                    if not self._answer(connection, request):
                        break
        except OSError:  # either side went away
            pass
        finally:
            with self._lock:
                self._open.discard(connection)
            connection.close()

    def _fault(self, request: _Message) -> Fault | None:
        with self._lock:
            met = next((armed.fault for armed in self._armed if armed.meets(request)), None)
        if met is not None:
            self._note(Done(met.kind, request.method, request.target))
        return met

    def _answer(self, connection: socket.socket, request: _Message) -> bool:
        """Whether the connection goes on."""
        fault = self._fault(request)
        kind = None if fault is None else fault.kind
        if kind in ANSWERS:
            told = refusal(kind)
            connection.sendall(told.head + (b"" if request.method == "HEAD" else told.body))
            return True
        if kind == "hang":
            while not self._stopped.is_set() and fault in self.faults:
                time.sleep(PAUSE_S)
            return False
        if kind == "reset-before":
            reset(connection)
            return False
        answer = self._asked(request.flipped() if kind == "corrupt-upload" else request)
        return carried(connection, answer, fault)

    def _asked(self, request: _Message) -> _Message:
        """What the server answers, by a connection of its own."""
        server = http.client.HTTPConnection(*self._upstream, timeout=60)
        try:
            server.putrequest(request.method, request.target, skip_host=True, skip_accept_encoding=True)
            for name, value in request.headers:
                if name.lower() not in OWN:
                    server.putheader(name, value)
            server.putheader("Content-Length", str(len(request.body)))
            server.endheaders(request.body)
            answer = server.getresponse()
            body = answer.read()
            length = answer.headers["Content-Length"] if request.method == "HEAD" else str(len(body))
            headers = [(name, value) for name, value in answer.getheaders() if name.lower() not in OWN]
            return _Message(
                f"HTTP/1.1 {answer.status} {answer.reason}",
                [*headers, ("Content-Length", length or "0")] if answer.status != NO_CONTENT else headers,
                body,
            )
        except http.client.HTTPException as error:
            raise ConnectionError(f"the server behind the proxy failed: {type(error).__name__}") from error
        finally:
            server.close()


OWN = frozenset({"connection", "content-length", "expect", "keep-alive", "transfer-encoding"})
"""Headers of one connection, which the next one has by itself."""
NO_CONTENT = 204


def refusal(kind: Kind | None) -> _Message:
    line, code = ANSWERS[kind]
    body = XML % code
    headers = [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))]
    return _Message(f"HTTP/1.1 {line}", headers, body)


def carried(connection: socket.socket, answer: _Message, fault: Fault | None) -> bool:
    """Send what the server answered, or what the fault leaves of it; whether the connection goes on."""
    kind = None if fault is None else fault.kind
    if kind == "reset-after":
        reset(connection)
        return False
    if kind in ("reset-midway", "truncated"):
        connection.sendall(answer.head + answer.body[: len(answer.body) // 2])
        if kind == "reset-midway":
            time.sleep(PAUSE_S)  # a reset throws away what was not read yet
            reset(connection)
        return False
    if kind == "corrupt":
        answer = answer.flipped()
    if fault is None or kind != "slow":
        connection.sendall(answer.head + answer.body)
        return True
    time.sleep(fault.first_byte_s)
    told = answer.head + answer.body
    step = max(int(min(fault.bytes_per_s * PAUSE_S, len(told))), 1)
    for at in range(0, len(told), step):
        connection.sendall(told[at : at + step])
        time.sleep(step / fault.bytes_per_s)
    return True


def reset(connection: socket.socket) -> None:
    """End it by RST: what lies in its buffers is lost."""
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        # The descriptor stays with whoever reads it; the connection must end now.
        connection.shutdown(socket.SHUT_RD)
    with contextlib.suppress(OSError):
        connection.close()


def received(reader: BinaryIO, connection: socket.socket) -> _Message | None:
    """The next request; nothing where the client has ended."""
    first = reader.readline(BLOCK).decode("latin-1").rstrip("\r\n")
    if not first:
        return None
    headers = []
    while line := reader.readline(BLOCK).decode("latin-1").rstrip("\r\n"):
        name, _, value = line.partition(":")
        headers.append((name, value.strip()))
    named = {name.lower(): value for name, value in headers}
    if named.get("expect", "").lower() == "100-continue":
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    if named.get("transfer-encoding", "").lower() == "chunked":
        body = b"".join(iter(lambda: chunk(reader), b""))
    else:
        body = reader.read(int(named.get("content-length", 0)))
    return _Message(first, headers, body)


def chunk(reader: BinaryIO) -> bytes:
    size = int(reader.readline(BLOCK).partition(b";")[0], 16)
    data = reader.read(size)
    reader.readline(BLOCK)
    return data


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--listen", required=True, type=address, help="HOST:PORT")
    parser.add_argument("--upstream", required=True, type=address, help="HOST:PORT of the S3 server")
    parser.add_argument("--control", required=True, type=Path, help="file with the faults, a JSON list")
    options = parser.parse_args()
    with FaultyS3(options.upstream, options.listen, tell) as proxy:
        read: tuple[int, int] | None = None
        while True:
            with contextlib.suppress(FileNotFoundError):
                found = options.control.stat()
                if (found.st_mtime_ns, found.st_ino) != read:
                    read = found.st_mtime_ns, found.st_ino
                    proxy.faults = [Fault(**one) for one in json.loads(options.control.read_text())]
            time.sleep(PAUSE_S)


def address(text: str) -> Address:
    host, _, port = text.rpartition(":")
    return host, int(port)


def tell(done: Done) -> None:
    sys.stdout.write(json.dumps({"time": time.time(), **dataclasses.asdict(done)}) + "\n")
    sys.stdout.flush()


def write_faults(control: Path, faults: Sequence[Fault]) -> None:
    """For a proxy in another process, which reads them within 0.1 s."""
    told = [
        {key: value for key, value in dataclasses.asdict(one).items() if value != float("inf")}
        for one in faults
    ]
    part = control.with_name(control.name + ".new")
    part.write_text(json.dumps(told))
    part.replace(control)


if __name__ == "__main__":
    main()
