"""Read one object at an s3 address that we did not write: allowed buckets, a stated version, a budget.

The surprising rule: the address never chooses the server or the credentials; those are the environment's. A
version that is stated is the one that is read, whatever has been put there since.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Collection
from typing import cast

import botocore.exceptions

from infra import s3
from infra.guarded.address import shown
from infra.guarded.https import Unreachable
from infra.guarded.refused import Refused

PATIENCE_S = 10.0
"""Of a delivery's thousands of rows each may name a server that is gone; the next ingest tries them again."""
ADDRESS = re.compile(r"s3://([a-z0-9][a-z0-9.-]{2,62})/([^\x00-\x1f\x7f]{1,1024})")
GONE = frozenset({404, 405, 410, 412})
"""Answers that another try will not change. 405 is a delete marker's."""
BAD = 400
CLOSED = frozenset({401, 403})
"""Answers to credentials that are wrong or may not read: they can be mended. Who may not list a bucket is
told 403 for an object that is not there, too."""
MENDED = frozenset({"AuthorizationHeaderMalformed", "ExpiredToken", "InvalidToken", "TokenRefreshRequired"})
"""What a :data:`BAD` answer says of credentials, the first of those for another region."""
LATER = frozenset({"RequestTimeout", "RequestLimitExceeded", "Throttling", "ThrottlingException"})
"""What it says of the hour. All else (``InvalidArgument``, as of a version that cannot be one) stands."""


def check_uri(uri: str, buckets: Collection[str]) -> tuple[str, str]:
    """Bucket and key, without asking the server. Raises :class:`Refused` with rule ``uri`` or ``bucket``."""
    found = ADDRESS.fullmatch(uri)
    if found is None:
        raise Refused(shown(uri), "", "uri", "an object's address is s3://BUCKET/KEY")
    if found[1] not in buckets:
        fix = "allow it in the delivery (contract seal --allowed-buckets) and in pipeline.fetch.buckets"
        raise Refused(shown(uri), "", "bucket", f"bucket {found[1]!r} is not allowed; {fix}")
    return found[1], found[2]


def read(uri: str, version: str, *, buckets: Collection[str], max_bytes: int) -> bytes:
    """The object. Raises :class:`Refused` with a rule of :func:`check_uri`, ``status`` or ``size``, and
    :class:`Unreachable` where the server could not be asked for :data:`PATIENCE_S`.
    """
    (bucket, key), place = check_uri(uri, buckets), shown(uri)
    which = {"VersionId": version} if version else {}

    def ask() -> bytes:
        answer = s3.client().get_object(Bucket=bucket, Key=key, **which)
        with contextlib.closing(answer["Body"]) as body:
            size = int(answer["ContentLength"])
            if size > max_bytes:
                raise Refused(place, "", "size", f"{size} bytes, at most {max_bytes} are read")
            return cast("bytes", body.read())

    try:
        return s3.patiently("fetch", place, ask, most_s=PATIENCE_S)
    except s3.Unavailable as error:
        raise Unreachable(place, error.cause) from None
    except botocore.exceptions.ClientError as error:
        raise failure(error, place, bucket) from None
    except (botocore.exceptions.NoCredentialsError, botocore.exceptions.PartialCredentialsError):
        fix = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
        raise Unreachable(place, f"there are no credentials for S3 here; {fix}") from None
    except (botocore.exceptions.BotoCoreError, OSError) as error:
        raise Unreachable(place, type(error).__name__) from None


def failure(error: botocore.exceptions.ClientError, place: str, bucket: str) -> Refused | Unreachable:
    """What the server's answer means for the row: it stands, or another try may bring the object."""
    status, code = s3.status(error), str(error.response["Error"].get("Code", ""))
    told = f"the server answered {status} {code[:40]!a}"
    if status in CLOSED or code in MENDED:
        fix = f"give the environment's credentials read access to bucket {bucket!r}, listing included"
        return Unreachable(place, f"{told}; {fix}")
    if status in GONE or (status == BAD and code not in LATER):
        return Refused(place, "", "status", f"{told}; see that the object, and the version, is there")
    return Unreachable(place, told)
