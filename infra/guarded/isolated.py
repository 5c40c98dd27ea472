"""Run a function on bytes that we do not trust, in a process of its own that may die of them.

The surprising rule: nothing that comes back is believed. Whoever takes the process over finds no secret in
its environment, and its answers are JSON and plain bytes, never pickles, in frames whose sizes are bounded
here; what they mean is checked by whoever asked. Bytes that end the process are tried once more in a fresh
one, which the bytes before them cannot have worn out, and then given up as :class:`Died`.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import select
import signal
import struct
import subprocess
import sys
import time
import weakref
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any, NoReturn, Self

from infra.guarded import json as guarded_json
from infra.guarded.refused import Refused

Answer = tuple[dict[str, Any], list[bytes]]
"""JSON values, and bytes beside them. A function is given (bytes, settings) and returns one."""

LENGTH = struct.Struct(">Q")
HEAD = guarded_json.Limits(max_values=100_000)
"""Of the JSON of an answer, 64 KiB; what is larger goes beside it."""
SHORT_HEAD = 4096
MAX_PARTS = 64
PIECE_BYTES = 1 << 20
START_S = 120
"""For the imports, on a machine that is busy; they take a fifth of a second on one that is not."""
END_S = 10
"""For the kernel to take a dead process apart."""
MAX_HELD = 16 << 20
"""Bytes of an item whose memory is kept for the next one."""
PASSED = ("PATH", "LD_LIBRARY_PATH", "PYTHONHOME")
"""Of our environment: what is needed to start Python."""
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
MALLOC = {"MALLOC_MMAP_THRESHOLD_": str(16 << 20), "MALLOC_TRIM_THRESHOLD_": str(64 << 20)}
"""Of glibc: memory of up to 64 MiB is kept for the next item, instead of being given back and zeroed again by
the kernel, which took 1.5 of the 14 ms of a photograph."""
WITHOUT_REAPING = os.WEXITED | os.WNOHANG | os.WNOWAIT
SIGNALS = {one.value: one.name for one in signal.Signals}


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Budgets of one item."""

    memory_bytes: int = 1 << 30
    """Address space, beside what the process takes before its first item."""
    cpu_s: int = 60
    wall_s: float = 300
    answer_bytes: int = 16 << 20
    """Beside the JSON."""
    deaths: int = 2
    """Processes that an item may cost."""


class Died(RuntimeError):
    """An item ended every process that worked on it. ``how`` is the last end, in the same words each time:
    a signal, the name of an exception, or a limit.
    """

    def __init__(self, how: str) -> None:
        super().__init__(how)
        self.how = how


@dataclass(slots=True, kw_only=True, eq=False, weakref_slot=True)
class Isolated:
    """``MODULE:FUNCTION`` in a process that starts with the first item and is closed with this object.

    The module is imported there: it should import little. One item at a time.
    """

    function: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    """JSON, handed to every call."""
    limits: Limits = field(default_factory=Limits)
    _child: _Child | None = field(default=None, init=False)
    _end: weakref.finalize[[], Isolated] | None = field(default=None, init=False)

    def call(self, data: bytes) -> Answer:
        """Raises :class:`Died`."""
        for _ in range(self.limits.deaths - 1):
            with contextlib.suppress(Died):
                return self._ask(data)
        return self._ask(data)

    def _ask(self, data: bytes) -> Answer:
        with contextlib.ExitStack() as unless_answered:
            unless_answered.callback(self.close)
            answer = self._started().ask(data)
            unless_answered.pop_all()
            return answer

    def _started(self) -> _Child:
        if self._child is None:
            with contextlib.ExitStack() as unless_started:
                items, parts = (os.memfd_create(self.function) for _ in range(2))
                unless_started.callback(os.close, items)
                unless_started.callback(os.close, parts)
                os.ftruncate(parts, max(1, self.limits.answer_bytes))
                self._child = _Child(_process(self, items, parts), items, parts, self.limits)
                unless_started.pop_all()
            self._end = weakref.finalize(self, self._child.close)
            self._check_ready(self._child)
        return self._child

    def _check_ready(self, child: _Child) -> None:
        try:
            child.receive(time.monotonic() + START_S)
        except Died as died:
            see = f"see why with `{sys.executable} -m infra.guarded.child {self.function}`"
            raise RuntimeError(
                f"a process for {self.function} ended before its first item ({died}); {see}"
            ) from None

    def close(self) -> None:
        """End the process; a later item starts another."""
        if self._end is not None:
            self._end()
        self._child = self._end = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _process(of: Isolated, items: int, parts: int) -> subprocess.Popen[bytes]:
    """``items``, ``parts``: the files in memory through which it gets the one and gives the other."""
    # A file description of its own, and read-only: O_APPEND, set on ours, would make every item longer.
    readable = os.open(f"/proc/self/fd/{items}", os.O_RDONLY)
    settings, limits = json.dumps(dict(of.settings)), json.dumps(asdict(of.limits))
    words = [of.function, settings, limits, str(readable), str(parts)]
    pipe = subprocess.PIPE
    try:
        process = subprocess.Popen(  # noqa: S603  # our own module; the item goes in as bytes on stdin
            [sys.executable, "-m", "infra.guarded.child", *words],
            bufsize=0,
            stdin=pipe,
            stdout=pipe,
            stderr=subprocess.DEVNULL,
            pass_fds=(readable, parts),
            env=environment(),
            start_new_session=True,  # Ctrl-C is for the job; when that ends, so does this
        )
    finally:
        os.close(readable)
    assert process.stdin is not None  # noqa: S101  # asked for above
    assert process.stdout is not None  # noqa: S101
    os.set_blocking(process.stdin.fileno(), False)
    return process


def environment() -> dict[str, str]:
    """No credentials, no addresses, and one thread for whoever multiplies."""
    return {
        **{name: os.environ[name] for name in PASSED if name in os.environ},
        # Without the working folder, which may be a delivery: a module in it would be imported.
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path not in ("", str(Path.cwd()))),
        "PYTHONSAFEPATH": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "LC_ALL": "C.UTF-8",
        **dict.fromkeys(THREADS, "1"),
        **MALLOC,
    }


@dataclass(frozen=True, slots=True)
class _Child:
    """One process, and frames to and from it."""

    process: subprocess.Popen[bytes]
    items: int
    """A file in memory: a photograph of 3 MB would go through a pipe in 50 pieces, copied twice."""
    parts: int
    """Another, in which the process writes what goes beside the JSON. We read it and never map it: what is
    cut off under a map ends whoever looks."""
    limits: Limits

    def ask(self, data: bytes) -> Answer:
        until = time.monotonic() + self.limits.wall_s
        given, whole = 0, memoryview(data)
        while given < len(whole):
            given += os.pwrite(self.items, whole[given:], given)
        self._send(LENGTH.pack(len(data)), until)
        answer = self.receive(until)
        if len(data) > MAX_HELD:
            os.ftruncate(self.items, 0)
        return answer

    def receive(self, until: float) -> Answer:
        """An answer: the length of its JSON, and the JSON, which says how long the parts are."""
        raw = self._read(LENGTH.size, b"", until)
        (length,) = LENGTH.unpack(raw[: LENGTH.size])
        if length > HEAD.max_bytes:
            raise Died("malformed answer")
        end = LENGTH.size + length
        raw = self._read(end, raw, until)
        value, lengths = _head(raw[LENGTH.size : end])
        if sum(lengths) > self.limits.answer_bytes:
            raise Died(f"an answer of over {self.limits.answer_bytes} bytes")
        if len(raw) > end:  # the answer to something else
            raise Died("malformed answer")
        ends = accumulate(lengths)
        return value, [self._part(end - size, size) for size, end in zip(lengths, ends, strict=True)]

    def _part(self, start: int, size: int) -> bytes:
        found = os.pread(self.parts, size, start)
        if len(found) < size:  # up to 2 GiB come at once, unless the file is shorter than we made it
            raise Died("malformed answer")
        return found

    def _send(self, data: bytes, until: float) -> None:
        assert self.process.stdin is not None  # noqa: S101  # asked for above
        pipe, left = self.process.stdin.fileno(), memoryview(data)
        while left:
            try:
                left = left[os.write(pipe, left) :]
            except BlockingIOError:
                self._wait(pipe, select.POLLOUT, until)
            except BrokenPipeError:
                self._tell_end()

    def _read(self, length: int, found: bytes, until: float) -> bytes:
        """At least so many bytes of an answer, of which the first are ``found``."""
        assert self.process.stdout is not None  # noqa: S101  # asked for above
        pipe = self.process.stdout.fileno()
        while len(found) < length:
            self._wait(pipe, select.POLLIN, until)
            piece = os.read(pipe, PIECE_BYTES)
            if not piece:
                self._tell_end()
            found += piece
        return found

    def _wait(self, pipe: int, event: int, until: float) -> None:
        poll = select.poll()
        poll.register(pipe, event)
        if not poll.poll(max(0.0, until - time.monotonic()) * 1000):
            raise Died("no answer in time")

    def _tell_end(self) -> NoReturn:
        code = self._code()
        if code is None:
            raise Died("malformed answer")
        raise Died(SIGNALS.get(-code, f"signal {-code}") if code < 0 else f"exit {code}")

    def _code(self) -> int | None:
        """Its exit code as subprocess has it; none, where it does not end. Its number stays ours until it is
        waited for, so that what it has started can be ended with it.
        """
        until = time.monotonic() + END_S
        while (ended := os.waitid(os.P_PID, self.process.pid, WITHOUT_REAPING)) is None:
            if time.monotonic() > until:
                return None
            time.sleep(0.01)
        return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            if self.process.returncode is None:  # else its number may be another's by now
                os.killpg(self.process.pid, signal.SIGKILL)  # with all that it started
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()
        self.process.wait()
        os.close(self.items)
        os.close(self.parts)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object that names nothing twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name stands twice")
    return found


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def _finite(text: str) -> float:
    if math.isinf(value := float(text)):
        raise ValueError(f"{text} is too large")
    return value


SHORT = json.JSONDecoder(object_pairs_hook=_once, parse_constant=_no_number, parse_float=_finite)


def _head(raw: bytes) -> tuple[dict[str, Any], list[int]]:
    """The value of an answer, and the lengths of its parts; raises :class:`Died` for what is none."""
    try:
        # Up to a page nothing can grow, nest too deep or take long; our own reader takes ten times as long,
        # and sees what spells half a character.
        short = len(raw) <= SHORT_HEAD and b"\\ud" not in raw.lower()
        found = SHORT.decode(raw.decode()) if short else guarded_json.loads(raw, file="answer", limits=HEAD)
    except (Refused, ValueError, RecursionError):
        found = None
    match found:
        case {"raised": str(name)} if name.isidentifier():
            raise Died(name[:80])
        case {"value": dict(value), "parts": [*parts]} if len(parts) <= MAX_PARTS:
            if all(type(part) is int and part >= 0 for part in parts):
                return value, parts
    raise Died("malformed answer")
