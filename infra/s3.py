"""S3 as one process asks it: botocore signs and parses, connections of ours carry, one loop tries again.

What :class:`infra.storage.S3Store` promises of every operation, and of every page of a listing:

- No wait is without a bound. A connection is made within ``connect_s``, the next byte comes or goes within
  ``read_s``, and a body whose bytes move slower than ``slowest_bytes_s`` is given up. So an attempt ends
  within ``connect_s + 3 * read_s + bytes / slowest_bytes_s`` (a server that drips the head of its answer
  excepted, of which every byte has ``read_s``), and an operation, or a page, within ``patience_s`` and that.
- What may pass (refused, reset, cut off, late, 408, 429, 5xx, SlowDown, an error inside a 200) is tried again
  after 0.1 s, twice that, and so on to 5 s, with jitter, until ``patience_s`` is spent; then
  :class:`Unavailable` says which object, what was tried, how often and how long, and what to do. What stays
  (403, 404, no credentials, a certificate that is not trusted) is raised at once.
- A body that is shorter than its Content-Length is no body. A whole object is compared with the CRC32 that
  botocore had the server keep; an upload is compared by the server with its sha256 (http) or CRC32 (https).
  The surprising rule: of a *range* no server tells a checksum, so its reader must know what it is, as
  ``infra.pieces`` and deliveries do by hashes, or come over https, where TLS notices what was changed.
- ``create`` is told from another's by a name of its own that goes with it: its answer may be lost and the
  next attempt meet 412, or 409 while the first one still is on its way.

Clients are one a process, safe to share among threads, never pickled or taken over by a fork.
"""

from __future__ import annotations

import functools
import io
import math
import os
import random
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, fields
from typing import Any, ParamSpec, TypeVar, cast
from urllib.parse import quote

import boto3
import botocore.auth
import botocore.awsrequest
import botocore.config
import botocore.exceptions
import botocore.httpsession
import botocore.parsers
import botocore.utils
import urllib3

from infra.redaction import masked_here

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How long S3 is waited for; each may be set by a variable, such as ``PARDALIS_S3_PATIENCE_S=300``."""

    connect_s: float = 5.0
    read_s: float = 15.0
    """Until the next byte. AWS answers within 0.2 s mostly, SeaweedFS that grows a volume within 4."""
    patience_s: float = 60.0
    """How long an operation that fails is tried again. Not much more than half a lease's 60 s may be lost by
    an outage that a writer is to survive."""
    slowest_bytes_s: float = 8192.0


@_once
def limits() -> Limits:
    """From the environment."""
    return Limits(**{one.name: _positive(one.name) for one in fields(Limits) if _variable(one.name)})


def _variable(name: str) -> str:
    return os.environ.get(f"PARDALIS_S3_{name.upper()}", "")


def _positive(name: str) -> float:
    try:
        value = float(_variable(name))
    except ValueError:
        value = -1.0
    if not 0 < value < math.inf:
        told = f"PARDALIS_S3_{name.upper()} is {_variable(name)[:40]!a}"
        raise ValueError(f"{told}; write a number above 0, or unset it for {getattr(Limits(), name)}")
    return value


class Unavailable(OSError):
    """S3 failed an operation for longer than the patience; ``cause`` is what came last, without addresses."""

    cause: str = ""


retried: list[Callable[[str], None]] = []
"""Called with the operation (``read``, ``create``, …) whenever one is about to be tried again."""
FIRST_WAIT_S, LONGEST_WAIT_S = 0.1, 5.0
TRANSIENT = frozenset({408, 429, 500, 502, 503, 504})
"""HTTP statuses that a later try may not meet; 403 and 404 stay."""
PASSING = frozenset(
    {"RequestTimeout", "SlowDown", "InternalError", "ServiceUnavailable", "RequestLimitExceeded"}
    | {"Throttling", "ThrottlingException", "TooManyRequestsException"}
    | {"BadDigest", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch", "IncompleteBody"}
)
"""Codes that pass whatever their status: AWS puts some into a 400, or into a 200. The last four are of an
upload that was spoilt on its way."""
BROKEN = (
    ConnectionError,
    TimeoutError,
    botocore.exceptions.ConnectionError,
    botocore.exceptions.HTTPClientError,
    botocore.exceptions.IncompleteReadError,
    botocore.exceptions.FlexibleChecksumError,
    botocore.exceptions.CredentialRetrievalError,
    botocore.parsers.ResponseParserError,
)
"""No answer, or not all of it, or not what was put."""


def status(error: botocore.exceptions.ClientError) -> int:
    """The HTTP status that the server answered."""
    return int(error.response["ResponseMetadata"]["HTTPStatusCode"])


def passing(error: BaseException) -> bool:
    """Whether a later try may succeed."""
    if isinstance(error, botocore.exceptions.ClientError):
        return status(error) in TRANSIENT or error.response["Error"].get("Code") in PASSING
    return isinstance(error, BROKEN) and "CERTIFICATE_VERIFY_FAILED" not in str(error)


def retry(operation: str) -> None:
    """Tell whoever counts that an operation is tried again."""
    for told in retried:
        told(operation)


def patiently(
    operation: str, where: str, ask: Callable[[], T], *, again: Collection[int] = (), most_s: float = math.inf
) -> T:
    """What ``ask`` answers, tried again while it fails with what passes, or with a status of ``again``;
    ``most_s`` bounds the patience.
    """
    client()  # making it takes a second on a busy machine, which is none of the server's
    patience_s, began = min(limits().patience_s, most_s), time.monotonic()
    wait, attempts, said = FIRST_WAIT_S, 0, False
    while True:
        attempts += 1
        try:
            return ask()
        except (*BROKEN, botocore.exceptions.ClientError) as error:
            conflict = isinstance(error, botocore.exceptions.ClientError) and status(error) in again
            if not passing(error) and not conflict:
                raise
            spent = time.monotonic() - began
            left = patience_s - spent
            if left <= 0:
                told = f"failed {attempts} times in {spent:.1f} s, at last with {cause(error)}"
                fix = "see to the store and run again, or raise PARDALIS_S3_PATIENCE_S"
                last = Unavailable(f"{where}: `{operation}` {told}; {fix}")
                last.cause = told
                raise last from None
            if spent > 1 and not said:  # not by telemetry, which writes its logs through this module
                line = f"{where}: `{operation}` failed ({cause(error)}); trying again for {left:.0f} s"
                sys.stderr.write(masked_here(line) + "\n")
                said = True
        retry(operation)
        # Jitter, so that the processes of a cluster do not come back together.
        time.sleep(min(wait * random.uniform(0.5, 1.5), left))  # noqa: S311  # no secret
        wait = min(2 * wait, LONGEST_WAIT_S)


def cause(error: BaseException) -> str:
    """Of what was asked and what came, only what holds no address: that may have a password in it."""
    if isinstance(error, botocore.exceptions.ClientError):
        code = str(error.response["Error"].get("Code", ""))[:40]
        return str(status(error)) if code.isdigit() else f"{status(error)} {code}"  # a HEAD has no code
    told = str(error)[:80] if isinstance(error, ConnectionError | TimeoutError) else ""
    return f"{type(error).__name__} ({told})" if told else type(error).__name__


@_once
def _session() -> boto3.Session:
    """Of its own: the default one would keep the credentials that some other client found first."""
    return boto3.Session()


@_once
def client() -> Any:
    """One attempt a call: :func:`patiently` tries again, bodies and their checksums included.

    botocore's own eight attempts were over 6 to 8 s after a server had gone, and none of a body's.
    """
    config = botocore.config.Config(
        retries={"mode": "standard", "total_max_attempts": 1}, s3={"addressing_style": "path"}
    )
    made = _session().client("s3", config=config)
    made.meta.events.register("before-send.s3", _sent)
    return made


def _sent(request: botocore.awsrequest.AWSPreparedRequest, **_: Any) -> botocore.awsrequest.AWSResponse:
    """In place of botocore's sending, whose answers may come a byte at a time for ever."""
    request.stream_output = True  # its body is read here, or by who asked
    if hasattr(request.body, "read"):
        request.body = _Upload(request.body)
    answer = _wire().send(request)
    length = answer.headers.get("Content-Length")
    size = None if length is None or request.method == "HEAD" else int(length)
    body = Body(answer.raw, size)
    return botocore.awsrequest.AWSResponse(answer.url, answer.status_code, answer.headers, body)


@_once
def _wire() -> botocore.httpsession.URLLib3Session:
    """With certificates and proxies as botocore's own connections have them."""
    return botocore.httpsession.URLLib3Session(
        verify=os.environ.get("AWS_CA_BUNDLE") or True,
        proxies=botocore.utils.get_environ_proxies(client().meta.endpoint_url),
        timeout=(limits().connect_s, limits().read_s),
        max_pool_connections=32,
    )


class _Pace:
    """Bytes since it was made, which may not move slower than the limits say."""

    __slots__ = ("_began", "_num_bytes")

    def __init__(self) -> None:
        self._began, self._num_bytes = time.monotonic(), 0

    def moved(self, num_bytes: int) -> None:
        self._num_bytes += num_bytes
        took = time.monotonic() - self._began
        if took > limits().read_s + self._num_bytes / limits().slowest_bytes_s:
            raise TimeoutError(f"{self._num_bytes} bytes moved in {took:.0f} s")


class _Upload:
    """What is sent, read in the blocks in which it is sent."""

    def __init__(self, file: Any) -> None:
        self._file, self._pace = file, _Pace()

    def read(self, size: int = -1) -> bytes:
        data = cast("bytes", self._file.read(size))
        self._pace.moved(len(data))
        return data


class Body:
    """An answer's bytes, as botocore reads them: all that were announced, in time, or an error."""

    def __init__(self, raw: urllib3.HTTPResponse, size: int | None) -> None:
        self._raw, self._size, self._got, self._pace = raw, size, 0, _Pace()

    def read(self, amount: int | None = None) -> bytes:
        parts, left = list[bytes](), BLOCK if amount is None else amount
        while left and (part := self._part(min(left, BLOCK))):
            parts.append(part)
            left -= 0 if amount is None else len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def stream(self, _amount: int = 0) -> Iterator[bytes]:
        while part := self._part(BLOCK):
            yield part

    def close(self) -> None:
        self._raw.close()

    def _part(self, most: int) -> bytes:
        """What one reading of the socket brings; nothing at the end."""
        try:
            part = self._raw.read1(most, decode_content=False)
            self._got += len(part)
            self._pace.moved(len(part))
        except urllib3.exceptions.HTTPError as error:
            raise ConnectionError(f"{type(error).__name__} after {self._got} bytes") from None
        except TimeoutError:
            self.close()
            raise
        if not part and self._size is not None and self._got != self._size:
            self.close()
            raise ConnectionError(f"{self._got} bytes came of {self._size}")
        return part


BLOCK = 1 << 16
"""Bytes that are asked of the socket at once. Parts of over 128 KiB are mapped anew by malloc: 20 MiB took
38 ms of CPU by parts of 1 MiB, and 16 by these."""


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
    asked.stream_output = True
    sign(asked)
    answer = _sent(asked.prepare())
    length = int(answer.headers.get("Content-Length", size))
    if answer.status_code == PARTIAL and length <= size:
        return cast("bytes", answer.raw.read())
    answer.raw.close()
    if answer.status_code in ELSEWHERE:  # the bucket is in another region, which the client finds out
        where = {"Bucket": bucket, "Key": key, "Range": asked.headers["Range"]}
        return cast("bytes", client().get_object(**where)["Body"].read())
    told = {"Code": str(answer.status_code), "Message": f"{length} bytes are no answer to a range of {size}"}
    facts = {"Error": told, "ResponseMetadata": {"HTTPStatusCode": answer.status_code}}
    raise botocore.exceptions.ClientError(facts, "GetObject")


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


class Stream(io.RawIOBase):
    """A seekable object: a question for each reading, of just the bytes that are read."""

    def __init__(self, where: dict[str, str], size: int) -> None:
        super().__init__()
        self._where, self._size, self._at = where, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        begin = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(begin + offset, 0)
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        left = max(self._size - self._at, 0)
        size = left if size is None or size < 0 else min(size, left)
        if not size:
            return b""
        bucket, key = self._where["Bucket"], self._where["Key"]
        data = patiently("open", f"s3://{bucket}/{key}", lambda: ranged(bucket, key, self._at, size))
        self._at += len(data)
        return data

    def readall(self) -> bytes:
        return self.read()

    def readinto(self, buffer: Any) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def forget() -> None:
    """The next call makes its client anew, from the environment as it is then."""
    global _making  # noqa: PLW0603  # a thread that held it may not be there after a fork
    _making = threading.RLock()
    for clear in _made:
        clear()


# Two processes that talk through one connection would read each other's answers.
os.register_at_fork(after_in_child=forget)
