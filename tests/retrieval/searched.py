"""A search over some members in this process, without Ray: vectors on a grid, and an encoder of hashes."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from infra.serving.callers import Anyone, Caller, Callers, Rates, Room
from retrieval import align, building
from retrieval.encoders import normalised
from retrieval.index import Index
from retrieval.layouts import IndexConfig
from retrieval.searching import Searcher
from retrieval.segments import Floats
from retrieval.serving.admission import Admit, Admitted, Grant
from retrieval.serving.asking import Answer, Asked, Forgotten, Found, Ready, Shape
from retrieval.serving.catalogue import GIVEN, Catalogue
from retrieval.serving.desk import Desk, searched
from retrieval.serving.door import Door
from retrieval.serving.facts import About
from retrieval.serving.queries import MAX_BODY, Bounds
from retrieval.serving.shelf import Candidate, Example
from tokenizer_service.serving.looking import Pixels

WIDTH, SIDE = 8, 16
SHAPE = Shape(max_batch=8, wait_s=0.0, lookers=1, threads=1)
DISPLAY = Grant(uses=frozenset({"retrieval_display"}), territory="worldwide")
JSON = {"Content-Type": "application/json"}


@dataclass(slots=True)
class Hashing:
    """Texts to directions by their hash, pictures by their mean colour. Counts what it encoded."""

    name: str = "hashing"
    fingerprint: str = "f" * 64
    image_width: int = WIDTH
    text_width: int = WIDTH
    texts: list[str] = field(default_factory=list)

    def image_features(self, images_BHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        mean_BC = images_BHWC.reshape(len(images_BHWC), -1, 3).mean(axis=1)
        return normalised(np.pad(mean_BC - 127, ((0, 0), (0, WIDTH - 3))))

    def text_features(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.texts += texts
        return np.stack([direction(text) for text in texts])


def direction(text: str) -> NDArray[np.float32]:
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8])
    return normalised(np.random.default_rng(seed).normal(size=(1, WIDTH)))[0]


def vectors(num: int, seed: int = 0) -> NDArray[np.float32]:
    """On a grid, so that ties are common."""
    rng = np.random.default_rng(seed)
    return normalised(rng.integers(-1, 2, (num, WIDTH)).astype(np.float32))


def searcher(ids_N: NDArray[np.int64], vectors_ND: NDArray[np.float32]) -> Searcher:
    segment = building.build(ids_N, vectors_ND, IndexConfig(kind="flat"))
    return Searcher(
        index=Index.open([segment]), encoder=Hashing(), projection=align.identity(WIDTH), side=SIDE
    )


def member(number: int, **changes: Any) -> dict[str, Any]:
    facts = {
        "uid": f"acme:{number}",
        "description": f"picture {number}",
        "keywords": ["red"],
        "categories": [],
        "contributor": "c",
        "width": 4,
        "height": 3,
        "image_type": "photo",
        "ai_generated": "no",
        "date": None,
        "id": 3 * number,
        "group": f"acme:{number}",
        "reasons": [],
    }
    return facts | changes


def catalogue(members: Sequence[dict[str, Any]]) -> Catalogue:
    return Catalogue.of(pa.Table.from_pylist(list(members), schema=GIVEN))


def everything(found: Catalogue, *, hidden: Callable[[], set[str]] = set) -> Admit:
    """Shows all but the uids that are hidden at the time."""
    uids = found.facts["uid"].to_pylist()

    def admit(_grant: Grant) -> Admitted:
        shown_N = np.array([uid not in hidden() for uid in uids], np.bool_)
        return Admitted(
            shown_N=shown_N,
            found_N=shown_N,
            kinds_N=np.zeros(len(uids), np.int32),
            licenses=[("L-1",)],
            credits=lambda rows: [f"by {uids[row]}" for row in rows],
        )

    return admit


@dataclass(slots=True)
class Here:
    """A desk in this process; searches do not share batches. What waits at ``held`` is in flight."""

    desk: Desk
    before: Callable[[], None] = lambda: None
    """Called when a search was answered and its answer is not put together yet."""

    async def search(self, asked: Asked) -> Found:
        async def ranked(ready: Ready) -> Answer:
            (found,) = await self.desk.ranked([ready])
            return found

        found = await searched(self.desk, asked, pictured=self.pictured, ranked=ranked)
        self.before()
        assert not isinstance(found, Forgotten)
        return found

    async def pictured(self, square: Pixels) -> Floats:
        (found,) = await self.desk.pictured([square])
        return found

    async def alive(self) -> bool:
        return True


@dataclass(frozen=True, slots=True)
class Pictures:
    """One colour for each row, and the next two rows as its neighbors."""

    num: int

    def image(self, row: int) -> bytes:
        return jpeg((row * 40 % 256, 80, 120))

    def example(self, row: int) -> Example | None:
        if row == 0:
            return None
        near = [Candidate(uid=f"acme:{(row + by) % self.num}", score=0.5, via="image") for by in (1, 2)]
        return Example(split="train", candidates=near)


def jpeg(color: tuple[int, int, int], *, size: tuple[int, int] = (400, 300), kind: str = "JPEG") -> bytes:
    sink = io.BytesIO()
    Image.new("RGB", size, color).save(sink, kind)
    return sink.getvalue()


def in_base64(file: bytes) -> str:
    return base64.b64encode(file).decode()


def door(
    desk: Desk,
    found: Catalogue,
    admit: Admit,
    *,
    callers: Callers | None = None,
    grants: Callable[[Caller], Grant] = lambda _: DISPLAY,
    uses: frozenset[str] = frozenset({"retrieval_display", "commercial"}),
) -> Door:
    return Door(
        searching=Here(desk),
        catalogue=found,
        admit=admit,
        grants=grants,
        shelf=Pictures(len(found)),
        about=About(
            corpus="a corpus",
            version=7,
            encoder="hashing",
            is_clip=False,
            fingerprint="f" * 64,
            uses=uses,
            open=callers is None,
            examples=True,
        ),
        bounds=Bounds(width=WIDTH, uses=uses),
        register=dict,
        callers=callers or Anyone(),
        rates=Rates(per_s=1e6, burst=1e6),
        room=Room(max_requests=64, max_bytes=1 << 28),
        max_body=MAX_BODY,
    )


def ask(app: Door, method: str, path: str, **words: Any) -> httpx.Response:
    """One request to the application, without a socket."""

    async def sent() -> httpx.Response:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            return await client.request(method, path, **words)

    return asyncio.run(sent())


def search(app: Door, **asked: Any) -> dict[str, Any]:
    answer = ask(app, "POST", "/search", json=asked)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = json.loads(answer.text)
    return found
