from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.infra import chroots, containers

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(3600),
    pytest.mark.skipif("PARDALIS_CHROOT" not in os.environ, reason="takes 20 minutes: make image"),
    pytest.mark.skipif(
        os.geteuid() != 0 or not all(map(shutil.which, ("debootstrap", "ip", "unshare"))),
        reason="makes a tree of Debian: needs root, debootstrap, iproute2 and util-linux",
    ),
]
CPU = containers.FILES[0]
PROBED = "http://127.0.0.1:52365/api/local_raylet_healthz"


def arguments() -> dict[str, str]:
    """Where PyTorch's own index cannot be reached, pip's has the same release, built with CUDA."""
    build = containers.stages(CPU)[0]
    (index,) = (step.text for step in build.steps if step.text.startswith("TORCH_INDEX="))
    host = urlsplit(index.partition("=")[2]).hostname
    try:
        socket.getaddrinfo(host, 443)
    except OSError:
        return {"TORCH_INDEX": index_of_pip()}
    return {}


def index_of_pip() -> str:
    """Asked of another process: one that imports pip keeps Python's distutils, and can compile no model."""
    asked = "from pip._internal.models.index import PyPI; print(PyPI.simple_url)"
    return subprocess.run(
        [sys.executable, "-c", asked], capture_output=True, text=True, check=True
    ).stdout.strip()


@pytest.fixture(scope="module")
def image() -> Iterator[chroots.Tree]:
    """Ten gigabytes, which pytest would keep."""
    with tempfile.TemporaryDirectory(prefix="pardalis-image-") as scratch:
        base = chroots.bare(Path(scratch, "base"))
        yield chroots.built(CPU, base, Path(scratch), arguments())


def test_the_image_runs_the_command_as_nobody_in_particular(image: chroots.Tree) -> None:
    assert image.run(["id", "-u"]).strip() == "10001"
    assert image.run([*image.entry, "--version"]).strip() == importlib.metadata.version("pardalis")


def test_the_image_runs_where_its_root_cannot_be_written(image: chroots.Tree) -> None:
    schema = json.loads(image.run([*image.entry, "contract", "schema"], mode="read-only"))
    assert "$defs" in schema
    with pytest.raises(chroots.Broken):
        image.run(["touch", "/home/pardalis/here"], mode="read-only")


def test_nobody_in_particular_cannot_change_the_command(image: chroots.Tree) -> None:
    with pytest.raises(chroots.Broken, match="Permission denied"):
        image.run(["touch", "/opt/pardalis/bin/pardalis"])


def test_a_node_of_ray_starts_in_the_image_with_its_root_read_only(image: chroots.Tree) -> None:
    """As KubeRay starts one: by bash, with `ray` on the path; and its probes ask by wget."""
    shown = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "of-this-test-" + "0" * 32}
    node = dataclasses.replace(image, environment=image.environment | shown)
    asked = f"wget --tries=10 --waitretry=1 --retry-connrefused -qO- {PROBED}"
    script = (
        "ray start --head --port=36379 --num-cpus=1 --include-dashboard=false --disable-usage-stats"
        f" > /dev/null && {asked}"
    )
    assert node.run(["bash", "-c", script], mode="read-only", timeout_s=180) == "success"


def test_a_step_that_fails_is_told_with_what_it_said(image: chroots.Tree) -> None:
    with pytest.raises(chroots.Broken, match="no-such-package"):
        image.run(["sh", "-c", "echo no-such-package >&2; exit 3"])
