"""A build on four nodes of which something dies every 20 seconds: ``python -m tests.cluster.soak``.

It is to end by itself, with every object the same as in a build in one process that nobody disturbed. The log
of one such run is kept beside this file.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.clusters import HEAD, NODES, Cluster, cluster, made, pardalis
from tests.cluster.shooting import Killed, shoot
from tests.laws.conftest import TINY, Deliveries, sample

LOG = Path(__file__).with_name("soak.log")
WITHIN_S = 1500.0
AS_OF = "2026-06-01T00:00:00Z"
PROGRESS = re.compile(r"^[a-z]+ +(?:\d+/\d+ |\d+ |done ).*$", re.MULTILINE)
"""A line of a step's bar. Between them Ray tells at length of each worker that dies."""
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Soaked:
    calm_s: float
    shot_s: float
    killed: Sequence[Killed]
    num_objects: int
    different: Sequence[str]
    """Objects that are not the same in both corpora."""


def soak(
    found: Cluster,
    folder: Path,
    *,
    deliver: Callable[[Deliveries], str],
    every_s: float,
    seed: int,
    tell: Tell,
) -> Soaked:
    """Build once in one process and once under fire; RuntimeError where either fails."""
    (folder / "tiny.toml").write_text(TINY)
    uri, rng = deliver(Deliveries(folder / "delivered")), random.Random(seed)  # noqa: S311  # no secret
    spent, killed = dict[str, float](), list[Killed]()
    for name, where in (("calm", ["--engine", "inline"]), ("shot", ["--address", found.address])):
        began = time.monotonic()
        options = ["--corpus", found.corpus(name).uri, "--config", str(folder / "tiny.toml"), *where]
        for words in (["ingest", uri, "--as-of", AS_OF], ["build"]):
            pause = every_s if name == "shot" else WITHIN_S
            killed += shot_at(found, [*words, *options], folder, rng, every_s=pause, tell=tell)
        spent[name] = time.monotonic() - began
        tell(f"{name}: done after {spent[name]:.0f} s")
        if name == "calm":
            found.start(*NODES)
            tell(f"alive: {', '.join(sorted(found.alive()))}")
    calm, shot = (made(found.corpus(name)) for name in ("calm", "shot"))
    return Soaked(
        calm_s=spent["calm"],
        shot_s=spent["shot"],
        killed=killed,
        num_objects=len(calm),
        different=sorted(name for name, _ in calm.items() ^ shot.items()),
    )


def shot_at(
    found: Cluster, words: Sequence[str], folder: Path, rng: random.Random, *, every_s: float, tell: Tell
) -> list[Killed]:
    said = folder / f"{words[0]}.err"
    with said.open("w") as err:
        command = subprocess.Popen(
            found.head.command(pardalis(*words)),
            env=found.environment(HEAD),
            stdout=err,
            stderr=err,
            text=True,
        )

    def told(one: Killed) -> None:
        lines = PROGRESS.findall(said.read_text())
        last = lines[-1] if lines else "nothing"
        tell(f"{one.at_s:6.1f} s into {words[0]}: killed {one.what}; by then {last}")

    tell(f"{words[0]} begins")
    killed = shoot(found, command, every_s=every_s, rng=rng, within_s=WITHIN_S, tell=told)
    if command.returncode != 0:
        raise RuntimeError(f"{words[0]} ended with {command.returncode}: {said.read_text()[-2000:]}")
    return killed


def main() -> int:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--every", type=float, default=20.0, help="seconds from one kill to the next")
    asked.add_argument("--kills", type=int, default=10, help="fewer are a failure")
    asked.add_argument("--images", type=int, default=320)
    asked.add_argument("--shard", type=int, default=4, help="images of a shard")
    asked.add_argument("--seed", type=int, default=11)
    asked.add_argument("--log", type=Path, default=LOG)
    options = asked.parse_args()

    def tell(text: str) -> None:
        line = f"{time.strftime('%H:%M:%S', time.gmtime())}  {text}\n"
        sys.stderr.write(line)
        with options.log.open("a") as log:
            log.write(line)

    def deliver(deliveries: Deliveries) -> str:
        samples = [sample(number) for number in range(options.images)]
        return deliveries.write(samples, shard_samples=options.shard)

    options.log.unlink(missing_ok=True)
    tell(f"{options.images} images in shards of {options.shard}")
    tell(f"a kill every {options.every:g} s, drawn with seed {options.seed}")
    tell(f"{len(NODES)} nodes of one CPU each on {os.cpu_count()} cores, the corpus on S3")
    with tempfile.TemporaryDirectory(prefix="soak") as name, cluster(Path(name)) as found:
        done = soak(found, Path(name), deliver=deliver, every_s=options.every, seed=options.seed, tell=tell)
    tell(f"{len(done.killed)} kills; {done.num_objects} objects, of which {len(done.different)} differ")
    tell(f"undisturbed in one process {done.calm_s:.0f} s, under fire {done.shot_s:.0f} s")
    return int(bool(done.different) or len(done.killed) < options.kills)


if __name__ == "__main__":
    sys.exit(main())
