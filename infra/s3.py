"""The clients of S3: one a process, safe to share among threads, never pickled or taken over by a fork."""

from __future__ import annotations

import functools
import os
import threading
import urllib.request
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast
from urllib.parse import quote, urlsplit

import boto3
import botocore.auth
import botocore.awsrequest
import botocore.config
import botocore.exceptions
import botocore.httpsession
import urllib3
from pyarrow import fs

P = ParamSpec("P")
T = TypeVar("T")
_making = threading.RLock()
"""Held while a client is made: of eight threads that begin together one makes it."""


def _once(make: Callable[P, T]) -> Callable[P, T]:
    cached = functools.cache(make)

    @functools.wraps(make)
    def found(*args: P.args, **kwargs: P.kwargs) -> T:
        with _making:
            return cached(*args, **kwargs)  # type: ignore[arg-type]  # names of hosts

    _made.append(cached.cache_clear)
    return found


_made: list[Callable[[], None]] = []


def status(error: botocore.exceptions.ClientError) -> int:
    """The HTTP status that the server answered."""
    return int(error.response["ResponseMetadata"]["HTTPStatusCode"])


@_once
def _session() -> boto3.Session:
    """Of its own: the default one would keep the credentials that some other client found first."""
    return boto3.Session()


@_once
def client() -> Any:
    retries = {"mode": "adaptive", "max_attempts": 8}
    return _session().client(
        "s3", config=botocore.config.Config(retries=retries, s3={"addressing_style": "path"})
    )


def ranged(bucket: str, key: str, offset: int, size: int) -> bytes:
    """So many bytes from an offset; fewer where the object ends. One attempt, which ends in seconds.

    Signed by botocore and asked by bare HTTP: what its client does around that (rules, hooks, parsing, dates)
    costs 1.1 ms of CPU an answer, where a block of 532 kB takes 0.7 like this. Raises what the client would,
    or ``ConnectionError``.
    """
    sign, endpoint = _signing()
    url = f"{endpoint}/{bucket}/{quote(key, safe='/~')}"
    asked = botocore.awsrequest.AWSRequest(
        "GET", url, headers={"Range": f"bytes={offset}-{offset + size - 1}"}
    )
    sign(asked)
    try:
        answer = _connections(*urlsplit(url)[:2]).request(
            "GET", url, headers=dict(asked.headers.items()), preload_content=False, redirect=False
        )
        data = answer.read(size, decode_content=False)
        answer.release_conn()
        if answer.status == PARTIAL and len(data) != int(answer.headers.get("Content-Length", len(data))):
            raise ConnectionError(f"{len(data)} bytes came of {answer.headers['Content-Length']}")
    except urllib3.exceptions.HTTPError as error:
        raise ConnectionError(f"{type(error).__name__} at {urlsplit(url).hostname}") from None
    if answer.status in ELSEWHERE:  # the bucket is in another region, which the client finds out
        where = {"Bucket": bucket, "Key": key, "Range": asked.headers["Range"]}
        return cast("bytes", client().get_object(**where)["Body"].read())
    if answer.status != PARTIAL:
        told = {"Code": str(answer.status), "Message": answer.reason or "no answer to a range"}
        facts = {"Error": told, "ResponseMetadata": {"HTTPStatusCode": answer.status}}
        raise botocore.exceptions.ClientError(facts, "GetObject")
    return data


PARTIAL = 206
"""HTTP status of an answer to a range."""
ELSEWHERE = (301, 307, 400)


def _signing() -> tuple[Callable[[botocore.awsrequest.AWSRequest], None], str]:
    """What signs with the credentials of now, which may be renewed any time; and where requests go."""
    session, made = _session(), client()
    credentials = session.get_credentials()
    if credentials is None:
        raise botocore.exceptions.NoCredentialsError
    signer = botocore.auth.S3SigV4Auth(credentials.get_frozen_credentials(), "s3", made.meta.region_name)
    return signer.add_auth, made.meta.endpoint_url.rstrip("/")


@_once
def _connections(scheme: str, host: str) -> urllib3.PoolManager:
    """With botocore's certificates and the environment's proxies, as its own connections have them."""
    certificates = os.environ.get("AWS_CA_BUNDLE") or botocore.httpsession.where()
    settings: dict[str, Any] = {
        "maxsize": 32,
        "retries": False,
        "timeout": urllib3.Timeout(connect=5, read=15),
        "ca_certs": certificates,
    }
    proxy = urllib.request.getproxies().get(scheme)
    if proxy and not urllib.request.proxy_bypass(host):
        return urllib3.ProxyManager(proxy, **settings)
    return urllib3.PoolManager(**settings)


@_once
def filesystem() -> fs.S3FileSystem:
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
    scheme, _, host = endpoint.partition("://")
    if not host:
        return fs.S3FileSystem()
    return fs.S3FileSystem(endpoint_override=host, scheme=scheme)


def forget() -> None:
    """The next call makes its client anew, from the environment as it is then."""
    global _making  # noqa: PLW0603  # a thread that held it may not be there after a fork
    _making = threading.RLock()
    for clear in _made:
        clear()


# Two processes that talk through one connection would read each other's answers.
os.register_at_fork(after_in_child=forget)
