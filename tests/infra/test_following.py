"""A job's log is followed through all that a job server does to it, by Ray's own client."""

from __future__ import annotations

import importlib.metadata
import subprocess
import time
from pathlib import Path

import pytest

from infra import following
from infra.cluster import follow, refuse_file
from tests.infra.job_server import CUT, JOB, REFUSED, SILENT, JobServer, serving

pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(60),
    pytest.mark.filterwarnings("ignore:ssl=None is deprecated:DeprecationWarning"),  # Ray's client to aiohttp
]
LOG = "".join(f"line {number} of the log\n" for number in range(40)) + "and half a line"
HALF = LOG[: len(LOG) // 2 + 3]


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry = {"LOOK_S": 0.3, "ANSWER_S": 1.0, "AWAY_S": 1.0, "AGAIN_S": 0.02, "SELDOM_S": 0.1}
    for name, seconds in hurry.items():
        monkeypatch.setattr(following, name, seconds)


@pytest.mark.parametrize(
    "streams",
    [
        [(LOG, None)],
        [(HALF, CUT), (LOG, None)],
        [(HALF, None), (LOG, None)],  # ended, and the job goes on
        [("", REFUSED), (HALF, CUT), (HALF, CUT), (LOG, None)],
        [(HALF, CUT), (HALF, SILENT)],  # the job ends, and the stream says nothing of it
        [("", REFUSED), ("", REFUSED)],  # streams pass nowhere
    ],
    ids=["whole", "cut", "ended early", "cut again", "silent", "no streams"],
)
@pytest.mark.parametrize("code", [0, 3])
def test_each_line_is_shown_once_and_the_exit_code_is_the_jobs(
    streams: list[tuple[str, str | None]], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(JobServer(log=LOG, streams=streams, code=code)) as address:
        assert follow(["status"], address=address, environment={}) == code
    told = capsys.readouterr()
    assert told.out == LOG
    assert told.err.startswith(f"job {JOB}\n")


def test_what_is_sent_again_is_bounded_by_how_often_a_stream_is_cut(
    capsys: pytest.CaptureFixture[str],
) -> None:
    server = JobServer(log=LOG, streams=[(HALF, CUT), (LOG, None)])
    with serving(server) as address:
        follow(["status"], address=address, environment={})
    assert server.sent <= len(HALF) + len(LOG)  # the whole log twice a second was the square of it
    assert capsys.readouterr().out == LOG


def test_a_server_that_is_away_is_waited_for_however_long_the_job_ran_before(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "AWAY_S", 0.8)
    server = JobServer(log=LOG, streams=[(HALF, CUT), (LOG, None)], away=3, first_s=1.5)
    with serving(server) as address:
        assert follow(["status"], address=address, environment={}) == 0
    told = capsys.readouterr()
    assert told.out == LOG
    assert "the job server does not answer" in told.err
    assert "the head is starting" in told.err


def test_who_loses_sight_of_a_job_is_told_how_to_follow_it_again(capsys: pytest.CaptureFixture[str]) -> None:
    server = JobServer(log=LOG, streams=[(HALF, CUT), (LOG, None)], away=10_000)
    began = time.monotonic()
    with serving(server) as address, pytest.raises(ConnectionError) as lost:
        follow(["status"], address=address, environment={})
    assert time.monotonic() - began < 10
    assert f"job {JOB} may go on; `ray job logs --follow --address {address} {JOB}`" in str(lost.value)
    assert capsys.readouterr().out == HALF[: HALF.rindex("\n") + 1]  # half a line is not shown


def test_a_server_that_takes_a_question_and_never_answers_is_given_up(
    capsys: pytest.CaptureFixture[str],
) -> None:
    server = JobServer(log=LOG, streams=[(HALF, CUT), (LOG, None)], away=10_000, mute=True)
    began = time.monotonic()
    with serving(server) as address, pytest.raises(ConnectionError, match="may go on"):
        follow(["status"], address=address, environment={})
    assert time.monotonic() - began < 10
    assert capsys.readouterr().out


def test_a_line_that_comes_in_pieces_is_masked_whole(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_SECRET", "canary-of-the-environment")
    log = "a canary-of-the-environment\nand canary-of-the-environment"
    with serving(JobServer(log=log, streams=[(log[:12], CUT), (log, None)])) as address:
        follow(["status"], address=address, environment={})
    told = capsys.readouterr().out
    assert "canary" not in told
    assert told.startswith("a ")


@pytest.mark.parametrize("words", [["--config", "mine.toml"], ["--config=mine.toml"]])
def test_a_file_of_this_machine_is_not_named_to_a_driver_elsewhere(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    refuse_file(["build", *words], server="http://head:8265")  # it may be a path there
    (tmp_path / "mine.toml").write_text("")
    (tmp_path / "cluster").write_text("")
    with pytest.raises(ValueError, match=r"mine\.toml is a file of this machine.* at head; .*\(cluster, "):
        follow(["build", *words], address="http://head:8265", environment={})
    refuse_file(["build", *words], server="http://127.0.0.1:8265")
    refuse_file(["build", "--config", "cluster", "--set", "a=b"], server="http://head:8265")


def test_a_job_runs_the_command_that_the_cluster_has(tmp_path: Path) -> None:
    """Else the one beside our Python, which on another machine is not there."""
    server = JobServer(log="", streams=[("", None)])
    with serving(server) as address:
        follow(["contract", "schema", "a 'b c'"], address=address, environment={"PARDALIS_CORPUS": "/c"})
        follow(["--version"], address=address, environment={})
    first, second = (job["entrypoint"] for job in server.submitted)
    assert server.submitted[0]["runtime_env"]["env_vars"] == {"PARDALIS_CORPUS": "/c"}
    theirs = tmp_path / "pardalis"
    theirs.write_text('#!/bin/sh\nprintf "%s|" "$@"\n')
    theirs.chmod(0o700)
    assert shell(first, f"{tmp_path}:/usr/bin:/bin") == "contract|schema|a 'b c'|"
    assert shell(second, "/usr/bin:/bin").strip() == importlib.metadata.version("pardalis")


def shell(line: str, path: str) -> str:
    """As Ray runs an entry point."""
    done = subprocess.run(
        ["/bin/sh", "-c", line], env={"PATH": path}, capture_output=True, text=True, check=True
    )
    return done.stdout
