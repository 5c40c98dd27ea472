"""Run mutated inputs, each within its time; keep what fails with the command that repeats it."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import random
import shlex
import signal
import sys
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from infra.cli import run as command
from infra.storage import Store
from infra.telemetry import Bar
from tests.fuzz import parcels
from tests.fuzz.documents import CHANGES
from tests.fuzz.mutate import mutated
from tests.fuzz.target import MOST_COST
from tests.fuzz.targets import targets
from tests.hostile import made

LIMIT_S = 10


class Hung(BaseException):
    """Not an Exception, so that no reader can take it for broken input."""


@dataclass(slots=True)
class Tally:
    seed: int
    saved: Path
    outcomes: dict[str, int] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def count(self, name: str) -> None:
        self.outcomes[name] = self.outcomes.get(name, 0) + 1

    def fail(self, kind: str, number: int, raw: bytes, error: BaseException) -> None:
        self.saved.mkdir(parents=True, exist_ok=True)
        path = self.saved / f"{kind}-{self.seed}-{number}"
        path.write_bytes(raw)
        again = f"python -m tests.fuzz --seed {self.seed} --{kind} 1 --first {number}"
        self.failures.append(f"{path.name}: {type(error).__name__}: {error!s:.200}; repeat: {again}")
        sys.stderr.write(self.failures[-1] + "\n")


@contextlib.contextmanager
def within(seconds: int) -> Iterator[None]:
    def stop(_signal: int, _frame: object) -> None:
        raise Hung(f"not done within {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def members(tally: Tally, first: int, count: int) -> Bar:
    known = [target for target in targets() for _ in range(MOST_COST // target.cost)]
    bar = Bar(name="members", total=count, unit="inputs")
    for number in range(first, first + count):
        target = known[number % len(known)]
        raw = target.draw(tally.seed, number)
        try:
            with within(LIMIT_S), warnings.catch_warnings(action="ignore"):
                target.read(raw)
            tally.count(f"{target.name}:read")
        except target.refusals:
            tally.count(f"{target.name}:refused")
        except (Exception, Hung) as error:  # noqa: BLE001  # whatever else comes out is what we look for
            tally.fail("members", number, raw, error)
        bar.advance(1)
    return bar


def deliveries(tally: Tally, first: int, count: int) -> Bar:
    """One file of a good delivery is mutated; the manifest lists it truly, at times, so that it is read."""
    bar = Bar(name="deliveries", total=count, unit="inputs")
    for number in range(first, first + count):
        rng = random.Random(f"{tally.seed}:delivery:{number}")  # noqa: S311  # no secrets here
        with tempfile.TemporaryDirectory() as folder:
            raw = spoil(made.Parcel(Path(folder, "delivery")), tally.seed, number, rng)
            try:
                with within(6 * LIMIT_S):
                    tally.count(f"delivery:exit {ingested(folder)}")
            except (Exception, Hung) as error:  # noqa: BLE001  # as above
                tally.fail("deliveries", number, raw, error)
        bar.advance(1)
    return bar


def spoil(parcel: made.Parcel, seed: int, number: int, rng: random.Random) -> bytes:
    """Write the delivery; the bytes that were mutated."""
    if rng.random() < 0.5:
        return spoil_form(parcel, rng)
    by_name = {target.name: target for target in targets()}
    which = rng.choice(("delivery.json", "tar", "image", "image", "asset", "asset", "license", "revocation"))
    if which == "delivery.json":
        parcel.good()
        whole = (parcel.folder / which).read_bytes()
        raw = mutated(whole, [whole], rng)
        parcel.put(which, raw)
        return raw
    raw = by_name[which].draw(seed, number)
    shard = made.GOOD
    if which == "tar":
        shard = raw
    elif which == "image":
        kind = {b"\xff\xd8": "jpg", b"RI": "webp"}.get(raw[:2], "png")
        shard = made.tarred(made.sample("good") | made.sample("x", raw, kind))
    elif which == "asset":
        shard = made.tarred({"good.json": raw, "good.png": made.PNG})
    elif which == "revocation":
        parcel.put("revocations.jsonl", raw)
    parcel.good(shard, raw if which == "license" else None)
    return raw


def spoil_form(parcel: made.Parcel, rng: random.Random) -> bytes:
    """A delivery in another form, of which one file is mutated and listed truly."""
    found = parcels.PARCELS[rng.choice(sorted(parcels.PARCELS))]()
    path = rng.choice(sorted(found.files))
    change = CHANGES.get(path.rpartition(".")[2])
    if change is not None and rng.random() < 0.6:
        raw = change(found.files[path], rng)
    else:
        raw = mutated(found.files[path], list(found.files.values()), rng)
    dataclasses.replace(found, files={**found.files, path: raw}).write(Store.at(parcel.folder))
    return raw


def ingested(folder: str) -> int:
    """The exit code; AssertionError for a bug that was told, a trace, or a message nobody can print."""
    corpus = str(Path(folder, "corpus"))
    tokens = ["ingest", str(Path(folder, "delivery")), "--corpus", corpus, "--engine", "inline"]
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = command([*tokens, "--as-of", made.AS_OF])
    told = said.getvalue()
    printable = all(char.isprintable() or char == "\n" for char in told)
    if code not in (0, 2) or "a bug:" in told or "Traceback" in told or not printable:
        raise AssertionError(f"exit {code}: {told[:2_000]!a} ({shlex.join(tokens)})")
    return code


def run(*, seed: int, first: int, num_members: int, num_deliveries: int, saved: Path) -> dict[str, Any]:
    tally = Tally(seed=seed, saved=saved)
    clock = {}
    for name, work, count in (("members", members, num_members), ("deliveries", deliveries, num_deliveries)):
        clock[f"{name}_per_s"] = round(work(tally, first, count).rate, 1) if count else None
    sizes = {"seed": seed, "members": num_members, "deliveries": num_deliveries}
    outcomes = dict(sorted(tally.outcomes.items()))
    return {**sizes, **clock, "outcomes": outcomes, "failures": tally.failures}


def line(found: dict[str, Any]) -> str:
    return json.dumps(found)
