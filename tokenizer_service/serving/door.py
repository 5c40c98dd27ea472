"""The tokenizer's HTTP application: its two routes, behind the checks that every service of ours has."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from infra.serving import door
from infra.serving.bodies import JSON, media_type, read
from infra.serving.callers import Caller
from infra.serving.door import Route, now
from tokenizer_service.serving import answers, bodies
from tokenizer_service.serving.description import document
from tokenizer_service.serving.gauges import Gauges
from tokenizer_service.serving.looking import Unfit
from tokenizer_service.serving.model import Coder, Facts


@dataclass(slots=True, kw_only=True)
class Door(door.Door):
    coder: Coder
    facts: Facts
    gauges: Gauges = field(default_factory=Gauges)

    def routes(self) -> Mapping[str, Route]:
        return {
            "/encode": Route(method="POST", answer=self._encode),
            "/decode": Route(method="POST", answer=self._decode),
        }

    async def alive(self) -> bool:
        return await self.coder.alive()

    def health(self) -> Mapping[str, Any]:
        return asdict(self.facts)

    def description(self) -> Mapping[str, Any]:
        return document(self.facts, max_body=self.max_body)

    async def _encode(self, request: Request) -> Response:
        caller = self.admitted(request)
        kind = media_type(request, (*bodies.IMAGE_TYPES, JSON))
        with self.room.place(caller) as place:
            body = await read(request, place, most=self.max_body)
            images = await asyncio.to_thread(bodies.images_of, body, kind)
            with self._queued(caller, len(images.files)):
                found = await self.coder.encode(images.files)
        if isinstance(found, Unfit):
            raise answers.unfit(found, alone=images.alone)
        self.gauges.served("/encode", found, now())
        return answers.codes(request, found, self.facts, alone=images.alone)

    async def _decode(self, request: Request) -> Response:
        caller = self.admitted(request)
        kind = media_type(request, (JSON, bodies.RAW))
        with self.room.place(caller) as place:
            body = await read(request, place, most=self.max_body)
            rows = await asyncio.to_thread(bodies.codes_of, body, kind, self.facts)
            with self._queued(caller, len(rows.codes_BT)):
                found = await self.coder.decode(rows.codes_BT)
        self.gauges.served("/decode", found, now())
        return answers.images(request, found, alone=rows.alone)

    @contextlib.contextmanager
    def _queued(self, caller: Caller, images: int) -> Iterator[None]:
        self.rates.charge(caller, images, now())
        self.gauges.queue.inc(images)
        try:
            yield
        finally:
            self.gauges.queue.dec(images)
