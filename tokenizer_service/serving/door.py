"""The HTTP application (ASGI): who may enter, with what, and what they are answered.

The surprising rule: the order of the checks. A request is known by its route, then by its token, then by its
rate, then by its type and its length, and only then is its body read; so what is refused costs nothing. All
that goes wrong is answered as JSON, and no trace of ours ever leaves.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import asdict, dataclass, field

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from infra.ending import keep_trace
from infra.telemetry import say
from tokenizer_service.serving import answers, bodies
from tokenizer_service.serving.callers import Callers, Rates, Room
from tokenizer_service.serving.description import document
from tokenizer_service.serving.gauges import Gauges
from tokenizer_service.serving.looking import Unfit
from tokenizer_service.serving.model import Coder, Facts
from tokenizer_service.serving.refusal import Refusal

REQUEST_S = 60.0
"""From a request's headers to its answer: the body, the queue, the model."""
ANSWER_S = 30.0
"""For the caller to take it."""
ALIVE_S = 2.0
"""For the cluster to say whether a replica runs."""
FRESH_S = 1.0
"""That its answer serves for."""
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
HEADERS = ((b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store"))


class Busy(RuntimeError):
    """No replica can be asked now; a later request may be answered."""


@dataclass(slots=True)
class Pulse:
    """Whether a replica answers, asked at most once in FRESH_S, however many want to know."""

    coder: Coder
    _task: asyncio.Task[bool] | None = None
    _at: float = 0.0

    async def alive(self) -> bool:
        if self._task is None or (self._task.done() and now() - self._at > FRESH_S):
            self._at, self._task = now(), asyncio.create_task(self._asked())
        return await asyncio.shield(self._task)

    async def _asked(self) -> bool:
        try:
            async with asyncio.timeout(ALIVE_S):
                return await self.coder.alive()
        except TimeoutError:
            return False


@dataclass(slots=True, kw_only=True)
class Door:
    """One service's. What changes while it runs is here, and at what hangs on it."""

    coder: Coder
    facts: Facts
    callers: Callers
    rates: Rates
    room: Room
    max_body: int
    """Bytes."""
    gauges: Gauges = field(default_factory=Gauges)
    draining: bool = False
    _pulse: Pulse = field(init=False)

    def __post_init__(self) -> None:
        self._pulse = Pulse(self.coder)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        request, began = Request(scope, receive), now()
        route, answer = self._route(request)
        try:
            response = await self._answered(answer, request)
            response.raw_headers.extend(HEADERS)
            async with asyncio.timeout(ANSWER_S):
                await response(scope, receive, send)
        except (ClientDisconnect, TimeoutError):
            self.gauges.requests.labels(route, "aborted").inc()
            return  # half an answer: the connection ends with it
        self.gauges.requests.labels(route, str(response.status_code)).inc()
        self.gauges.seconds.labels(route).observe(now() - began)

    def _route(self, request: Request) -> tuple[str, Callable[[Request], Awaitable[Response]]]:
        """Its name, for the metrics: those of unknown ones are the callers', and would be without number."""
        method, path = request.method, str(request.scope["path"])
        routes = {
            "/encode": ("POST", self._encode),
            "/decode": ("POST", self._decode),
            "/healthz": ("GET", self._healthz),
            "/metrics": ("GET", self._metrics),
            "/openapi.json": ("GET", self._openapi),
        }
        if path not in routes:
            return "other", unknown
        wanted, answer = routes[path]
        return path, answer if method == wanted or (method, wanted) == ("HEAD", "GET") else other_method

    async def _answered(self, answer: Callable[[Request], Awaitable[Response]], request: Request) -> Response:
        try:
            async with asyncio.timeout(REQUEST_S):
                return await answer(request)
        except Refusal as refusal:
            return refusal.response()
        except TimeoutError:
            told = f"nothing after {REQUEST_S:g} s"
            return Refusal(504, "the model took too long", value=told, fix="ask again, for fewer").response()
        except Busy as error:
            fix = "ask again after the seconds in Retry-After"
            return Refusal(503, "no replica answers", value=error, fix=fix, retry_after_s=1).response()
        except ClientDisconnect:
            raise
        except Exception as error:  # noqa: BLE001  # the edge: the trace stays here, and a line leaves
            say(f"{request.scope['path']!a}: a fault of the service: {type(error).__name__}")
            keep_trace(error)
            return Refusal(500, "a fault of the service", fix="tell its operator the time").response()

    async def _encode(self, request: Request) -> Response:
        caller = self._admitted(request)
        kind = bodies.media_type(request, (*bodies.IMAGE_TYPES, bodies.JSON))
        with self.room.place(caller) as place:
            body = await bodies.read(request, place, most=self.max_body)
            images = await asyncio.to_thread(bodies.images_of, body, kind)
            with self._queued(caller, len(images.files)):
                found = await self.coder.encode(images.files)
        if isinstance(found, Unfit):
            raise answers.unfit(found, alone=images.alone)
        self.gauges.served("/encode", found, now())
        return answers.codes(request, found, self.facts, alone=images.alone)

    async def _decode(self, request: Request) -> Response:
        caller = self._admitted(request)
        kind = bodies.media_type(request, (bodies.JSON, bodies.RAW))
        with self.room.place(caller) as place:
            body = await bodies.read(request, place, most=self.max_body)
            rows = await asyncio.to_thread(bodies.codes_of, body, kind, self.facts)
            with self._queued(caller, len(rows.codes_BT)):
                found = await self.coder.decode(rows.codes_BT)
        self.gauges.served("/decode", found, now())
        return answers.images(request, found, alone=rows.alone)

    def _admitted(self, request: Request) -> bytes:
        caller = self.callers.caller(request.headers.get("authorization"))
        if self.draining:
            fix = "ask another server"
            raise Refusal(503, "the service is about to end", fix=fix, retry_after_s=1)
        self.rates.admit(caller, now())
        return caller

    @contextlib.contextmanager
    def _queued(self, caller: bytes, images: int) -> Iterator[None]:
        self.rates.charge(caller, images, now())
        self.gauges.queue.inc(images)
        try:
            yield
        finally:
            self.gauges.queue.dec(images)

    async def _healthz(self, _request: Request) -> Response:
        """Ready: the weights are loaded, a picture went through them, and nobody asked for the end."""
        if self.draining:
            return JSONResponse({"status": "draining"}, 503)
        if not await self._pulse.alive():
            return JSONResponse({"status": "no replica answers"}, 503)
        return JSONResponse({"status": "ready", **asdict(self.facts)})

    async def _metrics(self, _request: Request) -> Response:
        return Response(self.gauges.text(now()), media_type=METRICS_TYPE)

    async def _openapi(self, _request: Request) -> Response:
        return JSONResponse(document(self.facts, max_body=self.max_body))


async def unknown(request: Request) -> Response:
    fix = "ask /encode, /decode, /healthz, /metrics or /openapi.json"
    raise Refusal(404, "no such route", value=request.scope["path"], fix=fix)


async def other_method(request: Request) -> Response:
    fix = "POST to /encode and /decode, GET the others; see /openapi.json"
    raise Refusal(405, "no such method here", value=request.method, fix=fix)


def now() -> float:
    return time.monotonic()
