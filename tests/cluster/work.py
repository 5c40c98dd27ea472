"""A job whose shards are as slow, stuck or deadly as a test wants, as files in a folder tell.

It is run as commands are: with the lease on a corpus, an engine, and an ending that says what went wrong.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from infra.access import show_token
from infra.artifact import Made
from infra.cli import leave
from infra.corpus import Corpus
from infra.ending import end
from infra.options import EngineOptions
from infra.settings import Section
from infra.storage import Store
from infra.telemetry import Log
from pipeline import build, jobs, refs
from pipeline.scheduling import WorkersConfig
from pipeline.step import Report, Source, Step, Task

STEP = "work"
STUCK_S = 600.0
"""What a shard takes that is stuck, at its first worker: longer than any of these tests."""
RUN = "from tests.cluster.work import main; main()"
"""By ``python -c``: workers import the step from here, which they could not from ``__main__``."""


class Shards(Section):
    num: int


def work(num: int, seconds: float, folder: Path) -> Step:
    """``folder`` is where shards tell on which host they begin, and find what is to happen to them."""

    def tasks(source: Source) -> Sequence[Task]:
        files = {str(slot): refs.Ref(source.store, str(slot), digest(str(slot))) for slot in range(num)}
        # The one thing beside a step that travels by the object store.
        every = {"every": refs.Directory.of(files, files)}
        return [Task(slot=slot, reads={"in": (ref,)}, directories=every) for slot, ref in files.items()]

    def do(task: Task, _report: Report) -> Made:
        data = task.directories["every"].files[task.slot].read()
        told = folder / f"begun-{task.slot}-{os.getpid()}"
        told.write_text(socket.gethostname())
        if (folder / f"poison-{task.slot}").exists():
            os.kill(os.getpid(), signal.SIGKILL)
        first = len(list(folder.glob(f"begun-{task.slot}-*"))) == 1
        time.sleep(STUCK_S if first and (folder / f"stuck-{task.slot}").exists() else seconds)
        (folder / f"ended-{task.slot}").touch()
        return Made(files={"out": data * 1000}, counts={"kept": 1})

    return Step(name=STEP, settings=Shards(num=num), tasks=tasks, open=lambda: do)


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def prepare(store: Store, num: int) -> None:
    """What the shards read."""
    for slot in range(num):
        store.write(str(slot), str(slot).encode())


def words(
    store: Store, folder: Path, address: str, *, num: int, seconds: float, **workers: float
) -> list[str]:
    """The command line of the job."""
    command = [sys.executable, "-c", RUN, store.uri, str(folder), address]
    return [*command, str(num), str(seconds), json.dumps(workers)]


def main() -> None:
    show_token()
    uri, folder, address, num, seconds, workers = sys.argv[1:]
    corpus = Corpus(Store.at(uri))
    step = work(int(num), float(seconds), Path(folder))
    config = WorkersConfig.model_validate_json(workers)
    try:
        with corpus.writing(purpose=STEP), jobs.engine_of(EngineOptions(address=address), config) as engine:
            build.run_step(build.Built(corpus=corpus, version=corpus.head()), step, engine, Log())
    except Exception as error:  # noqa: BLE001  # as the command line ends
        leave(end(error, sys.argv[1:]))
    leave(0)
