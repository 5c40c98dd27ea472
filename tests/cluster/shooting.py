"""Kill something of a cluster at random, again and again, for as long as a command runs.

Never the head: without its store on disk a cluster dies with it, which is a fault of its own.
"""

from __future__ import annotations

import random
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import psutil

from tests.cluster.clusters import HEAD, Cluster, raylets, workers

Shot = Callable[[Cluster, random.Random], str | None]
"""Kills one thing and says what; None where there was none of its kind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Killed:
    at_s: float
    """Since the command began."""
    what: str


def a_worker(cluster: Cluster, rng: random.Random) -> str | None:
    found = [(name, one) for name in cluster.started for one in workers(cluster.hosts[name])]
    if not found:
        return None
    name, process = rng.choice(found)
    try:
        process.kill()
    except psutil.NoSuchProcess:
        return None
    return f"a worker on {name}"


def a_raylet(cluster: Cluster, rng: random.Random) -> str | None:
    """What was left of the node is ended by whoever starts it anew, as a supervisor does."""
    name = rng.choice([one for one in cluster.started if one != HEAD])
    for process in raylets(cluster.hosts[name]):
        process.kill()
        cluster.restart(name)
        return f"the raylet of {name}"
    return None


def a_node(cluster: Cluster, rng: random.Random) -> str:
    name = rng.choice([one for one in cluster.started if one != HEAD])
    cluster.restart(name)
    return f"all of {name}"


SHOTS: Sequence[Shot] = (a_worker, a_raylet, a_node)


def shoot(
    cluster: Cluster,
    command: subprocess.Popen[str],
    *,
    every_s: float,
    rng: random.Random,
    within_s: float,
    tell: Callable[[Killed], None],
) -> list[Killed]:
    """Every so many seconds, until the command ends; TimeoutError where that is not within ``within_s``."""
    began, done = time.monotonic(), list[Killed]()
    while True:
        try:
            command.wait(every_s)
        except subprocess.TimeoutExpired:
            if time.monotonic() - began > within_s:
                command.kill()
                told = ", ".join(one.what for one in done)
                raise TimeoutError(
                    f"it did not end within {within_s:g} s, after {told} were killed"
                ) from None
        else:
            return done
        what = None
        while what is None and command.poll() is None:
            what = rng.choice(SHOTS)(cluster, rng)
            time.sleep(0.1)
        if what is not None:
            done.append(Killed(at_s=time.monotonic() - began, what=what))
            tell(done[-1])
