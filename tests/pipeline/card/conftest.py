"""The written corpus, once for all tests of the card, and its card."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.card import measuring, settings, termlists
from tests.pipeline.card.written import Written, write

BENCHMARK = (
    "A man walking in the city, number 5",
    "somebody else walking along a quiet road by the sea",
    "a woman, the CEO of a firm, and her 15 dogs",
)


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    return write(tmp_path_factory.mktemp("card"))


@pytest.fixture(scope="session")
def benchmark_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("benchmark") / "captions.txt"
    path.write_text("\n".join(BENCHMARK) + "\n\n")
    return path


@pytest.fixture(scope="session")
def told(benchmark_file: Path) -> settings.CardSettings:
    return settings.CardSettings(benchmarks={"made": str(benchmark_file)}, ngram=6)


@pytest.fixture(scope="session")
def card(written: Written, told: settings.CardSettings) -> dict[str, Any]:
    before, version = written.versions
    asked = measuring.Asked(
        corpus=written.corpus, version=version, settings=told, lists=termlists.loaded({}), before=before
    )
    return measuring.card(asked)
