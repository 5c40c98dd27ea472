"""The clients of S3: one a process, safe to share among threads, never pickled."""

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
def filesystem() -> fs.S3FileSystem:
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
    scheme, _, host = endpoint.partition("://")
    if not host:
        return fs.S3FileSystem()
    return fs.S3FileSystem(endpoint_override=host, scheme=scheme)
