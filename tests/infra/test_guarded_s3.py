"""What an answer of S3 means: that the row stands as it is, or that another try may bring the object."""

from __future__ import annotations

import botocore.exceptions
import pytest

from infra.guarded import s3
from infra.guarded.https import Unreachable
from infra.guarded.refused import Refused


def answered(status: int, code: str) -> Refused | Unreachable:
    told = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    error = botocore.exceptions.ClientError(told, "GetObject")
    return s3.failure(error, "s3://originals/a.png", "originals")


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, "InvalidArgument"),
        (400, "InvalidRequest"),
        (400, ""),
        (404, "NoSuchKey"),
        (404, "NoSuchVersion"),
        (405, "MethodNotAllowed"),
    ],
)
def test_a_question_that_is_wrong_is_asked_once(status: int, code: str) -> None:
    failure = answered(status, code)
    assert isinstance(failure, Refused)
    assert failure.rule == "status"


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, "ExpiredToken"),
        (400, "InvalidToken"),
        (400, "AuthorizationHeaderMalformed"),
        (401, "Unauthorized"),
        (403, "AccessDenied"),
    ],
)
def test_credentials_can_be_mended_and_the_object_is_asked_for_again(status: int, code: str) -> None:
    failure = answered(status, code)
    assert isinstance(failure, Unreachable)
    assert f"{status} '{code}'; give the environment's credentials read access" in str(failure)


@pytest.mark.parametrize(
    ("status", "code"),
    [(400, "RequestTimeout"), (400, "Throttling"), (500, "InternalError"), (503, "SlowDown")],
)
def test_a_server_that_is_late_or_busy_is_asked_again_and_no_credentials_are_blamed(
    status: int, code: str
) -> None:
    failure = answered(status, code)
    assert isinstance(failure, Unreachable)
    assert "credentials" not in str(failure)
