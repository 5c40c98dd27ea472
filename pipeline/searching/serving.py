"""``pardalis index serve``: which corpus, for whom, at which address; the layer below serves it."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cyclopts import Parameter

from infra.corpus import Corpus, Version
from infra.ending import keep_trace
from infra.options import ReadOptions, answer
from infra.serving import listening
from infra.serving.callers import Anyone, Caller, Callers, Rates, Room, Tokens
from infra.serving.options import (
    BURST_S,
    TOKEN,
    DoorOptions,
    check_numbers,
    check_wait,
    shown_token,
    tokens,
    url,
)
from infra.serving.replicas import Pool
from infra.telemetry import say
from pipeline.grants import Purpose
from pipeline.searching import holdings, members, opening
from pipeline.searching import tokens as keys
from pipeline.searching.admission import Admission
from pipeline.searching.holdings import Holdings
from pipeline.searching.shelf import Shelf
from pipeline.searching.watching import Place, Watch
from retrieval import server
from retrieval.serving.admission import Grant
from retrieval.serving.catalogue import GIVEN, Catalogue
from retrieval.serving.desk import Facts, Shape
from retrieval.serving.door import Door
from retrieval.serving.facts import About
from retrieval.serving.queries import MAX_BODY, Bounds

LOOK_S = 0.25
"""Between looks for revocations: one takes effect within a second, whatever else this process does."""
ROOM_BODIES = 8
"""Of the largest bodies that are held at once; of ordinary ones, as many requests as may wait."""
MAX_LOOKERS = 4
"""Decoders of a replica. Each may take 832 MiB, and few searches bring a picture."""


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class ServeOptions(DoorOptions):
    revocations: str | None = None
    """File of revocations (.jsonl), or folder of such, local or on S3; looked at four times a second."""
    threads: int = 1
    """Of a replica's search, a CPU each."""
    max_batch: int = 32
    """Searches that are answered together."""
    wait_ms: float = 2
    """That a search waits for others."""
    rate: float = 500
    """Requests a second for each token, twice as many at once; a page of results asks for sixty pictures."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A version of a corpus, as the door needs it."""

    corpus: Corpus
    version: Version
    catalogue: Catalogue
    holdings: Holdings
    shelf: Shelf
    purpose: Purpose

    @staticmethod
    def of(corpus: Corpus, version: Version) -> Opened:
        table = members.read(corpus, version)
        held = holdings.read(corpus, version, table)
        decided = dict(corpus.artifact(version, "decide").settings)
        return Opened(
            corpus=corpus,
            version=version,
            catalogue=Catalogue.of(table.append_column(holdings.DATE, held.dates).select(GIVEN.names)),
            holdings=held,
            shelf=Shelf.of(corpus, version, table),
            purpose=Purpose.model_validate(decided, strict=False),
        )


def serve(*, options: ReadOptions | None = None, service: ServeOptions | None = None) -> None:
    """Serve the search over HTTP, and its page at /: POST /search; /assets, /thumbnails, /neighbors, /facts.

    A line of the token file may say what the token is for: TOKEN uses=retrieval_display,commercial
    territory=DE,FR. It ends on SIGTERM or Ctrl-C, when the requests in flight are answered. It speaks plain
    HTTP: beyond this machine, put a proxy with TLS before it.

    Example: pardalis index serve --corpus demo/corpus --open

    then: curl -H "Content-Type: application/json" -d '{"text": "red fruit"}' http://127.0.0.1:8000/search
    """
    options, service = options or ReadOptions(), service or ServeOptions()
    check_numbers(service, ("replicas", "threads", "max_batch", "queue", "rate"))
    check_wait(service.wait_ms)
    given = tokens(service, os.environ)
    os.environ.pop(TOKEN, None)  # what Ray starts inherits the rest
    place = None if service.revocations is None else Place.at(service.revocations)
    corpus = options.open()
    opened = Opened.of(corpus, corpus.newest())
    callers, grants = keys.read(given, opened.purpose)
    watch = Watch(corpus=corpus, place=place, holdings=opened.holdings, now=now)
    admission = Admission(holdings=opened.holdings, purpose=opened.purpose, now=now, standing=watch.begin())
    with contextlib.ExitStack() as held:
        at = held.enter_context(listening.bound(service.host, service.port))
        asking = held.enter_context(
            server.replicas(
                functools.partial(opening.searcher, of=opening.files(corpus, opened.version)),
                shaped(service),
                Pool(
                    count=service.replicas,
                    max_batch=service.max_batch,
                    queued=service.queue,
                    cpus=service.threads,
                ),
                app=f"pardalis-search-{socket.gethostname()}-{at.getsockname()[1]}",
                address=service.cluster(),
            )
        )
        asyncio.run(
            answered(
                Serving(opened=opened, admission=admission, watch=watch, callers=callers, grants=grants),
                asking,
                at,
                options=options,
                service=service,
            )
        )
    say("ended")


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """All that stands behind the door, but for the replicas."""

    opened: Opened
    admission: Admission
    watch: Watch
    callers: Callers
    grants: Callable[[Caller], Grant]

    def door(self, searching: server.Asking, facts: Facts, service: ServeOptions) -> Door:
        opened = self.opened
        encoder = opening.encoder_of(opened.corpus, opened.version)
        return Door(
            searching=searching,
            catalogue=opened.catalogue,
            admit=self.admission.admit,
            grants=self.grants,
            shelf=opened.shelf,
            about=About(
                corpus=opened.corpus.store.uri,
                version=opened.version.number,
                encoder=facts.encoder,
                is_clip=encoder.kind == "open_clip",
                fingerprint=facts.fingerprint,
                open=isinstance(self.callers, Anyone),
                examples=bool(opened.shelf.neighbors),
            ),
            bounds=Bounds(width=facts.width, uses=keys.USES),
            register=self.watch.told,
            callers=self.callers,
            rates=Rates(per_s=service.rate, burst=max(1.0, service.rate * BURST_S), unit="requests"),
            room=Room(
                max_requests=service.queue,
                max_bytes=ROOM_BODIES * MAX_BODY,
                callers=len(self.callers.digests) if isinstance(self.callers, Tokens) else 1,
            ),
            max_body=MAX_BODY,
        )


async def answered(
    serving: Serving,
    asking: server.Asking,
    at: socket.socket,
    *,
    options: ReadOptions,
    service: ServeOptions,
) -> None:
    facts = await asking.facts()
    door = serving.door(asking, facts, service)
    address = url(at)
    told = {"address": address, "token": not door.about.open, "version": door.about.version}
    text = f"{address}\n{example(address, service)}"
    asked = listening.Asked()
    with asked.by_signals():
        watching = asyncio.create_task(watched(serving.watch, serving.admission, door))
        await listening.serve(door, at, asked, begun=lambda: answer(told, text, json=options.json))
        watching.cancel()


async def watched(watch: Watch, admission: Admission, door: Door) -> None:
    """Loads what is revoked, until it is cancelled. Between two answers: never while one is put together."""
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(1) as looking:  # of its own: others may all be waiting for pictures
        while True:
            counted(door, watch, admission)
            found = await loop.run_in_executor(looking, looked, watch, admission)
            if found is not None:
                admission.load(found)
            await asyncio.sleep(LOOK_S)


def looked(watch: Watch, admission: Admission) -> Any:
    """What stands now, decided for those who ask, if it is not what stood before."""
    try:
        found = watch.look()
        if found is not None:
            admission.prepare(found)
    except Exception as error:  # noqa: BLE001  # whatever it was, the next look may find a revocation
        say(f"looking for revocations: a fault of the service: {type(error).__name__}")
        keep_trace(error)
        return None
    return found


def counted(door: Door, watch: Watch, admission: Admission) -> None:
    door.gauges.revoked.set(int(admission.standing.removed_N.sum()))
    door.gauges.errors.set(len(watch.faults))


def shaped(service: ServeOptions) -> Shape:
    cores = len(os.sched_getaffinity(0))
    return Shape(
        max_batch=service.max_batch,
        wait_s=service.wait_ms / 1000,
        lookers=max(1, min(MAX_LOOKERS, cores // service.replicas)),
        threads=service.threads,
    )


def now() -> datetime:
    return datetime.now(UTC)


def example(address: str, service: ServeOptions) -> str:
    """A command that searches."""
    headers = f'{shown_token(service)} -H "Content-Type: application/json"'
    return f'curl{headers} -d \'{{"text": "red fruit", "k": 5}}\' {address}/search'
