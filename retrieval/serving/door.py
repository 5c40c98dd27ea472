"""The search's HTTP application: its routes, behind the checks that every service of ours has.

The surprising rule: an answer is put together after everything else. Whoever may not see an asset is kept
from it twice: the search is told which ids may answer, and what comes back is looked at again, in one piece
with the writing of the answer. What was revoked while a search ran is in no answer that leaves after it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from infra.serving import bodies
from infra.serving import door as doors
from infra.serving.callers import Caller
from infra.serving.door import Route, now
from infra.serving.refusal import Refusal
from retrieval import page
from retrieval.serving import facts, queries, results, subsets
from retrieval.serving.admission import Admit, Admitted, Grant, Rows
from retrieval.serving.asking import Cancelled, Ranked, Searching
from retrieval.serving.catalogue import Catalogue
from retrieval.serving.description import document
from retrieval.serving.facts import About
from retrieval.serving.gauges import Gauges
from retrieval.serving.plans import Plan, Planner
from retrieval.serving.queries import Bounds
from retrieval.serving.shelf import Example, Shelf, thumbnails
from tokenizer_service.serving.answers import unfit
from tokenizer_service.serving.looking import Unfit

T = TypeVar("T")

JPEG = "image/jpeg"
READERS = 8
RECOUNTS = 3
"""Of the facts, where something is revoked while they are counted."""
NOTHING = Ranked(ids=np.zeros(0, np.int64), scores=np.zeros(0, np.float32), batch=0)


def uncounted(rows: Rows) -> None:
    """Nobody wants to know."""


@dataclass(slots=True, kw_only=True)
class Door(doors.Door):
    searching: Searching
    catalogue: Catalogue
    admit: Admit
    grants: Callable[[Caller], Grant]
    shelf: Shelf
    about: About
    bounds: Bounds
    register: Callable[[], Mapping[str, Any]]
    """What is told of the revocations in force."""
    served: Callable[[Rows], None] = uncounted
    """Told of every answer of a search which members it names."""
    gauges: Gauges = field(default_factory=Gauges)
    _planner: Planner = field(init=False)
    _reading: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(READERS))
    """Waits for the store: not in a thread that searches need."""
    _thumbnail: Callable[[int], bytes] = field(init=False)
    _facts: Callable[[Grant, Grant, Admitted], Mapping[str, Any]] = field(init=False)

    def __post_init__(self) -> None:
        doors.Door.__post_init__(self)
        self._planner = Planner(catalogue=self.catalogue, subset=subsets.remembered(self.catalogue))
        self._thumbnail = thumbnails(self.shelf)
        self._facts = facts.remembered(self.about, self.catalogue)
        self.gauges.version.set(self.about.version)

    def routes(self) -> Mapping[str, Route]:
        answers = {
            "/": index,
            "/web/{name}": web,
            "/facts": self._narrowing,
            "/assets/{uid}": self._asset,
            "/thumbnails/{uid}": self._small,
            "/images/{uid}": self._image,
            "/neighbors/{uid}": self._neighbors,
        }
        told = {name: Route(method="GET", answer=answer) for name, answer in answers.items()}
        return {"/search": Route(method="POST", answer=self._search), **told}

    async def alive(self) -> bool:
        return await self.searching.alive()

    def health(self) -> Mapping[str, Any]:
        told = {"version": self.about.version, "fingerprint": self.about.fingerprint}
        return {**told, "assets": len(self.catalogue), "revocations": self.register()}

    def description(self) -> Mapping[str, Any]:
        return document(self.about, self.bounds)

    async def _search(self, request: Request) -> Response:
        began, caller = now(), self.admitted(request)
        bodies.media_type(request, (bodies.JSON,))
        with self.room.place(caller) as place:
            body = await bodies.read(request, place, most=self.max_body)
            plan = await asyncio.to_thread(self._planned, body, caller)
            found = await self.searching.search(plan.asked) if plan.eligible else NOTHING
        if isinstance(found, Unfit):
            raise unfit(found, alone=True)
        if isinstance(found, Cancelled):
            fix = "change the weights, or ask for something else"
            raise Refusal(422, "what is asked leaves no direction to look in", fix=fix)
        return self._told(request, plan, found, began)

    def _planned(self, body: bytes, caller: Caller) -> Plan:
        query = queries.parsed(body, self.bounds)
        grant = self.grants(caller).narrowed(query.uses, query.territory)
        return self._planner.plan(query, grant, self.admit(grant))

    def _told(self, request: Request, plan: Plan, found: Ranked, began: float) -> Response:
        """Whoever puts an ``await`` in here lets a revocation pass in between."""
        admitted, rows = self.admit(plan.grant), self.catalogue.rows(found.ids)
        still = admitted.found_N[rows]
        table = results.ranked(self.catalogue, rows[still], found.scores[still], admitted)
        self.gauges.searched(eligible=plan.eligible, found=found, returned=table.num_rows)
        self.served(rows[still])
        took_ms = round(1000 * (now() - began), 1)
        told = {"eligible": plan.eligible, "took_ms": took_ms, "version": self.about.version}
        if bodies.accepts(request, results.ARROW):
            return results.as_arrow(table, told)
        return JSONResponse({"results": results.as_objects(table), **told})

    async def _narrowing(self, request: Request) -> Response:
        caller = self.admitted(request)
        with self.room.place(caller):
            grant = self._grant(request, caller)
            for _ in range(RECOUNTS):
                admitted = await asyncio.to_thread(self.admit, grant)
                told = await asyncio.to_thread(self._facts, self.grants(caller), grant, admitted)
                if self.admit(grant) is admitted:
                    break
            return JSONResponse(told)

    async def _asset(self, request: Request) -> Response:
        grant, row = await self._weighed(request, self.admitted(request))
        (found,) = self._objects(np.array([row]), self.admit(grant))
        return JSONResponse({**found, "reasons": self.catalogue.facts["reasons"][row].as_py()})

    async def _small(self, request: Request) -> Response:
        return await self._picture(request, self._thumbnail)

    async def _image(self, request: Request) -> Response:
        return await self._picture(request, self.shelf.image)

    async def _picture(self, request: Request, read: Callable[[int], bytes]) -> Response:
        caller = self.admitted(request)
        with self.room.place(caller):
            _, row = await self._weighed(request, caller)
            jpeg = await self._read(read, row)
        self._named(request, caller)  # it may have been revoked while it was read
        return Response(jpeg, media_type=JPEG)

    async def _neighbors(self, request: Request) -> Response:
        caller = self.admitted(request)
        with self.room.place(caller):
            _, row = await self._weighed(request, caller)
            found = await self._read(self.shelf.example, row)
        grant, row = self._named(request, caller)
        if found is None:
            fix = "ask for one that is trained on, in a corpus that has neighbors"
            raise Refusal(404, "nothing was retrieved for that asset", value=uid_of(request), fix=fix)
        return JSONResponse(self._example(row, found, self.admit(grant)))

    def _example(self, row: int, found: Example, admitted: Admitted) -> dict[str, Any]:
        """Of a candidate that is not shown nothing is told but its place, its score and how it was found."""
        rows = [self.catalogue.uids.row(one.uid) for one in found.candidates]
        shown = [row for row in rows if row is not None and admitted.shown_N[row]]
        told = iter(self._objects(np.array(shown, np.int64), admitted))
        candidates = [
            {"score": round(one.score, 4), "via": one.via, "shown": row in shown}
            | (next(told) if row in shown else {})
            for one, row in zip(found.candidates, rows, strict=True)
        ]
        (target,) = self._objects(np.array([row]), admitted)
        return {"target": target, "candidates": candidates, "split": found.split}

    def _named(self, request: Request, caller: Caller) -> tuple[Grant, int]:
        """The row of the asset in the path, if this caller is shown it now."""
        grant = self._grant(request, caller)
        return grant, self._planner.shown(uid_of(request), self.admit(grant))

    async def _weighed(self, request: Request, caller: Caller) -> tuple[Grant, int]:
        """The same, its grant weighed beside the event loop where nobody asked for it before."""
        await asyncio.to_thread(self.admit, self._grant(request, caller))
        return self._named(request, caller)

    async def _read(self, read: Callable[[int], T], row: int) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._reading, read, row)

    def _grant(self, request: Request, caller: Caller) -> Grant:
        """The token's, narrowed by the address: what a search found is asked for as it was found."""
        uses, territory = queries.rights(request.query_params.multi_items(), self.bounds)
        return self.grants(caller).narrowed(uses, territory)

    def _objects(self, rows: Any, admitted: Admitted) -> list[dict[str, Any]]:
        return results.as_objects(results.of_rows(self.catalogue, rows, admitted))


def uid_of(request: Request) -> str:
    """What follows the route's own part of the path, already decoded."""
    return str(request.scope["path"]).split("/", 2)[2]


async def index(_request: Request) -> Response:
    return packaged(page.INDEX)


async def web(request: Request) -> Response:
    name = str(request.scope["path"]).removeprefix("/web/")
    if name not in page.FILES:
        raise Refusal(404, "no such file", value=name, fix="ask for the page itself, at /")
    return packaged(name)


def packaged(name: str) -> Response:
    return Response(page.read(name), media_type=page.FILES[name], headers=dict(page.HEADERS))
