"""Which clusters we join: those on this machine, and those that ask for a token."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from infra.cluster import Unauthenticated, dashboard, follow, is_here, refuse_open


@pytest.mark.parametrize("address", ["10.1.2.3:6379", "ray://head.example:10001", "http://head:8265"])
def test_a_remote_cluster_without_a_token_is_refused(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))
    with pytest.raises(Unauthenticated, match="RAY_AUTH_TOKEN_PATH"):
        refuse_open(address)
    (tmp_path / "token").write_text("secret\n")
    refuse_open(address)
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with pytest.raises(Unauthenticated, match="RAY_AUTH_MODE=token"):
        refuse_open(address)


@pytest.mark.parametrize("address", ["127.0.0.1:6379", "localhost:6379", "auto", "http://127.0.0.1:8265"])
def test_this_machine_needs_no_token(address: str) -> None:
    refuse_open(address)


@pytest.mark.parametrize(
    "address", ["localhost", "127.0.0.1", "[::1]:6379", "ray://127.0.0.1:10001", "local"]
)
def test_this_machine_is_known_with_and_without_a_port(address: str) -> None:
    assert is_here(address)


@pytest.mark.parametrize(
    "address",
    [
        "http://127.0.0.1:80@evil",
        "http://evil\\@127.0.0.1",
        "http://localhost@evil:8265",
        "127.0.0.1.evil",
        "",
        "//[",
    ],
)
def test_an_address_that_may_be_elsewhere_is_not_this_machine(address: str) -> None:
    assert not is_here(address)


@pytest.mark.parametrize(
    ("address", "server"),
    [
        (None, "http://127.0.0.1:8265"),
        ("auto", "http://127.0.0.1:8265"),
        ("local", "http://127.0.0.1:8265"),
        ("head", "http://head:8265"),
        ("head:6379", "http://head:8265"),
        ("ray://head:10001", "http://head:8265"),
        ("[::1]:6379", "http://[::1]:8265"),
        ("https://head/ray", "https://head/ray"),
    ],
)
def test_the_job_server_is_found_from_any_form_of_address(address: str | None, server: str) -> None:
    assert dashboard(address) == server


@pytest.mark.parametrize("address", [":6379", "http://", "http://a@b"])
def test_an_address_without_a_host_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="names no host"):
        dashboard(address)


@pytest.mark.parametrize(
    "address", ["user:canary@head:6379", "ray://canary@head", "http://user:canary@head/x"]
)
@pytest.mark.parametrize("ask", [dashboard, refuse_open])
def test_an_address_with_a_password_is_refused_and_not_repeated(
    ask: Callable[[str], object], address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "token")
    with pytest.raises(ValueError, match="names no host") as refused:
        ask(address)
    assert "canary" not in str(refused.value)
    assert "@head" in str(refused.value)


@pytest.mark.parametrize(
    ("command", "environment", "told"),
    [
        (["ingest", "--corpus", "s3://key:canary@bucket"], {}, "word 3 of the job"),
        (["ingest", "canary-of-the-environment"], {}, "word 2 of the job"),
        (["build", "--set", "x.password = 'canary'"], {}, "word 3 of the job"),
        (["status"], {"AWS_ENDPOINT_URL": "http://user:canary@host"}, "AWS_ENDPOINT_URL of the job"),
    ],
)
def test_a_job_with_a_credential_goes_to_no_cluster(
    command: list[str], environment: dict[str, str], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_SECRET", "canary-of-the-environment")
    with pytest.raises(ValueError, match=told) as refused:
        follow(command, address="http://127.0.0.1:9", environment=environment)
    assert "canary" not in str(refused.value)


def test_a_job_server_that_does_not_answer_is_named() -> None:
    with pytest.raises(ConnectionError, match=r"http://127\.0\.0\.1:9 .*ray start --head"):
        follow(["status"], address="http://127.0.0.1:9", environment={})
