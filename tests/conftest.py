"""What many tests share: hypothesis profiles, a local Ray, a real S3 server."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import boto3
import botocore.config
import botocore.exceptions
import pytest
import torch
from hypothesis import settings

from infra import s3 as s3_clients
from infra.storage import Store

settings.register_profile("ci", deadline=None, derandomize=True)
settings.register_profile("search", deadline=None)
settings.register_profile("quick", deadline=None, derandomize=True, max_examples=10)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

torch.set_num_threads(1)  # before any module fits something as it is imported

KEY, SECRET = "tester", "tester-secret"


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Sums depend on the number of threads, and what a test before this one ran may have set another."""
    torch.set_num_threads(1)


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on; SeaweedFS also takes each plus 10,000."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """SeaweedFS on loopback, with a bucket ``corpora``; yields its address."""
    folder = tmp_path_factory.mktemp("s3")
    ports = dict(zip(("s3", "master", "volume", "filer"), range_of_four(), strict=True))
    identity = {
        "name": "tests",
        "credentials": [{"accessKey": KEY, "secretKey": SECRET}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
    command = [str(Path(sys.executable).with_name("weed")), "server", f"-dir={folder}", "-ip=127.0.0.1"]
    command += ["-ip.bind=127.0.0.1", "-s3", f"-s3.config={folder}/s3.json", "-master.telemetry=false"]
    # A bucket grows by seven volumes at a time, and without a free one nothing is written: 500 InternalError.
    command += ["-s3.port.iceberg=0", "-s3.port.lance=0", "-master.volumeSizeLimitMB=64", "-volume.max=200"]
    command += [f"-{name}.port={port}" for name, port in ports.items()]
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log)
    endpoint = f"http://127.0.0.1:{ports['s3']}"
    try:
        wait_for_bucket(endpoint)
        yield endpoint
    finally:
        server.kill()
        server.wait()


def range_of_four() -> list[int]:
    """Low ports, so that each plus 10,000 is a port too."""
    found = [port for port in free_ports(40) if port < 55_000]
    return found[:4] if len(found) >= 4 else [18333, 19333, 18080, 18888]


def wait_for_bucket(endpoint: str) -> None:
    config = botocore.config.Config(retries={"max_attempts": 1}, s3={"addressing_style": "path"})
    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id=KEY,
        aws_secret_access_key=SECRET,
        region_name="us-east-1",
        config=config,
    )
    for _ in range(60):
        try:
            client.create_bucket(Bucket="corpora")
        except (botocore.exceptions.EndpointConnectionError, botocore.exceptions.ClientError):
            time.sleep(0.5)
        except botocore.exceptions.HTTPClientError:
            time.sleep(0.5)
        else:
            return
    raise TimeoutError(f"no S3 server answered at {endpoint} within 30 s")


@pytest.fixture
def s3(s3_server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Store]:
    """An empty place on the S3 server."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    s3_clients.client.cache_clear()
    s3_clients.filesystem.cache_clear()
    yield Store.at(f"s3://corpora/{tmp_path.name}")
    s3_clients.client.cache_clear()
    s3_clients.filesystem.cache_clear()


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.long)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """The same test on both kinds of storage."""
    if request.param == "local":
        return Store.at(tmp_path / "store")
    found: Store = request.getfixturevalue("s3")
    return found
