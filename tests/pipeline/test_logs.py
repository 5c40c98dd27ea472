"""``pardalis logs``: of a corpus that is really built, and of drivers that really end, or do not."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import pytest

from infra import logs, metrics
from infra.cli import MISTAKE, run
from infra.corpus import LEASE_S, Corpus, acquire, lease_name
from infra.storage import Store
from infra.telemetry import Log
from pipeline import running
from tests.laws.conftest import TINY, Deliveries, sample

pytestmark = [pytest.mark.plan, pytest.mark.long, pytest.mark.timeout(400)]  # the fixture builds twice

INLINE = ("--engine", "inline")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Two deliveries, built until dedup; the second by a job of its own."""
    root = tmp_path_factory.mktemp("logs")
    (root / "tiny.toml").write_text(TINY)
    at = ["--corpus", str(root / "corpus"), "--config", str(root / "tiny.toml")]
    deliveries = Deliveries(root)
    for numbers in (range(20), range(20, 30)):
        uri = deliveries.write([sample(number) for number in numbers])
        assert run(["ingest", uri, "--as-of", "2026-06-01T00:00:00Z", *at, *INLINE]) == 0
        assert run(["build", "--to", "dedup", *at, *INLINE]) == 0
    return at


def asked(capsys: pytest.CaptureFixture[str], corpus: list[str], *words: str) -> list[dict[str, Any]]:
    capsys.readouterr()
    assert run(["logs", *words, "--json", *corpus[:2]]) == 0
    return list(json.loads(capsys.readouterr().out))


def store_of(corpus: list[str]) -> Store:
    return Store.at(corpus[1])


def test_every_shard_of_a_step_is_told_with_who_made_it_and_what_became_of_its_rows(
    corpus: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    store = store_of(corpus)
    first = logs.jobs(store)[1]
    events = asked(capsys, corpus, "--job", first, "--step", "filter")
    assert {event["job"] for event in events} == {first}
    assert [event["event"] for event in events if event["event"] not in ("progress", "shard")] == [
        "job",
        "begin",
        "work",
        "step",
        "done",
    ]
    assert (events[0]["command"], events[0]["engine"], events[0]["version"]) == ("build", "inline", 1)
    shards = {event["slot"]: event for event in events if event["event"] == "shard"}
    listed = Corpus(store).artifact(Corpus(store).version(2), "filter").shards
    assert {slot: event["key"] for slot, event in shards.items()} == {s: one.key for s, one in listed.items()}
    one = shards["00000-000000"]
    assert one["bytes"] == sum(file.size for file in listed["00000-000000"].files.values())
    assert (one["counts"], one["tries"]) == (dict(listed["00000-000000"].counts), 1)
    assert one["node"]
    assert one["seconds"] > 0


def test_what_was_there_is_told_once_and_counted(
    corpus: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    events = asked(capsys, corpus, "--step", "filter")
    assert [event["shards"] for event in events if event["event"] == "found"] == [3]
    assert [event["shards"] for event in events if event["event"] == "begin"] == [2]
    assert {event["slot"][:5] for event in events if event["event"] == "shard"} == {"00001"}
    labels = {"step": "filter", "how": "found"}
    assert (metrics.jobs.registry.get_sample_value("pardalis_shards_total", labels) or 0) >= 3
    counted = metrics.jobs.registry.get_sample_value(
        "pardalis_rows_total", {"step": "filter", "outcome": "kept"}
    )
    assert (counted or 0) >= 30
    assert metrics.jobs.registry.get_sample_value("pardalis_plan_done_ratio") == 1.0


def test_no_event_names_an_asset(corpus: list[str]) -> None:
    """So nothing has to be erased from a log with what is taken back, and `verify` finds nothing there."""
    store = store_of(corpus)
    text = b"".join(store.read(name) for name in store.names("logs/"))
    uids = [f"{sample(0)[0].provider}:a{number:04d}" for number in range(30)]
    assert len(text) > 10_000
    assert not [uid for uid in uids if uid.encode() in text or uid.partition(":")[2].encode() in text]


def test_an_assets_shards_are_found_whichever_job_made_them(
    corpus: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    provider = sample(0)[0].provider
    jobs = logs.jobs(store_of(corpus))
    for uid, ingested, built in ((f"{provider}:a0009", *jobs[:2]), (f"{provider}:a0025", *jobs[2:])):
        events = asked(capsys, corpus, "--uid", uid)
        steps = {event["step"]: event for event in events}
        assert {"records", "decide", "images", "filter", "features", "dedup"} <= set(steps)
        assert (steps["records"]["job"], steps["filter"]["job"]) == (ingested, built)
        assert len({event["slot"] for event in events if event["step"] in ("records", "filter")}) == 1
    (only,) = asked(capsys, corpus, "--uid", f"{provider}:a0009", "--step", "filter")
    assert (only["slot"], only["event"]) == ("00000-000001", "shard")


def test_a_shard_is_found_by_slot_and_by_key_in_the_newest_job_that_made_it(
    corpus: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    jobs = logs.jobs(store_of(corpus))
    events = asked(capsys, corpus, "--shard", "00000-000000", "--step", "filter")
    (event,) = events
    assert event["job"] == jobs[1]
    assert asked(capsys, corpus, "--shard", event["key"]) == events


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--job", "nothing"], "there is no log of job 'nothing'"),
        (["--shard", "00009-000000"], "no log of"),
        (["--step", "ingest"], "there is no step 'ingest'; the steps are fetch, records, decide, images, "),
        (["--uid", "nothing"], "names no asset"),
        (["--uid", "acme:nothing"], "is in no shard of version 4"),
        (["--uid", "acme:a0001", "--follow"], "give it without --job, --shard and --follow"),
    ],
)
def test_what_cannot_be_found_says_so(
    corpus: list[str], words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["logs", *words, *corpus[:2]]) == MISTAKE
    assert told in capsys.readouterr().err


def test_a_step_is_known_before_it_did_anything(
    corpus: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert {event["event"] for event in asked(capsys, corpus, "--step", "tokenize")} == {"job", "done"}


def test_a_step_of_another_package_is_known_by_the_log_of_its_first_job(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    log = Log()
    with log.kept(store, "instruct", lease=1):
        log.event("begin", step="instruct", shards=3)
    events = asked(capsys, ["--corpus", store.uri], "--step", "instruct")
    assert [event["event"] for event in events] == ["job", "begin", "done"]
    assert run(["logs", "--step", "instruction", "--corpus", store.uri]) == MISTAKE


def test_people_read_lines_without_how_far_it_was_every_few_seconds(
    corpus: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert run(["logs", *corpus[:2]]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[1] == "job"
    assert lines[-1].split()[1] == "done"
    assert any("shard" in line and "slot=00001-000000" in line for line in lines)
    assert not any(" progress " in line for line in lines)


def test_gc_erases_what_old_jobs_told(corpus: list[str]) -> None:
    store, old = store_of(corpus), "20200101T000000.000000Z-build"
    store.write(logs.head_name(old), logs.lines([{"event": "job", "time": 0.0}]))
    for number in range(2):
        store.write(logs.segment_name(old, number), logs.lines([{"event": "done", "time": 0.0}]))
    kept = set(store.names("logs/")) - {name for name in store.names("logs/") if old in name}
    assert run(["gc", "--dry-run", *corpus[:2]]) == 0
    assert logs.jobs(store)[0] == old
    assert run(["gc", *corpus[:2]]) == 0
    assert set(store.names("logs/")) == kept


def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "EVERY_S", 0.05)
    monkeypatch.setattr(running, "POLL_S", 0.05)
    monkeypatch.setattr(running, "LOOK_S", 0.2)


def test_a_log_is_followed_to_its_end(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    hurried(monkeypatch)
    told: list[dict[str, Any]] = []
    with Corpus(store).writing(purpose="pardalis build") as lease:
        log = Log()
        with log.kept(store, "build", lease=lease.number) as job:
            follower = threading.Thread(target=lambda: told.extend(running.followed(store, job)))
            follower.start()
            for number in range(5):
                log.event("step", number=number)
                time.sleep(0.1)
            assert follower.is_alive()
    follower.join(timeout=20)
    assert not follower.is_alive()
    assert [event["number"] for event in told if event["event"] == "step"] == list(range(5))
    assert (told[0]["event"], told[-1]["event"]) == ("job", "done")


def test_a_log_whose_driver_is_gone_is_followed_until_its_lease_has_expired(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    hurried(monkeypatch)
    lease = acquire(store, "pardalis build")
    job = logs.begin(store, "build", [{"event": "job", "time": time.time(), "lease": lease.number}])
    told: list[dict[str, Any]] = []
    follower = threading.Thread(target=lambda: told.extend(running.followed(store, job)))
    follower.start()
    time.sleep(1.0)
    assert follower.is_alive()  # it may still write
    holder = json.loads(store.read(lease_name(lease.number)))
    # As of a driver on another machine, of which nobody here can say that its process is gone.
    store.write(
        lease_name(lease.number), json.dumps({**holder, "host": "elsewhere", "expires": 1.0}).encode()
    )
    follower.join(timeout=20)
    assert [event["event"] for event in told] == ["job", "gone"]
    found = running.of(store)
    assert found is not None
    assert found.gone_since == pytest.approx(logs.head(store, job)[0]["time"])
    assert f"gone since {running.instant(found.gone_since)}; run the command again" in "".join(found.lines())


def test_one_that_began_while_another_took_the_corpus_is_not_waited_for(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    hurried(monkeypatch)
    lease = acquire(store, "pardalis build")
    job = logs.begin(store, "build", [{"event": "job", "time": time.time(), "lease": lease.number}])
    lease.release()
    acquire(store, "pardalis ingest")
    assert [event["event"] for event in running.followed(store, job)] == ["job", "gone"]


def test_who_holds_the_corpus_is_told_while_it_holds_it(store: Store) -> None:
    assert running.of(store) is None
    with Corpus(store).writing(purpose="pardalis gc") as lease:
        found = running.of(store)
        assert found is not None
        assert (found.purpose, found.job, found.gone_since) == ("pardalis gc", None, None)
        log = Log()
        with log.kept(store, "build", lease=lease.number) as job:
            found = running.of(store)
            assert found is not None
            assert (found.job, found.facts()["driver"]) == (job, "alive")
    assert running.of(store) is None
    assert LEASE_S > 2 * running.LOOK_S
