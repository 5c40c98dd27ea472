"""The small delivery of the laws, for commands that run on other nodes."""

from __future__ import annotations

import pytest

from tests.laws.conftest import Deliveries, sample


@pytest.fixture(scope="module")
def delivery(tmp_path_factory: pytest.TempPathFactory) -> str:
    samples = [sample(number) for number in range(24)]
    return Deliveries(tmp_path_factory.mktemp("delivered")).write(samples)
