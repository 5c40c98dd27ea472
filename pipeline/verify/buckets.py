"""A corpus in a bucket: every version of every object below a prefix, each read as a file.

The surprising rule: what was deleted is read too. A bucket that keeps versions keeps it behind a marker,
where no listing shows it and whoever asks may have it.
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import boto3
import botocore.config
import botocore.exceptions

SCHEME = "s3://"
PIECE = 1 << 20
"""Bytes that are copied at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """Of an object."""

    uri: str
    """s3://BUCKET/PREFIX that it is below."""
    name: str
    """Below that."""
    id: str
    """``null`` where the bucket keeps no versions."""
    is_newest: bool
    size: int


def listed(uri: str) -> list[Version]:
    """ValueError for an address that cannot be listed, or has nothing."""
    bucket, prefix = _split(uri)
    try:
        pages = client().get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=prefix)
        found = [
            Version(
                uri=uri,
                name=one["Key"].removeprefix(prefix),
                id=one["VersionId"],
                is_newest=one["IsLatest"],
                size=one["Size"],
            )
            for page in pages
            for one in page.get("Versions", ())
        ]
    except (botocore.exceptions.ClientError, botocore.exceptions.BotoCoreError) as error:
        fix = "see that the endpoint, the keys and the bucket are right, and may list object versions"
        raise ValueError(f"{uri}: {error}; {fix}") from None
    if not found:
        raise ValueError(f"{uri} has no objects; give the address of a corpus")
    return found


def fetch(version: Version, file: IO[bytes]) -> None:
    """Its bytes into the file. OSError where they do not come, or not as many as were listed."""
    bucket, prefix = _split(version.uri)
    try:
        answer = client().get_object(Bucket=bucket, Key=prefix + version.name, VersionId=version.id)
        for piece in answer["Body"].iter_chunks(PIECE):
            file.write(piece)
    except (botocore.exceptions.ClientError, botocore.exceptions.BotoCoreError) as error:
        raise OSError(f"{version.uri}: {error}") from None
    file.flush()
    if file.tell() != version.size:
        raise OSError(f"{file.tell()} bytes came of {version.size}; it changed meanwhile: run again")


def copied(versions: Sequence[Version], names: Sequence[str], folder: Path) -> None:
    """The newest of the named objects, and of what lies in folders of these names, as files."""
    for version in versions:
        if version.is_newest and version.name.partition("/")[0] in names:
            path = folder.joinpath(*_plain(version.name))
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as file:
                fetch(version, file)


def _plain(name: str) -> Iterator[str]:
    """A key is any text: no part of it may lead out of the folder."""
    for part in name.split("/"):
        if part in ("", ".", "..") or "\0" in part:
            raise ValueError(f"object {name!r} is no file of a corpus; take it out of there")
        yield part


def opened(version: Version) -> IO[bytes]:
    """A file without a name, which goes when it is closed."""
    file = tempfile.TemporaryFile()  # noqa: SIM115  # who asked closes it
    try:
        fetch(version, file)
    except BaseException:
        file.close()
        raise
    return file


def _split(uri: str) -> tuple[str, str]:
    bucket, _, prefix = uri.removeprefix(SCHEME).strip("/").partition("/")
    if not bucket:
        raise ValueError(f"{uri} names no bucket; write s3://BUCKET/PREFIX")
    return bucket, f"{prefix}/" if prefix else ""


@functools.cache
def client() -> Any:
    """One a process. Where and as whom is told by AWS_ENDPOINT_URL and AWS's other variables."""
    config = botocore.config.Config(
        retries={"mode": "adaptive", "max_attempts": 8}, s3={"addressing_style": "path"}
    )
    return boto3.session.Session().client("s3", config=config)
