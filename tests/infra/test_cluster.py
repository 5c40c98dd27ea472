"""Which clusters we join: those on this machine, and those that ask for a token."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.cluster import Unauthenticated, refuse_open


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
