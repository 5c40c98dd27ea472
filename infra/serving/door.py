"""The HTTP application (ASGI) that services share: who may enter, in which order that is asked, and the end.

The surprising rule: the order of the checks. A request is known by its route, then by its token, then by its
rate, then by its type and its length, and only then is its body read; so what is refused costs nothing. All
that goes wrong is answered as JSON, and no trace of ours ever leaves.
"""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from infra.ending import keep_trace
from infra.serving.callers import Caller, Callers, Rates, Room
from infra.serving.gauges import Gauges
from infra.serving.refusal import Refusal
from infra.telemetry import say

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
"""Of every answer that says nothing else of the same."""

Answer = Callable[[Request], Awaitable[Response]]


class Busy(RuntimeError):
    """No replica can be asked now; a later request may be answered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """What a path answers. A path that ends in ``{name}`` stands for all that begin as it does."""

    method: Literal["GET", "POST"]
    answer: Answer


@dataclass(slots=True)
class Pulse:
    """Whether a replica answers, asked at most once in FRESH_S, however many want to know."""

    ask: Callable[[], Awaitable[bool]]
    _task: asyncio.Task[bool] | None = None
    _at: float = 0.0

    async def alive(self) -> bool:
        if self._task is None or (self._task.done() and now() - self._at > FRESH_S):
            self._at, self._task = now(), asyncio.create_task(self._asked())
        return await asyncio.shield(self._task)

    async def _asked(self) -> bool:
        try:
            async with asyncio.timeout(ALIVE_S):
                return await self.ask()
        except TimeoutError:
            return False


@dataclass(slots=True, kw_only=True)
class Door(ABC):
    """One service's. What changes while it runs is here, and at what hangs on it."""

    callers: Callers
    rates: Rates
    room: Room
    max_body: int
    """Bytes."""
    gauges: Gauges = field(default_factory=Gauges)
    draining: bool = False
    _pulse: Pulse = field(init=False)
    _routes: Mapping[str, Route] = field(init=False)

    def __post_init__(self) -> None:
        self._pulse = Pulse(self.alive)
        self._routes = {
            **self.routes(),
            "/healthz": Route(method="GET", answer=self._healthz),
            "/metrics": Route(method="GET", answer=self._metrics),
            "/openapi.json": Route(method="GET", answer=self._openapi),
        }

    @abstractmethod
    def routes(self) -> Mapping[str, Route]:
        """The service's own, by path."""

    @abstractmethod
    async def alive(self) -> bool:
        """Whether a replica runs."""

    @abstractmethod
    def health(self) -> Mapping[str, Any]:
        """What is told beside that it is ready."""

    @abstractmethod
    def description(self) -> Mapping[str, Any]:
        """The OpenAPI document."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        request, began = Request(scope, receive), now()
        route, answer = self._route(request)
        try:
            response = await self._answered(answer, request)
            told = {name for name, _ in response.raw_headers}
            response.raw_headers.extend(header for header in HEADERS if header[0] not in told)
            async with asyncio.timeout(ANSWER_S):
                await response(scope, receive, send)
        except (ClientDisconnect, TimeoutError):
            self.gauges.requests.labels(route, "aborted").inc()
            return  # half an answer: the connection ends with it
        self.gauges.requests.labels(route, str(response.status_code)).inc()
        self.gauges.seconds.labels(route).observe(now() - began)

    def _route(self, request: Request) -> tuple[str, Answer]:
        """Its name, for the metrics: those of unknown ones are the callers', and would be without number."""
        method = request.method
        name = named(self._routes, str(request.scope["path"]))
        if name is None:
            return "other", self._unknown
        route = self._routes[name]
        known = method == route.method or (method, route.method) == ("HEAD", "GET")
        return name, route.answer if known else self._other_method

    async def _answered(self, answer: Answer, request: Request) -> Response:
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

    def admitted(self, request: Request) -> Caller:
        """Who asks: with a token, within its rate, and before the end."""
        caller = self.callers.caller(request.headers.get("authorization"))
        if self.draining:
            fix = "ask another server"
            raise Refusal(503, "the service is about to end", fix=fix, retry_after_s=1)
        self.rates.admit(caller, now())
        return caller

    async def _healthz(self, _request: Request) -> Response:
        """Ready: a replica is warm, and nobody asked for the end."""
        if self.draining:
            return JSONResponse({"status": "draining"}, 503)
        if not await self._pulse.alive():
            return JSONResponse({"status": "no replica answers"}, 503)
        return JSONResponse({"status": "ready", **self.health()})

    async def _metrics(self, _request: Request) -> Response:
        return Response(self.gauges.text(now()), media_type=METRICS_TYPE)

    async def _openapi(self, _request: Request) -> Response:
        return JSONResponse(self.description())

    async def _unknown(self, request: Request) -> Response:
        *names, last = self._routes
        fix = f"ask {', '.join(names)} or {last}"
        raise Refusal(404, "no such route", value=request.scope["path"], fix=fix)

    async def _other_method(self, request: Request) -> Response:
        posted = " and ".join(name for name, route in self._routes.items() if route.method == "POST")
        fix = f"POST to {posted}, GET the others; see /openapi.json"
        raise Refusal(405, "no such method here", value=request.method, fix=fix)


def named(routes: Mapping[str, Route], path: str) -> str | None:
    """The route of a path.

    >>> async def answer(request: Request) -> Response: ...
    >>> routes = dict.fromkeys(("/", "/assets/{uid}"), Route(method="GET", answer=answer))
    >>> [named(routes, path) for path in ("/", "/assets/a:b/c", "/assets/", "/assets")]
    ['/', '/assets/{uid}', None, None]
    """
    if path in routes:
        return path
    for name in routes:
        start, mark, _ = name.partition("{")
        if mark and len(path) > len(start) and path.startswith(start):
            return name
    return None


def now() -> float:
    return time.monotonic()
