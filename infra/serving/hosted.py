"""A service's command as an application of Ray Serve, for those who deploy by its configuration (KubeRay).

Two surprising rules. The application answers nothing: it keeps ``pardalis … serve`` running on its node,
whose door has a port of its own, and Serve's proxies stay off. And annotations are not deferred here: Serve
reads that of :func:`app` to know what to make of a configuration's ``args``.
"""

import re
import shlex
import subprocess
import sys
from collections.abc import Collection, Iterable, Sequence

import ray
from pydantic import BaseModel, ConfigDict
from ray import serve
from ray.serve import Application

from infra.serving.listening import DRAIN_S, LAST_S
from infra.serving.replicas import END_S

HEALTH_S = 5.0
"""Between looks whether the command still runs."""
LEAVE_S = DRAIN_S + LAST_S + END_S
"""For it to serve those inside, and to end its replicas."""


class Arguments(BaseModel):
    """What a configuration says under ``args``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    command: str
    """Such as ``index serve --host 0.0.0.0``; the cluster that it joins is this one."""


class Command:
    """One process of ``pardalis``. It ends with the actor, however that ends: the next needs its port."""

    def __init__(self, words: Sequence[str]) -> None:
        self._words = words
        end_orphans()
        address = ray.get_runtime_context().gcs_address
        here = ["setpriv", "--pdeathsig", "TERM", sys.executable, "-m", "infra.cli", *words]
        self._process = subprocess.Popen([*here, "--address", address])  # noqa: S603  # our own command

    def check_health(self) -> None:
        """Serve asks, and puts another in the place of one that raises."""
        code = self._process.poll()
        if code is not None:
            raise RuntimeError(
                f"`pardalis {shlex.join(self._words)}` ended with {code}; this replica's log has what it said"
            )

    def __del__(self) -> None:
        """Serve calls it when it has no more use for a replica."""
        self._process.terminate()
        try:
            self._process.wait(LEAVE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()


def end_orphans() -> None:
    """Replicas of a door whose node was lost with it: nobody asks them, and they hold CPUs of the others."""
    nodes = ray.nodes()  # type: ignore[no-untyped-call]  # Ray has no hint here
    hosts = {str(node["NodeManagerHostname"]) for node in nodes if node["Alive"]}
    for name in orphans(serve.status().applications, hosts):
        serve.delete(name)


def orphans(apps: Iterable[str], hosts: Collection[str]) -> list[str]:
    """Those that :func:`infra.serving.options.app` named on another host, and their shards.

    >>> orphans(["search", "pardalis-search-a-1-8000", "pardalis-search-b-8000-1"], {"a-1"})
    ['pardalis-search-b-8000-1']
    """
    here = "|".join(map(re.escape, hosts))
    return [
        name
        for name in apps
        if re.fullmatch(r"pardalis-\w+-.+-\d+", name)
        and not re.fullmatch(rf"pardalis-\w+-({here})-\d+(-\d+)?", name)
    ]


def app(arguments: Arguments) -> Application:
    """What ``import_path: infra.serving.hosted:app`` names."""
    kept = serve.deployment(
        name="Command",
        ray_actor_options={"num_cpus": 0},
        health_check_period_s=HEALTH_S,
        graceful_shutdown_timeout_s=LEAVE_S,
    )(Command)
    return kept.bind(shlex.split(arguments.command))
