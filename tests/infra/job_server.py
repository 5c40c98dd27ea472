"""What Ray's job server says, with faults on demand: a cut stream, a silent one, a server that is away.

Ray's own client asks it. How a real one answers is tested where there is a cluster (tests/cluster).
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

JOB = "raysubmit_of_this_test"
CUT, SILENT, REFUSED = "cut", "silent", "refused"
"""How a stream ends; else with the log."""


@dataclass(kw_only=True)
class JobServer:
    """A log, and how each stream of it goes: what it sends, then a fault. With the last the job ends."""

    log: str
    streams: list[tuple[str, str | None]]
    """How much of the log each sends, and its fault."""
    code: int = 0
    away: int = 0
    """Answers of 503, once the first stream has ended, to who asks about the job."""
    mute: bool = False
    """Nothing at all in their place."""
    first_s: float = 0.0
    """How long the first stream takes."""
    sent: int = 0
    """Characters, in streams and in whole logs."""
    submitted: list[dict[str, Any]] = field(default_factory=list)
    over: bool = False
    _refusals: int = 0
    _opened: int = 0

    async def version(self, _request: web.Request) -> web.Response:
        return web.json_response({"version": "4", "ray_version": "2.60.0", "ray_commit": "0"})

    async def submit(self, request: web.Request) -> web.Response:
        self.submitted.append(await request.json())
        return web.json_response({"job_id": JOB, "submission_id": JOB})

    async def told(self, _request: web.Request) -> web.Response:
        if self._refusals:
            self._refusals -= 1
            if self.mute:
                await asyncio.sleep(3600)
            return web.Response(status=503, text="the head is starting")
        ended = {"status": "SUCCEEDED" if self.code == 0 else "FAILED", "driver_exit_code": self.code}
        status = ended if self.over else {"status": "RUNNING"}
        return web.json_response({"type": "SUBMISSION", "entrypoint": "", "submission_id": JOB} | status)

    async def whole(self, _request: web.Request) -> web.Response:
        self.sent += len(self.log)
        return web.json_response({"logs": self.log})

    async def tail(self, request: web.Request) -> web.StreamResponse:
        if self._refusals:
            return web.Response(status=503)
        part, fault = self.streams[min(self._opened, len(self.streams) - 1)]
        self._opened += 1
        self.over = self._opened >= len(self.streams)
        if fault == REFUSED:
            return web.Response(status=500)
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        for start in range(0, len(part), 7):  # as they come, and not by lines
            await socket.send_str(part[start : start + 7])
            self.sent += len(part[start : start + 7])
        await asyncio.sleep(self.first_s if self._opened == 1 else 0)
        if fault == SILENT:
            await asyncio.sleep(3600)
        self._refusals = self.away if self._opened == 1 and not self.over else 0
        if fault == CUT:
            assert request.transport is not None
            request.transport.abort()
        return socket


@contextlib.contextmanager
def serving(server: JobServer) -> Iterator[str]:
    """At an address of this machine."""
    loop, address = asyncio.new_event_loop(), list[str]()

    async def start() -> web.AppRunner:
        app = web.Application()
        app.add_routes(
            [
                web.get("/api/version", server.version),
                web.post("/api/jobs/", server.submit),
                web.get(f"/api/jobs/{JOB}", server.told),
                web.get(f"/api/jobs/{JOB}/logs", server.whole),
                web.get(f"/api/jobs/{JOB}/logs/tail", server.tail),
            ]
        )
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        address.append(f"http://127.0.0.1:{runner.addresses[0][1]}")
        return runner

    async def stop() -> None:
        await runner.cleanup()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    runner = loop.run_until_complete(start())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield address[0]
    finally:
        asyncio.run_coroutine_threadsafe(stop(), loop).result(timeout=10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
