import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from infra import corpus as corpora
from infra.artifact import Corrupt
from infra.corpus import EMPTY, Corpus, Folded, LeaseHeld, NoCorpus, Version
from infra.storage import Store

DELIVERY = Folded(
    provider="acme", delivery_id="d1", sequence=0, sha256="0" * 64, uri="/somewhere", batches="1" * 64
)


def test_versions_form_a_chain(store: Store) -> None:
    corpus = Corpus(store)
    assert corpus.head() is EMPTY
    with corpus.writing(purpose="test") as lease:
        first = corpus.publish(lease, EMPTY, replace(EMPTY, deliveries=(DELIVERY,)))
        second = corpus.publish(lease, first, replace(first, artifacts={"filter": "k"}))
    assert [first.number, second.number] == [1, 2]
    assert second.parent is not None
    assert corpus.newest() == second
    assert corpus.version(1) == first


def test_publishing_what_is_there_adds_no_version(store: Store) -> None:
    corpus = Corpus(store)
    with corpus.writing(purpose="test") as lease:
        first = corpus.publish(lease, EMPTY, replace(EMPTY, deliveries=(DELIVERY,)))
        assert corpus.publish(lease, first, first) == first
    assert corpus.numbers() == [1]


def test_an_empty_place_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(NoCorpus, match="pardalis ingest"):
        Corpus(Store.at(tmp_path)).newest()


def test_a_second_writer_is_told_who_holds_the_corpus(store: Store) -> None:
    corpus = Corpus(store)
    with (
        corpus.writing(purpose="pardalis build"),
        pytest.raises(LeaseHeld, match=r"pardalis build.*process \d+"),
        corpus.writing(purpose="other"),
    ):
        pass
    with corpus.writing(purpose="later"):
        pass


def test_who_lost_the_lease_cannot_publish(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = Corpus(store)
    lease = corpora.acquire(store, "slow")
    store.write(lease.name, json.dumps({**lease.holder, "expires": time.time() - 1}).encode())
    other = corpora.acquire(store, "fast")
    corpus.publish(other, EMPTY, replace(EMPTY, deliveries=(DELIVERY,)))
    with pytest.raises(LeaseHeld, match="expired"):
        corpus.publish(lease, EMPTY, replace(EMPTY, as_of="2026-01-01"))


@contextlib.contextmanager
def broken(leases: Path) -> Iterator[None]:
    """The store cannot write leases while the block runs: a file stands where their folder was."""
    aside = leases.rename(leases.with_name("aside"))
    leases.write_text("")
    try:
        yield
    finally:
        leases.unlink()
        aside.rename(leases)


@pytest.mark.long
@pytest.mark.long
def test_a_lease_outlives_a_store_that_fails_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(corpora, "LEASE_S", 3.0)
    store = Store.at(tmp_path)
    with Corpus(store).writing(purpose="test") as lease:
        with broken(tmp_path / "leases"):
            time.sleep(1.6)
        time.sleep(0.5)
        assert json.loads(store.read(lease.name))["expires"] > time.time() + 1.4
        Corpus(store).publish(lease, EMPTY, replace(EMPTY, deliveries=(DELIVERY,)))
    assert "could not be renewed" in capsys.readouterr().err


def test_a_lease_that_cannot_be_released_hides_no_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lease = corpora.acquire(Store.at(tmp_path), "test")
    with broken(tmp_path / "leases"):
        lease.release()
    assert "ends in 60 s" in capsys.readouterr().err


def test_a_killed_holder_on_this_machine_is_replaced_at_once(tmp_path: Path) -> None:
    program = (
        "import sys, time\nfrom infra.corpus import acquire\nfrom infra.storage import Store\n"
        "acquire(Store.at(sys.argv[1]), 'doomed')\nprint('held', flush=True)\ntime.sleep(60)\n"
    )
    holder = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    store = Store.at(tmp_path)
    with pytest.raises(LeaseHeld):
        corpora.acquire(store, "second")
    holder.kill()
    holder.wait()
    holder.stdout.close()
    corpora.acquire(store, "second").release()


def test_a_register_only_grows_and_notices_a_changed_segment(store: Store) -> None:
    corpus, version = Corpus(store), Version(number=0)
    version = corpus.append(version, "ids", b"one")
    version = corpus.append(version, "ids", b"two")
    assert corpus.append(version, "ids", b"one") == version
    assert list(corpus.segments(version, "ids")) == [b"one", b"two"]
    store.write(version.registers["ids"][0], b"changed")
    with pytest.raises(Corrupt, match="registers/ids"):
        list(corpus.segments(version, "ids"))
