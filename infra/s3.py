"""The clients of S3: one a process, safe to share among threads, never pickled or taken over by a fork."""

from __future__ import annotations

import functools
import os
from typing import Any

import boto3
import botocore.config
import botocore.exceptions
from pyarrow import fs


def status(error: botocore.exceptions.ClientError) -> int:
    """The HTTP status that the server answered."""
    return int(error.response["ResponseMetadata"]["HTTPStatusCode"])


@functools.cache
def client() -> Any:
    retries = {"mode": "adaptive", "max_attempts": 8}
    # A session of its own: the default one would keep the credentials that some other client found first.
    return boto3.Session().client(
        "s3", config=botocore.config.Config(retries=retries, s3={"addressing_style": "path"})
    )


@functools.cache
def ranged() -> Any:
    """For whoever tries again by itself, as :mod:`infra.pieces` does: one attempt, and it ends in seconds."""
    config = botocore.config.Config(
        retries={"total_max_attempts": 1},
        s3={"addressing_style": "path"},
        connect_timeout=5,
        read_timeout=15,
        max_pool_connections=32,
    )
    return boto3.Session().client("s3", config=config)


@functools.cache
def filesystem() -> fs.S3FileSystem:
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
    scheme, _, host = endpoint.partition("://")
    if not host:
        return fs.S3FileSystem()
    return fs.S3FileSystem(endpoint_override=host, scheme=scheme)


def forget() -> None:
    """The next call makes its client anew, from the environment as it is then."""
    for clients in (client, ranged, filesystem):
        clients.cache_clear()


# Two processes that talk through one connection would read each other's answers.
os.register_at_fork(after_in_child=forget)
