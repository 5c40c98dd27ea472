"""What a RayService starts, started by Serve's own command from such a configuration."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import ray
import yaml
from pydantic import ValidationError
from ray import serve

from infra.serving import hosted
from tests.tokenizer_service.served import TOKEN, weights

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(900)]
PATIENCE_S = 240


ORPHAN = "pardalis-tokenizer-no-such-host-8000"


class Left:
    """A replica whose door was lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    port: int

    def ready(self) -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}/healthz", timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    def process(self) -> psutil.Process | None:
        """Who listens."""
        for one in psutil.process_iter(["cmdline"]):
            words: list[str] = one.info["cmdline"] or []
            if "infra.cli" in words and str(self.port) in words:
                return one
        return None


def until(holds: Callable[[], Any]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.2)


def free_port() -> int:
    with closing(socket.socket()) as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def door() -> Iterator[Door]:
    """One for all: the last test ends it."""
    # Sockets of Ray lie below it, and their paths are short ones.
    scratch = tempfile.TemporaryDirectory(prefix="hosted", ignore_cleanup_errors=True)
    with scratch as name, pytest.MonkeyPatch.context() as monkeypatch:
        folder, found = Path(name), Door(port=free_port())
        monkeypatch.setenv("PARDALIS_SERVICE_TOKEN", TOKEN)
        monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        monkeypatch.setenv("RAY_worker_niceness", "0")  # 15 is behind all else on a machine
        monkeypatch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        (folder / "model.safetensors").write_bytes(weights())
        command = f"tokenizer serve --model {folder}/model.safetensors --side 32 --port {found.port}"
        configured = {
            "proxy_location": "Disabled",
            "applications": [
                {
                    "name": "tokenizer",
                    "import_path": "infra.serving.hosted:app",
                    "route_prefix": None,
                    "args": {"command": command},
                    "deployments": [
                        {"name": "Command", "ray_actor_options": {"num_cpus": 0, "resources": {"door": 1}}}
                    ],
                }
            ],
        }
        (folder / "serve.yaml").write_text(yaml.safe_dump(configured))
        context = ray.init(
            address="local",
            num_cpus=2,
            resources={"door": 1},
            include_dashboard=False,
            _node_ip_address="127.0.0.1",  # any other asks for a token, which Ray reads when it is imported
            _temp_dir=name,
        )
        try:
            address = context.address_info["gcs_address"]
            serve.start(proxy_location="Disabled")
            serve.run(serve.deployment(Left).bind(), name=ORPHAN, route_prefix=None)
            ran = [sys.executable, "-m", "ray.serve.scripts", "run", str(folder / "serve.yaml")]
            subprocess.run([*ran, "--address", address, "--non-blocking"], check=True, timeout=PATIENCE_S)
            until(found.ready)
            yield found
        finally:
            serve.shutdown()
            ray.shutdown()


def test_a_configuration_that_says_more_than_the_command_is_refused() -> None:
    with pytest.raises(ValidationError, match="words"):
        hosted.Arguments.model_validate({"command": "index serve", "words": "--open"})


def test_what_a_lost_door_left_behind_is_ended(door: Door) -> None:
    names = set(serve.status().applications)
    assert ORPHAN not in names
    assert {"tokenizer", f"pardalis-tokenizer-{socket.gethostname()}-{door.port}"} == names


def test_a_door_that_ends_or_whose_actor_dies_is_started_again(door: Door) -> None:
    first = door.process()
    assert first is not None
    first.kill()
    until(lambda: (found := door.process()) is not None and found.pid != first.pid and door.ready())
    second = door.process()
    assert second is not None
    os.kill(second.ppid(), signal.SIGKILL)
    until(lambda: (found := door.process()) is not None and found.pid != second.pid and door.ready())


def test_a_door_ends_with_its_application_and_takes_its_replicas_along(door: Door) -> None:
    assert len(serve.status().applications) == 2
    serve.delete("tokenizer")
    until(lambda: door.process() is None)
    assert not door.ready()
    until(lambda: not serve.status().applications)
