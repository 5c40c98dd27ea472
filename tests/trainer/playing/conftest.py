"""One corpus, one run and one service for all tests here."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests import played
from tests.played import World


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return played.world(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="session")
def url(world: World) -> Iterator[str]:
    with played.playing(world) as process:
        yield process.url


@pytest.fixture
def http(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, timeout=30) as client:
        yield client
