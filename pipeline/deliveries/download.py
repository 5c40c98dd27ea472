"""Download a batch of images by their addresses: img2dataset does the work, ``infra.guarded.https`` dials.

img2dataset downloads in threads, compares sha256 and heeds X-Robots-Tag. Its resizer is told never to
re-encode, so it hands the bytes on as they came and decodes nothing, and its shard and statistics are files
of fsspec's ``memory://``. A batch is held in memory: at most ``Effort.max_total_bytes``, and twice
``Limits.max_bytes`` for each thread that is reading.

The surprising rule: img2dataset never sees an address. It is given ``guarded:7`` for row 7, which only the
opener that is installed in this process meanwhile can open. So nothing that it prints, counts or leaves
running (a pool whose shard fails is not joined) can tell an address, or follow one past the guard. It turns
exceptions into text, and drops rows without a word; the opener keeps the exceptions, and what is neither
found nor refused in the end is told as lost.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import re
import threading
import time
import urllib.request
import urllib.response
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import fsspec
import pyarrow as pa

from infra.guarded import https
from infra.guarded.address import check_uri, shown
from infra.guarded.https import Limits, Network, Unreachable
from infra.guarded.refused import Refused
from pipeline.deliveries.fetched import Missed

FOLDER = "memory://pardalis"
SCHEME = "guarded"
COLUMNS = ["url", "sha256"]
AGENT = "pardalis"
"""As X-Robots-Tag would name us."""
DIRECTIVES = ("noai", "noimageai", "noindex", "noimageindex", "none")
"""Of X-Robots-Tag; ``none`` is noindex and nofollow."""
MISMATCH, DISALLOWED = "hash mismatch", "Use of image disallowed by X-Robots-Tag directive"
"""In img2dataset's words. Words that are none of these make a row lost, never found."""
RETRIED = frozenset({"unreachable", "lost"})
TURN = threading.Lock()
"""The opener and the standard streams are the process's own: one batch at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How hard a batch is tried for."""

    threads: int = 8
    tries: int = 3
    first_wait_s: float = 1.0
    """Before the second try; twice as long before each further one."""
    max_total_bytes: int = 1024 * 1024 * 1024
    """Of all that is read for a batch, over all tries; of answers that were cut short, what had come."""


EFFORT = Effort()


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    row: int
    uri: str
    sha256: str
    version: str = ""
    """Of an object of S3; the newest, where none is stated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    row: int
    outcome: bytes | Missed
    """Codes that stand: a rule of :func:`infra.guarded.https.opener`, ``sha256_mismatch`` or ``disallowed``.
    Codes to try again: ``unreachable``, ``lost`` (img2dataset dropped it) or ``budget``."""


def download(
    wanted: Sequence[Wanted],
    *,
    hosts: Collection[str],
    limits: Limits = https.ANSWER,
    network: Network = https.INTERNET,
    effort: Effort = EFFORT,
    sleep: Callable[[float], None] = time.sleep,
) -> list[Fetched]:
    """One outcome for each that is wanted, in the same order; bytes are those of the wanted sha256."""
    if limits.max_bytes > effort.max_total_bytes:
        told = f"max_total_bytes is {effort.max_total_bytes}, and one answer may have {limits.max_bytes}"
        raise ValueError(f"{told}; give a batch room for one at least")
    budget = _Budget(left_bytes=effort.max_total_bytes)
    guard = https.opener(hosts, limits=limits, network=network, cut_short=budget.spend)
    outcomes: dict[int, bytes | Missed] = dict(_refused(wanted, hosts))
    for attempt in range(effort.tries):
        rows = {number: one for number, one in enumerate(wanted) if _retried(outcomes.get(number))}
        if not rows:
            break
        if attempt:
            sleep(effort.first_wait_s * 2 ** (attempt - 1))
        outcomes |= _try(_Guarded(rows, guard, budget), effort.threads)
    return [Fetched(row=one.row, outcome=outcomes[number]) for number, one in enumerate(wanted)]


def _refused(wanted: Sequence[Wanted], hosts: Collection[str]) -> Iterator[tuple[int, Missed]]:
    """What need not be tried."""
    for number, one in enumerate(wanted):
        try:
            check_uri(one.uri, hosts)
        except Refused as error:
            yield number, Missed.of(error)


def _retried(outcome: bytes | Missed | None) -> bool:
    return outcome is None or (isinstance(outcome, Missed) and outcome.code in RETRIED)


def _try(guarded: _Guarded, threads: int) -> dict[int, bytes | Missed]:
    """An outcome for each of the rows, however little img2dataset says of them."""
    told = _Told()
    with TURN, _installed(guarded), _silent() as said:
        _run(guarded.rows, told, threads)
    dropped = " ".join(sorted(set(re.findall(r"^(?:\w+\.)*(\w+Error)\b", said.getvalue(), re.MULTILINE))))
    return {
        number: guarded.missed.get(number) or _outcome(one, told.rows.get(number), dropped)
        for number, one in guarded.rows.items()
    }


def _outcome(one: Wanted, told: bytes | str | None, dropped: str) -> bytes | Missed:
    place = shown(one.uri)
    if isinstance(told, bytes) and hashlib.sha256(told).hexdigest() == one.sha256:
        return told
    if isinstance(told, bytes) or told == MISMATCH:
        message = f"{place}: its bytes are not those of sha256 {one.sha256[:64]!a}; deliver the row again"
        return Missed(code="sha256_mismatch", message=message, again=False)
    if told == DISALLOWED:
        message = f"{place}: its server sends X-Robots-Tag with one of {', '.join(DIRECTIVES)}"
        return Missed(code="disallowed", message=f"{message}; deliver the file instead", again=False)
    message = f"{place}: img2dataset lost it ({dropped or 'and did not say why'}); try again"
    return Missed(code="lost", message=message, again=True)


@dataclass(slots=True, kw_only=True)
class _Budget:
    left_bytes: int
    lock: threading.Lock = field(default_factory=threading.Lock)

    def spend(self, num_bytes: int) -> bool:
        """False once more was spent than there was, and from then on."""
        with self.lock:
            self.left_bytes -= num_bytes
            return self.left_bytes >= 0


class _Guarded(urllib.request.BaseHandler):
    """Opens ``guarded:7``, and remembers why it did not."""

    def __init__(
        self, rows: Mapping[int, Wanted], guard: urllib.request.OpenerDirector, budget: _Budget
    ) -> None:
        self.rows, self.guard, self.budget = rows, guard, budget
        self.missed: dict[int, Missed] = {}

    def guarded_open(self, request: urllib.request.Request) -> urllib.response.addinfourl:
        number = int(request.selector)
        uri = self.rows[number].uri
        try:
            if self.budget.spend(0):
                answer = self.guard.open(uri)
                body = answer.read()
                if self.budget.spend(len(body)):
                    return urllib.response.addinfourl(io.BytesIO(body), answer.headers, request.full_url, 200)
        except (Refused, Unreachable) as error:
            self.missed[number] = Missed.of(error)
            raise
        message = f"{shown(uri)}: the batch before it took all the bytes that may be read; try again"
        self.missed[number] = Missed(code="budget", message=message, again=True)
        raise Unreachable(shown(uri), "the budget of the batch is spent")


class _Told:
    """The sample writer that img2dataset is given: bytes or an error's text, by row."""

    def __init__(self) -> None:
        self.rows: dict[int, bytes | str] = {}

    def write(self, image: bytes | None, _key: str, _caption: object, meta: Mapping[str, Any]) -> None:
        number = int(meta["url"].partition(":")[2])
        self.rows[number] = meta["error_message"] if image is None else image

    def close(self) -> None:
        """Nothing is open."""


def _run(rows: Mapping[int, Wanted], told: _Told, threads: int) -> None:
    addresses = [f"{SCHEME}:{number}" for number in rows]
    table = pa.table([addresses, [one.sha256 for one in rows.values()]], names=COLUMNS)
    memory, shard = fsspec.filesystem("memory"), f"{FOLDER}/shard.feather"
    work = _img2dataset(told, threads, len(rows))
    with memory.open(shard, "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    try:
        work((0, shard))  # whether it says that it failed does not matter: every row is looked at
    finally:
        memory.rm(FOLDER, recursive=True)


def _img2dataset(told: _Told, threads: int, num_rows: int) -> Callable[[tuple[int, str]], object]:
    # Importing it imports albumentations, which without this asks the network for a newer version of itself.
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
    # Five seconds (torch, ray, wandb, pandas, OpenCV), which only who downloads should wait for.
    from img2dataset.downloader import Downloader  # noqa: PLC0415
    from img2dataset.resizer import Resizer  # noqa: PLC0415

    work: Callable[[tuple[int, str]], object] = Downloader(
        sample_writer_class=lambda *_: told,
        resizer=Resizer(0, "no", resize_only_if_bigger=False, disable_all_reencoding=True),
        thread_count=threads,
        save_caption=False,
        extract_exif=False,
        output_folder=FOLDER,
        column_list=COLUMNS,
        timeout=None,  # the guard has its own
        number_sample_per_shard=num_rows,
        oom_shard_count=1,
        compute_hash="sha256",
        verify_hash_type="sha256",
        encode_format="jpg",  # nothing is encoded
        retries=0,  # its own come at once; ours wait
        user_agent_token=AGENT,
        disallowed_header_directives=DIRECTIVES,
    )
    return work


@contextlib.contextmanager
def _installed(handler: urllib.request.BaseHandler) -> Iterator[None]:
    """Whatever else the process opens with ``urlopen`` meanwhile is an unknown scheme."""
    director = urllib.request.OpenerDirector()
    director.add_handler(handler)
    director.add_handler(urllib.request.UnknownHandler())
    before = urllib.request._opener  # type: ignore[attr-defined]  # noqa: SLF001  # no public name
    urllib.request.install_opener(director)
    try:
        yield
    finally:
        urllib.request.install_opener(before)


@contextlib.contextmanager
def _silent() -> Iterator[io.StringIO]:
    """What Python prints meanwhile.

    The streams of the process, so other threads' words go too; not its file descriptors, so that what a crash
    says is still heard. img2dataset does not wrap its prints in anything that could be silenced alone.
    """
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        yield said
