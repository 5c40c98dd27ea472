"""A real S3 server on loopback: SeaweedFS, which can be killed and started again where it was."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import boto3
import botocore.config
import botocore.exceptions

KEY, SECRET = "tester", "tester-secret"
BUCKET = "corpora"


class Seaweed:
    def __init__(self, folder: Path) -> None:
        ports = dict(zip(("s3", "master", "volume", "filer"), range_of_four(), strict=True))
        identity = {
            "name": "tests",
            "credentials": [{"accessKey": KEY, "secretKey": SECRET}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
        (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
        command = [str(Path(sys.executable).with_name("weed")), "server", f"-dir={folder}", "-ip=127.0.0.1"]
        command += ["-ip.bind=127.0.0.1", "-s3", f"-s3.config={folder}/s3.json", "-master.telemetry=false"]
        # A bucket grows by seven volumes; without a free one nothing is written: 500 InternalError.
        command += [
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            "-master.volumeSizeLimitMB=64",
            "-volume.max=200",
        ]
        command += [f"-{name}.port={port}" for name, port in ports.items()]
        self._command = command
        self._log = folder / "log"
        self.endpoint = f"http://127.0.0.1:{ports['s3']}"
        self.start()

    def start(self) -> None:
        """Until it answers, with a bucket of the name BUCKET."""
        with self._log.open("a") as log:
            self.process = subprocess.Popen(self._command, stdout=log, stderr=log)
        self._wait_for_bucket()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    @property
    def environment(self) -> dict[str, str]:
        """What finds it, and may read and write."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def _wait_for_bucket(self) -> None:
        config = botocore.config.Config(retries={"max_attempts": 1}, s3={"addressing_style": "path"})
        client = boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=KEY,
            aws_secret_access_key=SECRET,
            region_name="us-east-1",
            config=config,
        )
        for _ in range(60):
            try:
                client.create_bucket(Bucket=BUCKET)
            except client.exceptions.BucketAlreadyOwnedByYou:
                return
            except client.exceptions.BucketAlreadyExists:
                return
            except (botocore.exceptions.ClientError, botocore.exceptions.BotoCoreError):
                time.sleep(0.5)
            else:
                return
        raise TimeoutError(f"no S3 server answered at {self.endpoint} within 30 s")


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[Seaweed]:
    server = Seaweed(folder)
    try:
        yield server
    finally:
        server.kill()


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on; SeaweedFS also takes each plus 10,000."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def range_of_four() -> list[int]:
    """Low ports, so that each plus 10,000 is a port too."""
    found = [port for port in free_ports(40) if port < 55_000]
    return found[:4] if len(found) >= 4 else [18333, 19333, 18080, 18888]
