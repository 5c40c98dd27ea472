"""Laws of work that is done ahead: its order, how much waits, and what failed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from pipeline.likeness.ahead import ahead


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_results_come_in_order_and_few_wait(threads: int) -> None:
    begun: list[int] = []

    def work() -> Iterator[Callable[[], int]]:
        for number in range(100):
            begun.append(number)
            yield lambda number=number: number  # type: ignore[misc]

    found = []
    for one in ahead(work(), threads):
        found.append(one)
        assert len(begun) - len(found) <= 2 * threads
    assert found == list(range(100))


def test_threads_work_at_one_time() -> None:
    meeting = threading.Barrier(2, timeout=20)
    assert sorted(ahead([meeting.wait, meeting.wait], threads=2)) == [0, 1]


@pytest.mark.parametrize("threads", [1, 3])
def test_what_failed_fails_in_its_turn_and_no_thread_stays(threads: int) -> None:
    before = threading.active_count()
    sixths = ahead(((lambda by=by: 6 // by) for by in (3, 2, 0, 1)), threads)
    assert [next(sixths), next(sixths)] == [2, 3]
    with pytest.raises(ZeroDivisionError):
        next(sixths)
    left = ahead(((lambda by=by: 6 // by) for by in (3, 2, 1)), threads)
    assert next(left) == 2
    left.close()
    assert threading.active_count() == before
