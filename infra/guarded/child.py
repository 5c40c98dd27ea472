"""The process in which ``infra.guarded.isolated`` runs a function; use that instead.

It learns from stdin how long an item is, reads it from a file in memory, answers on stdout and in another
such file, and ends with its stdin, so that it never outlives whoever asked. The surprising rule: limits are
set after the imports and before the first item, so that they are of the item alone. Nothing is caught but the
end: what the function raises is told by its name, and ends this.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import math
import mmap
import os
import resource
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from infra.guarded.isolated import LENGTH, Answer, Limits

Work = Callable[[bytes, Mapping[str, Any]], Answer]
NO_NEW_PRIVILEGES = 38
"""PR_SET_NO_NEW_PRIVS of prctl(2): no program started from here gains rights by its file's."""
MAX_FILES = 64


def confine(memory_bytes: int) -> None:
    """No more memory than that beside what is taken, no file written, no core, few files open."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + memory_bytes
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (MAX_FILES, MAX_FILES))
    ctypes.CDLL(None).prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0)


def allow_cpu(seconds: int) -> None:
    """From now on; when they are over, the kernel ends the process with SIGXCPU."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(used.ru_utime + used.ru_stime) + seconds, hard))


def item(items: int, length: int) -> bytes:
    """As much as was written; what takes several reads is copied once more."""
    found = os.pread(items, length, 0)
    while found and len(found) < length:
        found += os.pread(items, length - len(found), len(found))
    return found


def own_stdout() -> BinaryIO:
    """Our end of the pipe. Whatever else writes to stdout, such as a library's C code, writes to nowhere."""
    own = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return own


def send(sink: BinaryIO, head: Mapping[str, Any]) -> None:
    raw = json.dumps(head, ensure_ascii=False).encode("utf-8", "replace")
    sink.write(LENGTH.pack(len(raw)) + raw)
    sink.flush()


def answer(sink: BinaryIO, shared: mmap.mmap, given: Answer) -> None:
    """The parts one after the other in shared memory, then the JSON."""
    value, parts = given
    sizes = [len(part) for part in parts]
    if sum(sizes) <= len(shared):  # else whoever asked says no to the sizes alone
        shared.seek(0)
        for part in parts:
            shared.write(part)
    send(sink, {"value": value, "parts": sizes})


def main() -> None:
    sink, source = own_stdout(), sys.stdin.buffer
    module, _, function = sys.argv[1].partition(":")
    work: Work = getattr(importlib.import_module(module), function)
    settings, limits = json.loads(sys.argv[2]), Limits(**json.loads(sys.argv[3]))
    items, shared = int(sys.argv[4]), mmap.mmap(int(sys.argv[5]), 0)

    def tell(kind: type[BaseException], _value: BaseException, _trace: TracebackType | None) -> None:
        name = "MemoryError" if issubclass(kind, MemoryError) else kind.__name__  # numpy has its own
        send(sink, {"raised": name})

    confine(limits.memory_bytes)
    answer(sink, shared, ({}, []))
    sys.excepthook = tell
    while length := source.read(LENGTH.size):
        allow_cpu(limits.cpu_s)
        answer(sink, shared, work(item(items, *LENGTH.unpack(length)), settings))


if __name__ == "__main__":
    main()
