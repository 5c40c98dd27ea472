"""The page's HTTP application: its routes, behind the checks that every service of ours has.

The surprising rule: nothing is drawn while a request waits. What is asked for becomes a job in a line, and is
asked about until it is done; so a drawing may take as long as it takes, and a page can say how far it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from infra.serving import bodies
from infra.serving import door as doors
from infra.serving.callers import Anyone, Caller
from infra.serving.door import Route
from infra.serving.options import is_loopback
from infra.serving.refusal import Refusal
from pipeline.reviewing import thumbnails
from retrieval.serving.gauges import Watched
from tokenizer_service.serving.answers import unfit
from tokenizer_service.serving.looking import Lookers, Unfit
from trainer import doing
from trainer.playing import page, wishes
from trainer.playing.album import Album
from trainer.playing.corpus import MAX_FOUND, Shown
from trainer.playing.description import document
from trainer.playing.easel import Easel, Made, Order
from trainer.playing.line import Job, Line, of_error
from trainer.playing.progress import Progress, now

T = TypeVar("T")

JPEG, PNG, WEBP = "image/jpeg", "image/png", "image/webp"
MAX_JSON = 64 << 10
MAX_VALUES = 200
READERS = 4


@dataclass(slots=True, kw_only=True)
class Door(doors.Door):
    easel: Easel
    shown: Shown
    album: Album
    line: Line
    lookers: Lookers
    about: Mapping[str, Any]
    """What the page is told of what it plays with."""
    gauges: Watched = field(default_factory=Watched)
    _searching: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1))
    """Looks things up while another thread draws."""
    _reading: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(READERS))
    """Waits for the store."""

    def routes(self) -> Mapping[str, Route]:
        told = {
            "/": index,
            "/web/{name}": web,
            "/facts": self._facts,
            "/thumbnails/{uid}": self._small,
            "/pictures/{name}": self._kept,
            "/jobs/{id}": self._told,
        }
        asked = {
            "/pictures": self._brought,
            "/masks": self._masked,
            "/take": self._taken,
            "/search": self._search,
            "/neighbors": self._neighbors,
            "/alike": self._alike,
            "/jobs": self._entered,
            "/stop/{id}": self._stopped,
        }
        return {
            **{name: Route(method="POST", answer=answer) for name, answer in asked.items()},
            **{name: Route(method="GET", answer=answer) for name, answer in told.items()},
        }

    async def alive(self) -> bool:
        return True

    def health(self) -> Mapping[str, Any]:
        return {"version": self.easel.corpus_version, "waiting": self.line.room.requests}

    def description(self) -> Mapping[str, Any]:
        return document(self.about)

    def admitted(self, request: Request) -> Caller:
        """Where nobody is asked for a token, only by an address of this machine: a page of somebody else's
        may have a name of its own lead to it.
        """
        if isinstance(self.callers, Anyone) and not is_loopback(request.url.hostname or ""):
            fix = "ask at 127.0.0.1 or localhost"
            raise Refusal(421, "another host is asked for", value=request.url.hostname, fix=fix)
        return doors.Door.admitted(self, request)

    async def _facts(self, request: Request) -> Response:
        self.admitted(request)
        return JSONResponse(self.about)

    async def _brought(self, request: Request) -> Response:
        return await self._looked_at(request, "input")

    async def _masked(self, request: Request) -> Response:
        return await self._looked_at(request, "mask")

    async def _looked_at(self, request: Request, kind: str) -> Response:
        """A caller's picture: decoded in a process that may die of it, and from there on a square of ours."""
        caller = self.admitted(request)
        bodies.media_type(request, (JPEG, PNG, WEBP))
        with self.room.place(caller) as place:
            body = await bodies.read(request, place, most=self.max_body)
            square = await self.lookers.square(body)
        if isinstance(square, Unfit):
            raise unfit(square, alone=True)
        return created(self.album.bring(caller, kind, thumbnails.encoded(square)))

    async def _taken(self, request: Request) -> Response:
        caller = self.admitted(request)
        uid = str((await self._document(request, caller, {"uid": str}))["uid"])
        image = await self._in(self._reading, self.shown.image, caller, uid)
        square = await self._in(self._reading, self.easel.studio.square, image)
        return created(self.album.take(caller, uid, thumbnails.encoded(square)))

    async def _kept(self, request: Request) -> Response:
        path = self._picture(self.admitted(request), last_of(request))
        return Response(path.read_bytes(), media_type=PNG)

    def _picture(self, caller: Caller, name: str) -> Path:
        """404 for one of an asset, or made from one, too, once that is not for this caller any more."""
        path = self.album.path(caller, name)
        for uid in self.album.of([path]):
            self.shown.row(caller, uid)
        return path

    async def _small(self, request: Request) -> Response:
        caller = self.admitted(request)
        jpeg = await self._in(self._reading, self.shown.small, caller, last_of(request))
        return Response(jpeg, media_type=JPEG)

    async def _search(self, request: Request) -> Response:
        caller = self.admitted(request)
        asked = await self._document(request, caller, {"text": str})
        words = texted(asked["text"])
        found = await self._in(self._searching, self.shown.search, caller, words, MAX_FOUND)
        return JSONResponse({"results": found})

    async def _neighbors(self, request: Request) -> Response:
        caller = self.admitted(request)
        asked = await self._document(request, caller, {"text": str, "k": int})
        words, k = texted(asked["text"]), numbered(asked["k"])
        found = await self._in(self._searching, self.shown.neighbors, caller, words, k)
        return JSONResponse({"neighbors": found})

    async def _alike(self, request: Request) -> Response:
        caller = self.admitted(request)
        asked = await self._document(request, caller, {"picture": str, "k": int})
        path, k = self._picture(caller, asked["picture"]), numbered(asked["k"])
        found = await self._in(self._searching, self.shown.alike, caller, path.read_bytes(), k)
        return JSONResponse({"neighbors": found})

    async def _entered(self, request: Request) -> Response:
        caller = self.admitted(request)
        wish = wishes.parsed(await self._document(request, caller, None))
        placed = wish.options(lambda name: self._picture(caller, name))
        try:
            may_see = partial(self.shown.may_see, caller)
            order = await self._in(self._searching, self.easel.order, wish, placed, may_see)
        except ValueError as error:
            raise of_error(error) from None
        job = self._job(caller, order)
        self.line.enter(job)
        return JSONResponse(self._state(caller, job.id), 202)

    def _job(self, caller: Caller, order: Order) -> Job:
        uids = self.album.of(doing.files(order.task).values())
        may_use = self.shown.changed if isinstance(order.task, doing.Shown) else self.shown.row

        def check() -> None:
            for uid in sorted(uids):
                may_use(caller, uid)

        def tell(made: Made) -> Mapping[str, Any]:
            for name, png in made.pngs.items():
                self.album.keep(caller, name, png, uids=uids)
            return made.told

        def work(progress: Progress) -> Made:
            check()  # one may have been revoked while the job waited
            return self.easel.made(order, progress)

        check()
        progress = Progress(total=order.num_tokens, seen=now())
        return Job(caller=caller, work=work, tell=tell, progress=progress)

    def _state(self, caller: Caller, name: str) -> dict[str, Any]:
        """Of a job, with its neighbors as this caller may see them now; 404 for words that were written
        behind those of one that the caller may not see any more.
        """
        told = self.line.told(caller, name)
        answer = told.get("answer")
        if answer is not None:
            neighbors = self.shown.told(caller, answer.get("neighbors", []))
            unseen = [one["uid"] for one in neighbors if not one["shown"]]
            if "words" in answer and unseen:
                fix = "ask for the caption again"
                raise Refusal(
                    404, "it was written beside what is not shown any more", value=unseen[0], fix=fix
                )
            told["answer"] = {**answer, "neighbors": neighbors}
        return told

    async def _told(self, request: Request) -> Response:
        return JSONResponse(self._state(self.admitted(request), last_of(request)))

    async def _stopped(self, request: Request) -> Response:
        caller = self.admitted(request)
        self.line.stop(caller, last_of(request))
        return JSONResponse(self._state(caller, last_of(request)))

    async def _document(
        self, request: Request, caller: Caller, fields: Mapping[str, type] | None
    ) -> dict[str, Any]:
        """An object with exactly these fields; None: any, to be looked at by whoever asks."""
        bodies.media_type(request, (bodies.JSON,))
        with self.room.place(caller) as place:
            found = bodies.document(await bodies.read(request, place, most=MAX_JSON), most_values=MAX_VALUES)
        if not isinstance(found, dict):
            raise Refusal(422, "the body is no object", fix="send a JSON object")
        if fields is not None and {name: type(value) for name, value in found.items()} != fields:
            told = ", ".join(f"{name} ({kind.__name__})" for name, kind in fields.items())
            raise Refusal(422, "the body has other fields", value=", ".join(found), fix=f"send {told}")
        return found

    async def _in(self, threads: ThreadPoolExecutor, work: Callable[..., T], *given: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(threads, work, *given)

    def close(self) -> None:
        self.line.close()
        self.lookers.close()
        self._searching.shutdown()
        self._reading.shutdown()


def created(name: str) -> Response:
    return JSONResponse({"picture": name}, 201)


def texted(text: str) -> str:
    words = text.strip()
    if not 0 < len(words) <= wishes.MAX_TEXT:
        fix = f"give 1 to {wishes.MAX_TEXT} characters"
        raise Refusal(422, "text is too short or too long", value=f"{len(words)} characters", fix=fix)
    return words


def numbered(k: int) -> int:
    if not 0 <= k <= wishes.MAX_NEIGHBORS:
        fix = f"give 0 to {wishes.MAX_NEIGHBORS}"
        raise Refusal(422, "k is no number of neighbors", value=k, fix=fix)
    return k


def last_of(request: Request) -> str:
    """What follows the route's own part of the path, already decoded."""
    return str(request.scope["path"]).split("/", 2)[2]


async def index(_request: Request) -> Response:
    return page.packaged(page.INDEX)


async def web(request: Request) -> Response:
    name = last_of(request)
    if name not in page.FILES:
        raise Refusal(404, "no such file", value=name, fix="ask for the page itself, at /")
    return page.packaged(name)
