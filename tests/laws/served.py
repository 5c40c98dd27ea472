"""A service in a process of its own, as a command starts it: its address, its metrics, its end."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families

PATIENCE_S = 240


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    url: str
    process: subprocess.Popen[str]
    folder: Path

    def metric(self, name: str, **labels: str) -> float:
        families = text_string_to_metric_families(httpx.get(f"{self.url}/metrics").text)
        samples = [sample for family in families for sample in family.samples]
        return sum(one.value for one in samples if one.name == name and labels.items() <= one.labels.items())

    def err(self) -> str:
        return (self.folder / "err").read_text()


@contextlib.contextmanager
def begun(words: Sequence[str], environment: Mapping[str, str] | None = None) -> Iterator[Process]:
    """``pardalis WORDS --port 0 --json`` in a process group of its own, ended with the block."""
    # Sockets of Ray lie below it, and their paths are short ones.
    with tempfile.TemporaryDirectory(prefix="serve", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        # Where Python keeps what it writes to a file for later, the address has to come all the same.
        kept = {name_: value for name_, value in os.environ.items() if name_ != "PYTHONUNBUFFERED"}
        inherited = {**kept, "RAY_TMPDIR": name, "XDG_CACHE_HOME": str(folder / "cache")}
        with (folder / "err").open("w") as err, (folder / "out").open("w") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", "infra.cli", *words, "--port", "0", "--json"],
                stdout=out,
                stderr=err,
                text=True,
                env={**inherited, **(environment or {})},
                start_new_session=True,
            )
        try:
            yield Process(url=address(process, folder), process=process, folder=folder)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(30)


def address(process: subprocess.Popen[str], folder: Path) -> str:
    """As soon as it is told."""
    until = time.monotonic() + PATIENCE_S
    while not (told := (folder / "out").read_text()).endswith("}\n"):
        assert process.poll() is None, (folder / "err").read_text()
        assert time.monotonic() < until, (folder / "err").read_text()
        time.sleep(0.1)
    found: str = json.loads(told)["address"]
    return found
