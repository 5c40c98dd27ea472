"""``pardalis index serve``: which corpus, for whom, at which address; the layer below serves it."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass

from cyclopts import Parameter

from infra.options import ReadOptions, answer
from infra.serving import listening
from infra.serving.options import (
    TOKEN,
    DoorOptions,
    app,
    check_numbers,
    check_wait,
    rates,
    shown_token,
    tokens,
    url,
)
from infra.serving.replicas import Pool
from infra.telemetry import say
from pipeline.searching import opening
from pipeline.searching.service import Service
from pipeline.searching.usage import Usage
from pipeline.searching.watching import Place
from retrieval import server
from retrieval.serving.asking import Shape
from retrieval.serving.door import uncounted
from retrieval.serving.shards import Told

MAX_LOOKERS = 4
"""Decoders of a replica. Each may take 832 MiB, and few searches bring a picture."""


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class ServeOptions(DoorOptions):
    revocations: str | None = None
    """File of revocations (.jsonl), or folder of such, local or on S3; looked at four times a second."""
    shards: int = 1
    """Parts of the index, each with replicas of its own: for one that no machine holds whole."""
    threads: int = 1
    """Of a replica's search, a CPU each."""
    max_batch: int = 32
    """Searches that are answered together."""
    wait_ms: float = 2
    """That a search waits for others."""
    usage: str | None = None
    """Folder or s3:// address in which it is counted how often answers name an asset, for `pardalis ledger`;
    queries are not kept. Name one outside of the corpus."""
    rate: float = 500
    """Requests a second for each token, twice as many at once; a page of results asks for sixty pictures."""


def serve(*, options: ReadOptions | None = None, service: ServeOptions | None = None) -> None:
    """Serve the search over HTTP, and its page at /: POST /search; /assets, /thumbnails, /neighbors, /facts.

    A line of the token file may say what the token is for: TOKEN uses=retrieval_display,commercial
    territory=DE,FR. It ends on SIGTERM or Ctrl-C, when the requests in flight are answered. It speaks plain
    HTTP: beyond this machine, put a proxy with TLS before it.

    Example: pardalis index serve --corpus demo/corpus --open

    then: curl -H "Content-Type: application/json" -d '{"text": "red fruit"}' http://127.0.0.1:8000/search
    """
    options, service = options or ReadOptions(), service or ServeOptions()
    check_numbers(service, ("replicas", "shards", "threads", "max_batch", "queue", "rate"))
    check_wait(service.wait_ms)
    place = None if service.revocations is None else Place.at(service.revocations)
    corpus = options.open()
    version = corpus.newest()
    shards = opening.sharded(opening.files(corpus, version), service.shards)
    with listening.bound(service.host, service.port) as at:
        opened = Service.of(corpus, version, given=tokens(service, os.environ), place=place)
        os.environ.pop(TOKEN, None)  # what Ray starts inherits the rest
        usage = None if service.usage is None else opened.usage(service.usage, url(at))
        if usage is not None:
            usage.begin()
        with replicas(shards, service, at) as asking:
            asyncio.run(answered(opened, asking, at, options=options, service=service, usage=usage))
    say("ended")


def replicas(
    shards: Sequence[opening.Files], service: ServeOptions, at: socket.socket
) -> contextlib.AbstractContextManager[Told]:
    return server.replicas(
        [
            server.Part(opening=functools.partial(opening.searcher, of=mine), memory=sum(mine.sizes))
            for mine in shards
        ],
        Shape(
            max_batch=service.max_batch,
            wait_s=service.wait_ms / 1000,
            lookers=service.lookers(MAX_LOOKERS, shards=service.shards),
            threads=service.threads,
        ),
        Pool(
            count=service.replicas,
            max_batch=service.max_batch,
            queued=service.queue,
            cpus=service.threads,
        ),
        app=app("search", at),
        address=service.cluster(),
    )


async def answered(
    opened: Service,
    asking: Told,
    at: socket.socket,
    *,
    options: ReadOptions,
    service: ServeOptions,
    usage: Usage | None,
) -> None:
    limits = rates(service.rate, unit="requests")
    address = url(at)
    served = uncounted if usage is None else usage.served
    door = opened.door(asking, await asking.facts(), rates=limits, max_requests=service.queue, served=served)
    told = {"address": address, "token": not door.about.open, "version": door.about.version}
    text = f"{address}\n{example(address, service)}"
    asked = listening.Asked()
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(asked.by_signals())
        if usage is not None:
            await stack.enter_async_context(usage.kept())
        watching = asyncio.create_task(opened.watched(door.gauges))
        await listening.serve(door, at, asked, begun=lambda: answer(told, text, json=options.json))
        watching.cancel()


def example(address: str, service: ServeOptions) -> str:
    """A command that searches."""
    headers = f'{shown_token(service)} -H "Content-Type: application/json"'
    return f'curl{headers} -d \'{{"text": "red fruit", "k": 5}}\' {address}/search'
