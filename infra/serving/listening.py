"""The door's socket: uvicorn, with deadlines that it lacks, and an end that waits for who is inside.

The surprising rule: Ray Serve's own HTTP proxy is not used. It waits for a request's headers without end,
and each proxy would keep rates and figures of its own. Behind the door all is Ray Serve's.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle
from uvicorn.server import HANDLED_SIGNALS

from infra.serving.door import Door

HEADERS_S = 10.0
"""For the headers of a request, from the connection or from their first byte."""
LINGER_S = 5.0
"""For the rest of a body that nobody reads, dropped as it comes: a connection closed on it is reset, and
most clients then never see why they were refused."""
UNREAD_S = 30.0
"""For an answer to be read, where it does not go out at once."""
KEEP_ALIVE_S = 15
"""Between requests."""
MAX_CONNECTIONS = 1024
BACKLOG = 256
DRAIN_S = 60.0
"""For the requests in flight when the end is asked for."""
LAST_S = 10
"""For their answers to leave."""
POLL_S = 0.05


class Deadlines(H11Protocol):
    """A connection. All that the other side has to say without an application waiting for it has a time."""

    _until: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None
    """Runs from when the other side stopped reading."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        super().connection_made(transport)
        self._arm(HEADERS_S)
        if len(self.connections) > MAX_CONNECTIONS:
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        if self._unread is not None:
            self._unread.cancel()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._unread is None:
            self._unread = self.loop.call_later(UNREAD_S, self._end_unread)

    def _end_unread(self) -> None:
        """Not from when it last read a little: that could go on without end."""
        self._unread = None
        if self.transport.get_write_buffer_size():
            self.transport.abort()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is not None and not cycle.response_complete:
            self._disarm()  # the application reads, and has its own times
        else:
            self._arm(HEADERS_S)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.conn.their_state is h11.SEND_BODY:
            self._arm(LINGER_S)

    def timeout_keep_alive_handler(self) -> None:
        if self._unread is not None:  # the pause has not begun: an answer is on its way
            self.timeout_keep_alive_task = self.loop.call_later(KEEP_ALIVE_S, self.timeout_keep_alive_handler)
        else:
            self.transport.abort()  # close() would wait for a client that does not take its answer

    def send_400_response(self, msg: str) -> None:
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):  # it has been answered already
            self.transport.close()
            return
        told = {"error": "no HTTP request", "value": msg, "fix": "send HTTP/1.1, with short headers"}
        body = json.dumps(told).encode()
        headers = [("content-type", "application/json"), ("connection", "close")]
        headers.append(("content-length", str(len(body))))
        parts = [h11.Response(status_code=400, headers=headers), h11.Data(data=body), h11.EndOfMessage()]
        for part in parts:
            self.transport.write(self.conn.send(part) or b"")
        self.transport.close()

    def _arm(self, seconds: float) -> None:
        """Once: what comes in small pieces does not extend it."""
        if self._until is None:
            self._until = self.loop.call_later(seconds, self.transport.abort)

    def _disarm(self) -> None:
        if self._until is not None:
            self._until.cancel()
            self._until = None


class Listener(uvicorn.Server):
    """Says when it listens; signals are for :class:`Asked`."""

    def __init__(self, config: uvicorn.Config, begun: Callable[[], None]) -> None:
        super().__init__(config)
        self._begun = begun

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._begun()
        sys.stdout.flush()  # the address is waited for, by who reads it from a file or a pipe

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def bound(host: str, port: int) -> socket.socket:
    """The address, taken before anything slow is started; nobody is let in yet."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With its protocol named: asyncio switches Nagle's algorithm off for what it knows to be TCP alone, and
    # with it an answer in two pieces waits 40 ms for the caller's acknowledgement of the first.
    found = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((host, port))
    except OSError as error:
        found.close()
        raise ValueError(f"--host {host} --port {port}: {error.strerror}; choose another") from error
    return found


@dataclass(slots=True)
class Asked:
    """The end, as signals ask for it: the first lets those inside be served, the second does not."""

    once: asyncio.Event = field(default_factory=asyncio.Event)
    twice: asyncio.Event = field(default_factory=asyncio.Event)

    def again(self) -> None:
        (self.twice if self.once.is_set() else self.once).set()

    @contextlib.contextmanager
    def by_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for one in HANDLED_SIGNALS:
            loop.add_signal_handler(one, self.again)
        try:
            yield
        finally:
            for one in HANDLED_SIGNALS:
                loop.remove_signal_handler(one)


async def serve(door: Door, at: socket.socket, asked: Asked, *, begun: Callable[[], None]) -> None:
    """Until the end is asked for; then nobody is let in, and those who are inside are served."""
    listener = Listener(settings(door), begun)
    running = asyncio.create_task(listener.serve(sockets=[at]))
    ending = asyncio.create_task(asked.once.wait())
    await asyncio.wait((running, ending), return_when=asyncio.FIRST_COMPLETED)
    ending.cancel()
    door.draining = True
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(DRAIN_S):
            await emptied(door, asked)
    listener.should_exit = True
    listener.force_exit = asked.twice.is_set()
    await running


async def emptied(door: Door, asked: Asked) -> None:
    while door.room.requests and not asked.twice.is_set():
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asked.twice.wait(), POLL_S)


def settings(door: Door) -> uvicorn.Config:
    return uvicorn.Config(
        door,
        http=Deadlines,
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="critical",
        access_log=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=LAST_S,
        backlog=BACKLOG,
    )
