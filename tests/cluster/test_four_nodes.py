"""The same deliveries on one node and on four, with the corpus on S3: the same bytes, in every object."""

from __future__ import annotations

import base64
import json
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from infra.corpus import Corpus
from tests.cluster.clusters import HEAD, NODES, START_S, Cluster, cluster, made, pardalis, until
from tests.cluster.namespaces import need_hosts
from tests.cluster.soak import AS_OF, shot_at
from tests.laws.conftest import TINY, Deliveries, drawing, sample
from tests.laws.test_training import TRAINER

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(900)]
OUTSIDE = "outside"
KILLS = 4
"""In the time of an undisturbed build, so that a busy machine is shot at as much slower. A shard may cost
four workers: with twice as many kills one did that had to load a model first.
"""
TOKEN = "token-of-the-services-0123456789"  # noqa: S105  # made up
ASKING = """
import sys, urllib.request
url, token = sys.argv[1:3]
headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
asked = urllib.request.Request(url, data=sys.stdin.buffer.read(), headers=headers)
print(urllib.request.urlopen(asked, timeout=30).read().decode())
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grown:
    """A cluster that was one node, and then four; and what was built before, between and after."""

    cluster: Cluster
    options: list[str]
    """The configuration of every build."""
    commands: list[list[str]]
    """That make a corpus, one after the other."""
    objects: dict[str, dict[str, str]]
    """By corpus: sha256 of each object."""
    nodes: dict[str, set[str]]
    """By corpus: nodes on which workers had run by then."""
    seconds: dict[str, float]
    """By corpus: what making it took."""


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Grown]:
    need_hosts()
    folder = tmp_path_factory.mktemp("grown")
    (folder / "tiny.toml").write_text(TINY + TRAINER)
    uri = Deliveries(folder / "delivered").write([sample(number) for number in range(48)])
    with cluster(folder, others=[OUTSIDE]) as found:
        options = ["--config", str(folder / "tiny.toml")]
        commands = [["ingest", uri, "--as-of", AS_OF], ["build"]]
        grown = Grown(cluster=found, options=options, commands=commands, objects={}, nodes={}, seconds={})

        def build(name: str, *where: str) -> None:
            words = ["--corpus", found.corpus(name).uri, *options, *where]
            began = time.monotonic()
            for command in commands:
                done = found.pardalis(HEAD, *command, *words)
                assert done.returncode == 0, done.stderr
            grown.seconds[name] = time.monotonic() - began
            grown.objects[name] = made(found.corpus(name))
            grown.nodes[name] = found.nodes_of("Worker") if found.started else set()

        build("inline", "--engine", "inline")
        found.start(HEAD)
        build("one", "--address", found.address)
        found.start(*NODES[1:])
        build("four", "--address", found.address)
        yield grown


def test_one_node_and_four_and_none_write_the_same_bytes(grown: Grown) -> None:
    assert grown.objects["one"] == grown.objects["inline"]
    assert grown.objects["four"] == grown.objects["inline"]
    names = {name.split("/")[1] for name in grown.objects["four"] if name.startswith("artifacts/")}
    assert names >= {"records", "images", "tokenize", "embed", "index", "neighbors", "pack"}


def test_workers_ran_on_all_four_nodes(grown: Grown) -> None:
    assert grown.nodes == {"inline": set(), "one": {HEAD}, "four": set(NODES)}


def test_a_job_that_is_handed_in_from_another_host_finds_its_work_done(grown: Grown) -> None:
    found, store = grown.cluster, grown.cluster.corpus("four")
    before = Corpus(store).newest()
    submitted = found.pardalis(
        OUTSIDE, "submit", "--address", found.jobs, "--", "build", "--corpus", store.uri, "--json"
    )
    assert submitted.returncode == 0, submitted.stdout + submitted.stderr
    assert Corpus(store).newest() == before


def test_two_ranks_on_two_nodes_train_in_a_folder_that_they_share(grown: Grown, tmp_path: Path) -> None:
    """All hosts have the files of this machine; a run's folder on S3 is none."""
    found, run = grown.cluster, tmp_path / "run"
    words = ["train", "--run", str(run), "--corpus", found.corpus("four").uri, *grown.options]
    words += ["--workers", "2", "--address", found.address, "--set", "trainer.optimizer.num_steps = 40"]
    done = found.pardalis(HEAD, *words)
    assert done.returncode == 0, done.stderr
    assert (run / "step-00000040").is_dir()
    assert len((run / "metrics.jsonl").read_text().splitlines()) == 40
    assert len(found.nodes_of("RayTrainWorker")) == 2


@pytest.mark.parametrize(
    ("what", "app", "path", "asked"),
    [
        ("index", "search", "/search", {"text": "a red circle", "k": 3}),
        ("tokenizer", "tokenizer", "/encode", {"images": [base64.b64encode(drawing(3)[1]).decode()]}),
    ],
)
def test_a_service_whose_replicas_are_on_two_nodes_answers_a_third_host(
    grown: Grown, tmp_path: Path, what: str, app: str, path: str, asked: dict[str, object]
) -> None:
    found = grown.cluster
    (tmp_path / "tokens").write_text(TOKEN)
    where = ["--host", "0.0.0.0", "--port", "8700", "--token-file", str(tmp_path / "tokens")]  # noqa: S104
    where += ["--replicas", "2", "--corpus", found.corpus("four").uri, "--address", found.address]
    with (tmp_path / "log").open("w") as log:
        serving = subprocess.Popen(
            found.head.command(pardalis(what, "serve", *where)), stderr=log, env=found.environment(HEAD)
        )
    try:

        def answered() -> bool:
            assert serving.poll() is None, (tmp_path / "log").read_text()
            command = [sys.executable, "-c", ASKING, f"http://{HEAD}:8700{path}", TOKEN]
            done = subprocess.run(
                found.hosts[OUTSIDE].command(command),
                input=json.dumps(asked),
                capture_output=True,
                text=True,
                check=False,
                timeout=60,
            )
            answers.append(done.stdout or done.stderr)
            return done.returncode == 0

        answers: list[str] = []
        until(answered, START_S, f"{path} answers")
        answer = json.loads(answers[-1])
        assert len(answer.get("results", [])) == 3 or len(answer["codes"]) == 1
        assert len(found.nodes_of(f"ServeReplica:pardalis-{app}-")) == 2
    finally:
        serving.terminate()
        serving.wait(START_S)


def test_a_host_without_a_token_is_refused_and_one_with_another_token_too(
    grown: Grown, tmp_path: Path
) -> None:
    found = grown.cluster
    (tmp_path / "token").write_text("0" * 32)
    words = ["build", "--corpus", found.corpus("four").uri, "--address", found.address]
    told = {}
    for name in ("token", "nothing"):
        environment = found.environment("second") | {"RAY_AUTH_TOKEN_PATH": str(tmp_path / name)}
        command = pardalis(*words)
        done = found.hosts["second"].run(command, environment=environment, timeout_s=90)
        told[name] = (done.returncode, done.stderr)
    assert told["nothing"][0] == 2, told
    assert "there is no token for it" in told["nothing"][1]
    assert told["token"][0] == 1, told
    assert "token" in told["token"][1]


def test_a_build_of_which_something_dies_every_few_seconds_writes_the_same_bytes(
    grown: Grown, tmp_path: Path
) -> None:
    """The last here: nodes come and go. The long run, of which a log is kept, is `tests.cluster.soak`."""
    found, store = grown.cluster, grown.cluster.corpus("shot")
    words = ["--corpus", store.uri, *grown.options, "--address", found.address]
    rng, every_s = random.Random(3), grown.seconds["four"] / KILLS  # noqa: S311  # no secret
    killed = [
        one
        for command in grown.commands
        for one in shot_at(found, [*command, *words], tmp_path, rng, every_s=every_s, tell=print)
    ]
    assert made(store) == grown.objects["inline"]
    assert len(killed) >= 3
