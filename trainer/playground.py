"""``pardalis playground``: a page to draw, edit, ask, caption, place and fill in with a trained model."""

from __future__ import annotations

import asyncio
import os
import socket
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
from cyclopts import Parameter

from infra import runs
from infra.options import CorpusOptions, answer
from infra.serving import listening
from infra.serving.callers import Anyone, Room
from infra.serving.options import (
    TOKEN,
    DoorOptions,
    TokenLines,
    check_numbers,
    is_loopback,
    rates,
    tokens,
    url,
)
from infra.telemetry import say
from pipeline.refused import Barred, Held
from pipeline.searching import members
from pipeline.searching.admission import Admission
from pipeline.searching.service import Service, called
from pipeline.searching.watching import Place
from retrieval.serving.queries import MAX_IMAGE
from retrieval.serving.shelf import thumbnails
from tokenizer_service.serving.looking import Lookers
from trainer import folder
from trainer.playing import wishes
from trainer.playing.album import Album
from trainer.playing.corpus import Shown
from trainer.playing.door import Door
from trainer.playing.easel import Easel
from trainer.playing.line import Line
from trainer.quantized import ready
from trainer.sampling import told_corpus
from trainer.studio import open_studio

RATE = 200
"""Requests a second for each token: a page asks eight times a second how far a drawing is."""
ROOM_REQUESTS, ROOM_BODIES = 256, 8
"""Requests, and bodies of the largest size, that are held at once."""


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class PlayOptions:
    host: str = "127.0.0.1"
    """Beyond loopback, callers need a token, and a proxy with TLS before it."""
    port: int = 8000
    """0 takes a free one."""
    token_file: Path | None = None
    """File with one token a line; else the variable PARDALIS_SERVICE_TOKEN holds them; else, on loopback,
    nobody is asked for one."""
    revocations: str | None = None
    """File of revocations (.jsonl), or folder of such, local or on S3; looked at four times a second."""
    queue: int = 8
    """Drawings that are asked for at once; more are answered 503."""

    def door(self) -> DoorOptions:
        anyone = self.token_file is None and TOKEN not in os.environ and is_loopback(self.host)
        return DoorOptions(host=self.host, port=self.port, token_file=self.token_file, open=anyone)


def playground(
    *, run: Path, options: CorpusOptions | None = None, service: PlayOptions | None = None
) -> None:
    """Play with a trained model on a page: draw, edit, ask, caption, place things, fill in.

    One model, in one process: drawings are made one after the other. It ends on SIGTERM or Ctrl-C.

    Example: pardalis playground --run demo/run

    Parameters
    ----------
    run
        Folder of a run that was trained on the corpus; one that was tuned knows all of the tasks.
    """
    options, service = told_corpus(options or CorpusOptions()), service or PlayOptions()
    check_numbers(replace(service.door(), queue=service.queue), ("queue",))
    given = tokens(service.door(), os.environ)
    place = None if service.revocations is None else Place.at(service.revocations)
    with listening.bound(service.host, service.port) as at, tempfile.TemporaryDirectory() as album:
        easel, opened = easel_of(runs.folder(run), options, given, place)
        os.environ.pop(TOKEN, None)
        asyncio.run(answered(easel, opened, at, album=Path(album), queue=service.queue))
    say("ended")


def easel_of(
    run: Path, options: CorpusOptions, given: TokenLines | None, place: Place | None = None
) -> tuple[Easel, Service]:
    section = folder.settings(run, options).sampler
    corpus = options.open()
    version = corpus.newest()
    table = members.read(corpus, version)
    opened = Service.of(corpus, version, given=given, place=place, table=table)
    studio = open_studio(corpus, version, run, table=table, barred=barred_now(opened.admission, table))
    studio = replace(studio, model=ready(studio.model, section.precision))  # once, and not at every drawing
    easel = Easel(studio=studio, run=run, options=options, section=section, corpus_version=version.number)
    return easel, opened


def barred_now(admission: Admission, table: pa.Table) -> Barred:
    """By what is revoked whenever it is asked; ``table``: the members."""

    def held() -> Held:
        return Held(table=table, holdings=admission.holdings, standing=admission.standing)

    return Barred(
        neighbors=lambda: held().no_neighbors(admission.purpose, admission.now()),
        displayed=lambda: held().undisplayed(admission.purpose, admission.now()),
    )


async def answered(easel: Easel, opened: Service, at: socket.socket, *, album: Path, queue: int) -> None:
    door = door_of(easel, opened, album, queue=queue)
    address = url(at)
    told = {"address": address, "token": not door.about["open"], "version": easel.corpus_version}
    asked = listening.Asked()
    try:
        with asked.by_signals():
            watching = asyncio.create_task(opened.watched(door.gauges))
            begun = lambda: answer(told, address, json=easel.options.json)  # noqa: E731
            await listening.serve(door, at, asked, begun=begun)
            watching.cancel()
    finally:
        door.close()


def door_of(easel: Easel, opened: Service, album: Path, *, queue: int) -> Door:
    callers, studio = opened.callers, easel.studio
    return Door(
        easel=easel,
        shown=Shown(service=opened, studio=studio, thumbnail=thumbnails(opened.shelf)),
        album=Album(folder=album),
        line=Line(room=Room(max_requests=queue, max_bytes=1, callers=callers.count)),
        lookers=Lookers(1, studio.side, studio.vq.config.preprocessing.resize),
        about=about(easel, opened),
        callers=callers,
        rates=rates(RATE, unit="requests"),
        room=Room(max_requests=ROOM_REQUESTS, max_bytes=ROOM_BODIES * MAX_IMAGE, callers=callers.count),
        max_body=MAX_IMAGE,
    )


def about(easel: Easel, opened: Service) -> Mapping[str, Any]:
    """What the page is told: sizes, limits, and the settings that are as the run has them."""
    section = easel.section
    names = list(wishes.Settings.model_fields)
    return {
        "corpus": called(opened.corpus.store.uri),
        "version": easel.corpus_version,
        "model": dict(easel.studio.made_by),
        "run": easel.run.resolve().name,
        "tuned": bool(folder.read(easel.run).get("config", {}).get("base")),
        "open": isinstance(opened.callers, Anyone),
        "side": easel.studio.side,
        "grid": easel.studio.grid,
        "num_tokens": easel.studio.num_codes,
        "settings": {name: getattr(section, name) for name in names},
        "max_samples": wishes.MAX_SAMPLES,
        "max_neighbors": wishes.MAX_NEIGHBORS,
        "max_things": wishes.MAX_THINGS,
        "max_image_bytes": MAX_IMAGE,
        "max_text": wishes.MAX_TEXT,
    }
