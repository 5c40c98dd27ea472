"""A Ray cluster of two nodes that somebody else started: join it, and hand it a job."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from infra.corpus import Corpus
from infra.storage import Store

from .conftest import Nodes

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(400)]


def pardalis(nodes: Nodes, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "infra.cli", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=nodes.environment())


def test_a_command_joins_a_cluster_and_a_submitted_job_finds_its_work_done(
    nodes: Nodes, tmp_path: Path, delivery: str
) -> None:
    corpus = str(tmp_path / "corpus")
    words = ["ingest", delivery, "--corpus", corpus, "--as-of", "2026-06-01T00:00:00Z"]
    joined = pardalis(nodes, *words, "--address", nodes.address)
    assert joined.returncode == 0, joined.stderr
    assert len(nodes.nodes_of_workers()) == 2
    made = Corpus(Store.at(corpus)).newest()
    submitted = pardalis(nodes, "submit", "--address", nodes.jobs, "--", *words, "--json")
    assert submitted.returncode == 0, submitted.stdout + submitted.stderr
    assert "job raysubmit_" in submitted.stderr
    assert '"version": 1' in submitted.stdout
    assert Corpus(Store.at(corpus)).newest() == made


def test_a_submitted_job_ingests_a_delivery(nodes: Nodes, tmp_path: Path, delivery: str) -> None:
    corpus = str(tmp_path / "corpus")
    words = ["ingest", delivery, "--corpus", corpus, "--as-of", "2026-06-01T00:00:00Z"]
    submitted = pardalis(nodes, "submit", "--address", nodes.jobs, "--", *words)
    assert submitted.returncode == 0, submitted.stdout + submitted.stderr
    assert Corpus(Store.at(corpus)).newest().number == 1


def test_a_submitted_job_that_fails_gives_its_exit_code_and_its_message(nodes: Nodes, tmp_path: Path) -> None:
    failed = pardalis(
        nodes, "submit", "--address", nodes.jobs, "--", "build", "--corpus", str(tmp_path / "nothing")
    )
    assert failed.returncode == 2
    assert "holds no corpus" in failed.stdout
