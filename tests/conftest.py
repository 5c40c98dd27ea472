"""What many tests share: hypothesis profiles, a local Ray, a real S3 server."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from infra import s3 as s3_clients
from infra.storage import Store
from tests.seaweed import BUCKET, Seaweed, serving

settings.register_profile("ci", deadline=None, derandomize=True)
settings.register_profile("search", deadline=None)
settings.register_profile("quick", deadline=None, derandomize=True, max_examples=10)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

torch.set_num_threads(1)  # before any module fits something as it is imported


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Sums depend on the number of threads, and what a test before this one ran may have set another."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def seaweed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seaweed]:
    with serving(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture(scope="session")
def s3_server(seaweed: Seaweed) -> str:
    """SeaweedFS on loopback, with a bucket ``corpora``; its address."""
    return seaweed.endpoint


@pytest.fixture
def s3(seaweed: Seaweed, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Store]:
    """An empty place on the S3 server."""
    for name, value in {**seaweed.environment, "XDG_CACHE_HOME": str(tmp_path / "cache")}.items():
        monkeypatch.setenv(name, value)
    s3_clients.forget()
    yield Store.at(f"s3://{BUCKET}/{tmp_path.name}")
    s3_clients.forget()


@pytest.fixture
def versioned(s3: Store) -> Store:
    """An empty place in a bucket of its own that keeps what was deleted."""
    bucket = f"versioned-{s3.uri.rpartition('/')[2].replace('_', '-')[-40:].strip('-')}".lower()
    client = s3_clients.client()
    client.create_bucket(Bucket=bucket)
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    return Store.at(f"s3://{bucket}/corpus")


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.long)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """The same test on both kinds of storage."""
    if request.param == "local":
        return Store.at(tmp_path / "store")
    found: Store = request.getfixturevalue("s3")
    return found
