"""A door on loopback over a small random model, in this process, without Ray; and pictures to send."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import socket
import struct
import threading
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from infra.serving import listening
from infra.serving.callers import Callers, Rates, Room, Tokens
from infra.serving.listening import Asked
from tokenizer_service import vq
from tokenizer_service.serving.door import Door
from tokenizer_service.serving.looking import Pixels, Unfit
from tokenizer_service.serving.model import Coded, Drawn, Model, Shape, encoded
from tokenizer_service.vq import VQConfig

TOKEN = "canary-of-the-service-0123456789"  # noqa: S105  # made up
BEARER = {"Authorization": f"Bearer {TOKEN}"}
SHAPE = Shape(side=32, max_batch=4, wait_s=0.005, lookers=2)
JPEG = {"Content-Type": "image/jpeg"}
MAX_BODY = 1 << 20


def weights() -> bytes:
    return vq.save(vq.new(VQConfig(codebook_size=64), torch.Generator().manual_seed(0)))


def picture(seed: int, *, kind: str = "PNG", size: tuple[int, int] = (48, 40)) -> bytes:
    rng = np.random.default_rng(seed)
    smooth = Image.fromarray(rng.integers(0, 256, (5, 6, 3), dtype=np.uint8)).resize(size)
    sink = io.BytesIO()
    smooth.save(sink, kind)
    return sink.getvalue()


def bomb(width: int, height: int) -> bytes:
    """A PNG of one colour, whose header tells the truth."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    pixels = zlib.compress(bytes((width + 7) // 8 + 1) * height)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def refused(answer: httpx.Response, status: int, error: str) -> dict[str, str]:
    assert answer.status_code == status, answer.text
    told: dict[str, str] = answer.json()
    assert set(told) == {"error", "value", "fix"}
    assert error in told["error"]
    assert told["fix"]
    assert "Traceback" not in answer.text
    return told


def in_base64(images: list[bytes]) -> list[str]:
    return [base64.b64encode(image).decode() for image in images]


@dataclass(slots=True)
class Here:
    """The model in this process; requests do not share batches. What waits at ``held`` is in flight."""

    model: Model
    held: asyncio.Event = field(default_factory=asyncio.Event)
    dead: bool = False

    async def encode(self, images: Sequence[bytes]) -> list[Coded] | Unfit:
        await self.held.wait()

        async def alone(square: Pixels) -> Coded:
            (coded,) = await self.model.codes([square])
            return coded

        return await encoded(images, self.model.lookers, alone)

    async def decode(self, codes_BT: NDArray[np.integer[Any]]) -> list[Drawn]:
        if self.dead:
            raise RuntimeError("a secret of the machine")
        return [(await self.model.drawn([codes_T]))[0] for codes_T in codes_BT]

    async def alive(self) -> bool:
        return not self.dead


@dataclass(slots=True, kw_only=True)
class Served:
    """A running service, and its end."""

    url: str
    door: Door
    coder: Here
    loop: asyncio.AbstractEventLoop
    asked: Asked
    thread: threading.Thread

    def post(self, path: str, **words: Any) -> httpx.Response:
        headers = {**BEARER, **words.pop("headers", {})}
        return httpx.post(self.url + path, headers=headers, timeout=30, **words)

    def connected(self) -> socket.socket:
        host, port = self.url.removeprefix("http://").split(":")
        return socket.create_connection((host, int(port)), timeout=20)

    def do(self, call: Any) -> None:
        self.loop.call_soon_threadsafe(call)


@contextlib.contextmanager
def served(
    *,
    callers: Callers | None = None,
    rates: Rates | None = None,
    room: Room | None = None,
) -> Iterator[Served]:
    found: list[Served] = []
    begun = threading.Event()

    async def run() -> None:
        model = await Model.ready(weights(), SHAPE)
        coder = Here(model)
        coder.held.set()
        door = Door(
            coder=coder,
            facts=model.facts(),
            callers=callers or Tokens.of(TOKEN, source="the test"),
            rates=rates or Rates(per_s=1e6, burst=1e6),
            room=room or Room(max_requests=64, max_bytes=8 * MAX_BODY),
            max_body=MAX_BODY,
        )
        at, asked = listening.bound("127.0.0.1", 0), Asked()
        found.append(
            Served(
                url=f"http://127.0.0.1:{at.getsockname()[1]}",
                door=door,
                coder=coder,
                loop=asyncio.get_running_loop(),
                asked=asked,
                thread=threading.current_thread(),
            )
        )
        await listening.serve(door, at, asked, begun=begun.set)
        model.close()

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    assert begun.wait(60)
    try:
        yield found[0]
    finally:
        with contextlib.suppress(RuntimeError):  # it has ended
            found[0].do(found[0].coder.held.set)
            found[0].do(found[0].asked.again)
        thread.join(30)
        assert not thread.is_alive()
