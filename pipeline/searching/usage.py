"""How often the search answered with each asset: what contracts that pay by use need, and no query.

The door counts in memory, 8 bytes a member, and every few seconds what was counted becomes a small file in a
folder: ``TIME-SHA256.parquet``, of uids and times. The surprising rule: the folder is given, and is none of
the corpus's: a service need not be able to write there, and an asset that is taken back must be found nowhere
in it, while what is owed for it is still told. A process that is killed forgets at most those seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from infra.artifact import Corrupt
from infra.storage import UNREACHABLE, Store
from infra.telemetry import say
from pipeline import schema, tables
from retrieval.serving.admission import Rows

EVERY_S = 10.0
NAME = re.compile(r"[0-9]{8}T[0-9]{6}Z-([0-9a-f]{64})\.parquet")
TIMES = schema.column("times", pa.int64(), "answers of the search that named it")
COUNTED = pa.schema([schema.UID, TIMES])
Counts = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Span:
    """What was counted between two instants."""

    times_N: Counts
    since: datetime
    until: datetime


@dataclass(slots=True, kw_only=True)
class Usage:
    """Of one door. Counted in the thread of its event loop, written beside it."""

    store: Store
    facts: dict[str, str]
    """Which service counted; told in every file."""
    uids: pa.Array
    """[N]: in the order of the catalogue's rows."""
    now: Callable[[], datetime]
    _times_N: Counts = field(init=False)
    _since: datetime = field(init=False)
    _fails: bool = False

    def __post_init__(self) -> None:
        self._times_N = np.zeros(len(self.uids), np.int64)
        self._since = self.now()

    def served(self, rows: Rows) -> None:
        """An answer that names these; each once."""
        self._times_N[rows] += 1

    def begin(self) -> None:
        """A file that counts nothing: whoever cannot write there is told so before anybody is served."""
        try:
            self.write(self._taken())
        except UNREACHABLE as error:
            fix = "name a folder that can be"
            raise ValueError(f"--usage {self.store.uri} cannot be written: {error}; {fix}") from None

    @contextlib.asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """Within the block what is counted is written every few seconds, and at its end."""
        done = asyncio.Event()
        task = asyncio.create_task(self._until(done))
        try:
            yield
        finally:
            done.set()
            await task
            await self.flush()
            if left := int(self._times_N.sum()):
                say(f"--usage {self.store.uri} could not be written: {left} answers are in no file")

    async def _until(self, done: asyncio.Event) -> None:
        while not done.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(done.wait(), EVERY_S)
            await self.flush()

    async def flush(self) -> None:
        """Where the store fails, it is said once, and what was counted waits for the next time."""
        if not self._times_N.any():
            return
        span = self._taken()
        try:
            await asyncio.to_thread(self.write, span)
        except UNREACHABLE as error:
            self._times_N += span.times_N
            self._since = span.since
            if not self._fails:
                say(f"--usage {self.store.uri} cannot be written now ({error}); it is counted all the same")
            self._fails = True
            return
        self._fails = False

    def _taken(self) -> Span:
        times_N, since, self._since = self._times_N, self._since, self.now()
        self._times_N = np.zeros_like(times_N)
        return Span(times_N, since, self._since)

    def write(self, span: Span) -> None:
        (rows,) = np.nonzero(span.times_N)
        counted = tables.typed({"uid": self.uids.take(pa.array(rows)), "times": span.times_N[rows]}, COUNTED)
        told = {**self.facts, "since": span.since.isoformat(), "until": span.until.isoformat()}
        data = tables.to_parquet(counted.replace_schema_metadata(told))
        self.store.create(f"{span.until:%Y%m%dT%H%M%SZ}-{hashlib.sha256(data).hexdigest()}.parquet", data)


@dataclass(slots=True, kw_only=True)
class Served:
    """What the files of folders add up to."""

    times: Counter[str] = field(default_factory=Counter)
    """By uid."""
    num_files: int = 0
    since: str | None = None
    until: str | None = None

    def add(self, store: Store) -> None:
        """All files of a folder, each checked against its name; others than ours are passed over."""
        for name in store.names():
            if found := NAME.fullmatch(name):
                self._add_file(store.read(name), found[1], store.where(name))

    def _add_file(self, data: bytes, sha256: str, where: str) -> None:
        if hashlib.sha256(data).hexdigest() != sha256:
            raise Corrupt(f"{where} is not what its name says; restore it from a copy")
        table = pq.read_table(io.BytesIO(data))
        told: dict[bytes, bytes] = table.schema.metadata
        since, until = told[b"since"].decode(), told[b"until"].decode()
        self.since = min(self.since or since, since)
        self.until = max(self.until or until, until)
        self.num_files += 1
        for uid, times in zip(*(table[name].to_pylist() for name in COUNTED.names), strict=True):
            self.times[uid] += times
