"""Work that threads do before it is asked for, whose results come in its order.

numpy lets go of the interpreter while it goes over large arrays, so threads that share them do the work of
processes; and as nobody sees which thread was first, a result does not depend on how many there are.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
MOST = 16
"""Threads: what more would do for work that waits for memory was not measured."""


def cores() -> int:
    """That this process may use, up to MOST."""
    return min(MOST, len(os.sched_getaffinity(0)))


def ahead(work: Iterable[Callable[[], T]], threads: int) -> Generator[T, None, None]:
    """Twice as many results as threads wait at most.

    >>> list(ahead([lambda: 1, lambda: 2, lambda: 3], threads=2))
    [1, 2, 3]
    """
    if threads == 1:
        yield from (one() for one in work)
        return
    pool, waiting = ThreadPoolExecutor(threads), deque[Future[T]]()
    try:
        for one in work:
            waiting.append(pool.submit(one))
            if len(waiting) > 2 * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:  # also where one failed, or nobody asks on
        pool.shutdown(cancel_futures=True)
