"""``pardalis tokenizer serve``: which model, for whom, at which address; a layer below serves it."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass

from cyclopts import Parameter

from infra.options import ReadOptions, answer
from infra.serving import listening
from infra.serving.callers import Anyone, Callers, Room, Tokens
from infra.serving.options import (
    MIB,
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
from infra.storage import LocalStore, Store, cache_folder
from infra.telemetry import say
from pipeline import refs
from pipeline.tokenizer.tokenizing import image_side, numerics_of
from pipeline.tokens import VQ
from tokenizer_service import checkpoints, server, vq
from tokenizer_service.coding import NUMERICS, Numerics
from tokenizer_service.serving.door import Door
from tokenizer_service.serving.model import Facts, Shape

ROOM_BODIES = 16
"""Of the largest bodies that are held at once; of ordinary ones, as many requests as may wait."""


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class ServeOptions(DoorOptions):
    model: str | None = None
    """In place of a corpus's: a vq.safetensors, a published checkpoint, or its OWNER/NAME:FILE on the hub."""
    model_license: str | None = None
    """What published weights are under, as an SPDX identifier."""
    side: int | None = None
    """Pixels a side of what is encoded; default what the model was fitted at."""
    max_batch: int = 32
    """Images a batch; every batch is padded to as many, which keeps codes the same in any company."""
    wait_ms: float = 5
    """That a picture waits for others."""
    rate: float = 200
    """Images a second for each token, twice as many at once."""
    max_body_mib: float = 16
    """Of a request."""


def serve(*, options: ReadOptions | None = None, service: ServeOptions | None = None) -> None:
    """Serve the image tokenizer over HTTP: POST /encode and /decode; /healthz, /metrics, /openapi.json.

    It ends on SIGTERM or Ctrl-C, when the requests in flight are answered. It speaks plain HTTP: beyond this
    machine, put a proxy with TLS before it.

    Example: pardalis tokenizer serve --corpus demo/corpus --token-file token.txt

    then: curl --oauth2-bearer "$(cat token.txt)" --data-binary @apple.jpg -H "Content-Type: image/jpeg"
    http://127.0.0.1:8000/encode
    """
    options, service = options or ReadOptions(), service or ServeOptions()
    callers = allowed(service, os.environ)
    os.environ.pop(TOKEN, None)  # what Ray starts inherits the rest
    weights, numerics, side = chosen(options, service)
    model = vq.load(weights.read())
    sides = (service.side, side, model.config.preprocessing.side)
    side = next((one for one in sides if one is not None), None)
    shape = shaped(service, side, model.config.downsample, numerics)
    if model.weights is not None and model.weights.noncommercial:
        say(f"for no commercial purpose: the weights are under {model.weights.license}")
    with contextlib.ExitStack() as held:
        at = held.enter_context(listening.bound(service.host, service.port))
        coder = held.enter_context(
            server.replicas(
                weights,
                shape,
                Pool(count=service.replicas, max_batch=service.max_batch, queued=service.queue),
                app=app("tokenizer", at),
                address=service.cluster(),
            )
        )
        asyncio.run(opened(coder, callers, at, options=options, service=service))
    say("ended")


async def opened(
    coder: server.Asking,
    callers: Callers,
    at: socket.socket,
    *,
    options: ReadOptions,
    service: ServeOptions,
) -> None:
    max_body = int(service.max_body_mib * MIB)
    door = Door(
        coder=coder,
        facts=await coder.facts(),
        callers=callers,
        rates=rates(service.rate, unit="images"),
        room=Room(
            max_requests=service.queue,
            max_bytes=ROOM_BODIES * max_body,
            callers=callers.count,
        ),
        max_body=max_body,
    )
    asked = listening.Asked()
    with asked.by_signals():
        address = url(at)
        told = {"address": address, "token": not isinstance(callers, Anyone), **of(door.facts)}
        text = f"{address}\n{example(address, service)}"
        await listening.serve(door, at, asked, begun=lambda: answer(told, text, json=options.json))


def allowed(service: ServeOptions, environment: Mapping[str, str]) -> Callers:
    given = tokens(service, environment)
    return Anyone() if given is None else Tokens.of(given.lines, source=given.source)


def chosen(options: ReadOptions, service: ServeOptions) -> tuple[refs.Ref, Numerics, int | None]:
    """Where the model lies, how a corpus computes it, and the pixels a side of the squares of that corpus."""
    if service.model is not None:
        if options.corpus is not None:
            raise ValueError("--model and --corpus both name a model; leave one out")
        return of_ours(service.model, license=service.model_license), NUMERICS, None
    corpus = options.open()
    version = corpus.newest()
    ref = refs.of(corpus.store, corpus.artifact(version, "vq").only, VQ)
    return ref, numerics_of(corpus, version), image_side(corpus, version)


def of_ours(where: str, *, license: str | None) -> refs.Ref:  # noqa: A002  # as checkpoints has it
    """A file that replicas can load: published weights as one of ours, in the cache."""
    file = checkpoints.found(where).resolve()
    if not checkpoints.is_ours(file):
        data = vq.save(checkpoints.load(where, license=license))
        folder, sha256 = cache_folder() / "tokenizers", hashlib.sha256(data).hexdigest()
        LocalStore(str(folder)).write(name := f"{sha256}.safetensors", data)
        file = folder / name
    return refs.Ref(Store.at(file.parent), file.name, checkpoints.sha256(file))


MAX_LOOKERS = 16
"""Decoders of a replica: some 300 photographs a second, and 13 GB at the worst."""


def shaped(service: ServeOptions, side: int | None, downsample: int, numerics: Numerics) -> Shape:
    if side is None:
        raise ValueError("the model does not say at which size it was fitted; give --side")
    if side < downsample or side % downsample:
        fix = max(downsample, side // downsample * downsample)
        raise ValueError(f"--side {side} is no multiple of the model's {downsample} px; give {fix}")
    check_numbers(service, ("replicas", "max_batch", "queue", "rate", "max_body_mib"))
    check_wait(service.wait_ms)
    return Shape(
        side=side,
        max_batch=service.max_batch,
        wait_s=service.wait_ms / 1000,
        lookers=service.lookers(MAX_LOOKERS),
        dtype=numerics.dtype,
    )


def of(facts: Facts) -> dict[str, object]:
    return {"side": facts.side, "codebook_size": facts.codebook_size, "fingerprint": facts.fingerprint}


def example(address: str, service: ServeOptions) -> str:
    """A command that encodes a picture."""
    headers = f'{shown_token(service)} -H "Content-Type: image/jpeg"'
    return f"curl{headers} --data-binary @picture.jpg {address}/encode"
