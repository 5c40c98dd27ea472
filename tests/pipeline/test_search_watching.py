"""Laws of watching for revocations: what came is in force, whatever becomes of where it came from."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from infra.corpus import Corpus
from infra.storage import Store
from pipeline import ids, withdrawn
from pipeline.contract import Revocation
from pipeline.folding import REVOCATIONS
from pipeline.grants import Purpose
from pipeline.searching.admission import Admission
from pipeline.searching.standing import Standing
from pipeline.searching.watching import Place, Watch
from retrieval.serving.admission import Grant

from .held import NOW, SHOWN, Held, asset, at, held, license_, revocation

NUM = 4


def members() -> Held:
    return held([asset(number) for number in range(NUM)], [license_()])


class Watched:
    """A watch on a corpus without a version and, if it is given, a place; with a clock that can be set."""

    def __init__(self, tmp_path: Path, place: Place | None = None) -> None:
        self.corpus = Corpus(Store.at(tmp_path / "corpus"))
        self.now = NOW
        self.found = members()
        self.watch = Watch(
            corpus=self.corpus, place=place, holdings=self.found.holdings, now=lambda: self.now
        )
        self.standing = self.watch.begin()

    def look(self) -> str:
        """The numbers of the members that are out."""
        self.standing = self.watch.look() or self.standing
        return out(self.standing)

    def publish(self, *records: Revocation) -> None:
        with self.corpus.writing(purpose="test") as lease:
            head = self.corpus.head()
            version = self.corpus.append(head, REVOCATIONS, lines(*records).encode())
            self.corpus.publish(lease, head, version)


def out(standing: Standing) -> str:
    return "".join(str(number) for number, gone in enumerate(standing.removed_N.tolist()) if gone)


def lines(*records: Revocation) -> str:
    return "".join(record.model_dump_json(by_alias=True) + "\n" for record in records)


def taken(number: int, **changes: Any) -> Revocation:
    return revocation(f"r{number}", targets=[f"a{number}"], **changes)


def test_a_file_is_read_when_it_changes_and_what_it_said_stays_though_it_is_emptied_or_gone(
    tmp_path: Path,
) -> None:
    file = tmp_path / "revoked.jsonl"
    file.write_text(lines(taken(0)))
    watched = Watched(tmp_path, Place.at(str(file)))
    assert out(watched.standing) == "0"
    assert watched.watch.look() is None
    file.write_text(lines(taken(0), taken(1)))
    assert watched.look() == "01"
    file.write_text("")
    assert watched.look() == "01"
    file.unlink()
    assert watched.look() == "01"
    assert [*watched.watch.faults] == ["--revocations"]
    file.write_text(lines(taken(2)))
    assert watched.look() == "012"
    assert not watched.watch.faults


def test_a_file_that_is_half_written_is_told_once_and_changes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "revoked.jsonl"
    file.write_text(lines(taken(0)))
    watched = Watched(tmp_path, Place.at(str(file)))
    file.write_text(lines(taken(0), taken(1))[:-40])
    for _ in range(3):
        assert watched.look() == "0"
    told = capsys.readouterr().err
    assert told.count("cannot be read") == 1
    assert f"{file}: line 2: refused by rule syntax" in told
    assert "r1" not in watched.watch.told()["unreadable"]
    assert watched.watch.told() == {"records": 1, "unreadable": {"revoked.jsonl": f"since {at(0)}"}}
    record = taken(1).model_dump(mode="json", by_alias=True) | {"action": "delete"}
    file.write_text(json.dumps(record) + "\n")
    assert watched.look() == "0"
    told = capsys.readouterr().err
    assert f"{file} line 1: action: " in told
    assert "write 'remove', 'restrict' or 'replace'" in told
    file.write_text(lines(taken(1)))
    assert watched.look() == "01"
    assert "can be read again: revoked.jsonl" in capsys.readouterr().err
    assert watched.watch.told()["unreadable"] == {}


def test_of_a_folder_every_file_counts_and_one_that_is_broken_hides_no_other(tmp_path: Path) -> None:
    folder = tmp_path / "revoked"
    (folder / "deeper").mkdir(parents=True)
    (folder / "notes.txt").write_text("no revocation")
    watched = Watched(tmp_path, Place.at(str(folder)))
    assert out(watched.standing) == ""
    (folder / "a.jsonl").write_text("{")
    (folder / "b.jsonl").write_text(lines(taken(1)))
    (folder / "deeper" / "c.jsonl").write_text(lines(taken(3)))
    assert watched.look() == "13"
    assert [*watched.watch.faults] == ["a.jsonl"]
    (folder / "a.jsonl").unlink()
    assert watched.look() == "13"
    assert not watched.watch.faults


def test_a_revocation_takes_effect_at_its_instant_and_not_before(tmp_path: Path) -> None:
    file = tmp_path / "revoked.jsonl"
    file.write_text(lines(taken(0, effective_at=at(1)), taken(1, effective_at=at(2))))
    watched = Watched(tmp_path, Place.at(str(file)))
    tick = timedelta(microseconds=1)
    instants: list[tuple[datetime, str]] = [
        (NOW, ""),
        (NOW + timedelta(days=1) - tick, ""),
        (NOW + timedelta(days=1), "0"),
        (NOW + timedelta(days=2), "01"),
    ]
    for now, expected in instants:
        watched.now = now
        assert watched.look() == expected
    assert watched.watch.look() is None


def test_a_newer_version_of_the_corpus_brings_its_register(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    assert out(watched.standing) == ""
    watched.publish(taken(2))
    assert watched.look() == "2"
    assert watched.watch.look() is None
    watched.publish(taken(0))
    assert watched.look() == "02"


def test_what_is_taken_out_of_the_index_is_found_no_more_and_still_shown(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    with watched.corpus.writing(purpose="test") as lease:
        head = watched.corpus.head()
        numbered = ids.extend(watched.corpus, head, watched.found.uids)
        version = withdrawn.withdraw(watched.corpus, numbered, ["acme:a1"], "a test")
        watched.corpus.publish(lease, head, version)
    assert watched.look() == ""
    assert watched.standing.withdrawn_N.tolist() == [False, True, False, False]
    everywhere = Grant(uses=SHOWN, territory="worldwide")
    stands = Admission(
        holdings=watched.found.holdings,
        purpose=Purpose(),
        now=lambda: NOW,
        standing=watched.standing,
        own=frozenset({everywhere}),
    )
    admitted = stands.admit(everywhere)
    assert admitted.shown_N.all()
    assert admitted.found_N.tolist() == [True, False, True, True]


def test_a_corpus_that_cannot_be_read_for_a_while_is_told_and_asked_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    watched = Watched(tmp_path)
    watched.publish(taken(2))
    version = tmp_path / "corpus" / "versions" / "000001.json"
    whole = version.read_bytes()
    version.write_bytes(whole[:50])
    assert watched.look() == ""
    assert [*watched.watch.faults] == ["the corpus"]
    assert "cannot be read" in capsys.readouterr().err
    version.write_bytes(whole)
    assert watched.look() == "2"
    assert not watched.watch.faults


def test_nothing_begins_without_what_is_revoked(tmp_path: Path) -> None:
    file = tmp_path / "revoked.jsonl"
    with pytest.raises(ValueError, match=r"there is no .*revoked\.jsonl"):
        Watched(tmp_path, Place.at(str(file)))
    file.write_text("{")
    with pytest.raises(ValueError, match="line 1: refused by rule syntax"):
        Watched(tmp_path, Place.at(str(file)))
    with pytest.raises(ValueError, match="there is no such folder"):
        Place.at(str(tmp_path / "nowhere"))


def test_the_bytes_of_what_is_taken_back_are_followed_from_a_file_too(tmp_path: Path) -> None:
    file = tmp_path / "revoked.jsonl"
    file.write_text("")
    watched = Watched(tmp_path, Place.at(str(file)))
    twin = asset(1, asset_id="twin")
    watched.watch.holdings = held([asset(0), twin], [license_()], gone=[asset(1)]).holdings
    file.write_text(lines(taken(1)))
    assert watched.look() == "1"


@pytest.mark.long
def test_a_place_on_s3_is_watched_as_well(tmp_path: Path, s3: Store) -> None:
    s3.write("a.jsonl", b"")
    watched = Watched(tmp_path, Place.at(s3.uri))
    s3.write("a.jsonl", lines(taken(0)).encode())
    s3.write("b.jsonl", lines(taken(1)).encode())
    assert watched.look() == "01"
    assert watched.watch.look() is None
    one = Watched(tmp_path, Place.at(f"{s3.uri}/b.jsonl"))
    assert out(one.standing) == "1"
    s3.write("b.jsonl", lines(taken(2)).encode())
    assert one.look() == "12"
