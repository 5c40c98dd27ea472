"""``pardalis tokenizer serve``: which model, for whom, at which address; a layer below serves it."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import ipaddress
import math
import os
import shlex
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from infra.options import ReadOptions, answer
from infra.storage import LocalStore, Store, cache_folder
from infra.telemetry import say
from pipeline import refs
from pipeline.tokenizer.tokenizing import image_side, numerics_of
from pipeline.tokens import VQ
from tokenizer_service import checkpoints, server, vq
from tokenizer_service.coding import NUMERICS, Numerics
from tokenizer_service.serving import listening
from tokenizer_service.serving.callers import Anyone, Callers, Rates, Room, Tokens
from tokenizer_service.serving.door import Door
from tokenizer_service.serving.model import Facts, Shape

TOKEN = "PARDALIS_SERVICE_TOKEN"  # noqa: S105  # a variable's name
BURST_S = 2.0
"""Of the rate, at once after a pause."""
ROOM_BODIES = 16
"""Of the largest bodies that are held at once; of ordinary ones, as many requests as may wait."""
MIB = 1 << 20


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class ServeOptions:
    model: str | None = None
    """In place of a corpus's: a vq.safetensors, a published checkpoint, or its OWNER/NAME:FILE on the hub."""
    model_license: str | None = None
    """What published weights are under, as an SPDX identifier."""
    side: int | None = None
    """Pixels a side of what is encoded; default what the model was fitted at."""
    host: str = "127.0.0.1"
    port: int = 8000
    """0 takes a free one."""
    token_file: Path | None = None
    """File with one token a line; else the variable PARDALIS_SERVICE_TOKEN holds them."""
    open: Annotated[bool, Parameter(negative="")] = False
    """Ask nobody for a token; on loopback only."""
    replicas: int = 1
    """Copies of the model, one CPU each, and a share of the GPUs where there are any."""
    max_batch: int = 32
    """Images a batch; every batch is padded to as many, which keeps codes the same in any company."""
    wait_ms: float = 5
    """That a picture waits for others."""
    rate: float = 200
    """Images a second for each token, twice as many at once."""
    queue: int = 256
    """Requests that wait; more are answered 503."""
    max_body_mib: float = 16
    """Of a request."""
    address: str | None = None
    """Ray cluster to join; default $RAY_ADDRESS, else a local Ray."""


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
                count=service.replicas,
                app=f"pardalis-tokenizer-{socket.gethostname()}-{at.getsockname()[1]}",
                queued=service.queue,
                address=service.address or os.environ.get("RAY_ADDRESS"),
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
        rates=Rates(images_s=service.rate, burst=max(1.0, service.rate * BURST_S)),
        room=Room(
            max_requests=service.queue,
            max_bytes=ROOM_BODIES * max_body,
            callers=len(callers.digests) if isinstance(callers, Tokens) else 1,
        ),
        max_body=max_body,
    )
    asked = listening.Asked()
    with asked.by_signals():
        url = address(at)
        told = {"address": url, "token": not isinstance(callers, Anyone), **of(door.facts)}
        text = f"{url}\n{example(url, callers, service)}"
        await listening.serve(door, at, asked, begun=lambda: answer(told, text, json=options.json))


def allowed(service: ServeOptions, environment: Mapping[str, str]) -> Callers:
    """Whom to serve. Nobody who may come from another machine is served without a token."""
    if service.open:
        if not is_loopback(service.host):
            raise ValueError(f"--open --host {service.host}: without a token only loopback is served")
        return Anyone()
    if service.token_file is not None:
        return Tokens.of(service.token_file.read_text(), source=str(service.token_file))
    if TOKEN in environment:
        return Tokens.of(environment[TOKEN], source=f"${TOKEN}")
    raise ValueError(f"there is no token for callers; give --token-file, set {TOKEN}, or on loopback --open")


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


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
    for name in ("replicas", "max_batch", "queue", "rate", "max_body_mib"):
        if not 0 < getattr(service, name) < math.inf:
            option = name.replace("_", "-")
            raise ValueError(f"--{option} {getattr(service, name)}: give a number above 0")
    if not 0 <= service.wait_ms < math.inf:
        raise ValueError(f"--wait-ms {service.wait_ms}: give a number from 0 on")
    # Each may take 832 MiB.
    lookers = max(1, min(MAX_LOOKERS, len(os.sched_getaffinity(0)) // service.replicas))
    return Shape(
        side=side,
        max_batch=service.max_batch,
        wait_s=service.wait_ms / 1000,
        lookers=lookers,
        dtype=numerics.dtype,
    )


def address(at: socket.socket) -> str:
    host, port = at.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def of(facts: Facts) -> dict[str, object]:
    return {"side": facts.side, "codebook_size": facts.codebook_size, "fingerprint": facts.fingerprint}


def example(url: str, callers: Callers, service: ServeOptions) -> str:
    """A command that encodes a picture. The token is not in it: it would stay in the shell's history."""
    source = f"$(head -1 {shlex.quote(str(service.token_file))})" if service.token_file else f"${TOKEN}"
    shown = "" if isinstance(callers, Anyone) else f' --oauth2-bearer "{source}"'
    return f'curl{shown} -H "Content-Type: image/jpeg" --data-binary @picture.jpg {url}/encode'
