"""Laws of the search on Ray Serve, asked over HTTP as ``pardalis index serve`` runs it."""

from __future__ import annotations

import base64
import json
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import psutil
import pytest

from infra.cli import run
from infra.corpus import Corpus
from infra.storage import Store, cache_folder
from pipeline.contract import Revocation, template
from pipeline.folding import REVOCATIONS

from .conftest import TINY, Deliveries, drawing, license_, sample
from .served import Process, begun

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]
PLAIN, SELLER, ABROAD = "plain-token-0123456789", "seller-token-0123456789", "abroad-token-0123456789"
USES = dict.fromkeys(("ml_training", "generation", "retrieval_index", "retrieval_display"), "allow")
LICENSES = {
    "world": license_(license_id="world", uses=USES),
    "de": license_(license_id="de", uses=USES, territory={"mode": "only", "countries": ["DE", "FR"]}),
    "sold": license_(license_id="sold", uses={**USES, "commercial": "allow"}),
    "hidden": license_(license_id="hidden", uses={**USES, "retrieval_display": "deny"}),
    "unfound": license_(license_id="unfound", uses={**USES, "retrieval_index": "deny"}),
}
NUM = 30
PURPOSE = ("--set", 'pipeline.purpose.territory = ["DE"]')
SHOWN = {
    PLAIN: {"world", "de", "sold", "unfound"},
    SELLER: {"sold"},
    ABROAD: {"world", "sold", "unfound"},
}
"""Licences by token: the first asks in Germany, the second to sell there, the third everywhere."""
TAKES_EFFECT_S = 1.0
TWO_SEGMENTS = """
[retrieval.index]
kind = "flat"
memory_mib = 0.02
"""
"""Of 12 vectors each: 24 may be found, and take 1,544 bytes."""


def name_of(number: int) -> str:
    return [*LICENSES][number % len(LICENSES)]


def uid_of(number: int) -> str:
    return f"acme:a{number:04d}"


def uids_of(licenses: set[str]) -> set[str]:
    return {uid_of(number) for number in range(NUM) if name_of(number) in licenses}


@dataclass(frozen=True, slots=True, kw_only=True)
class Searching:
    process: Process
    client: httpx.Client
    corpus: str
    revocations: Path

    def get(self, path: str, token: str = PLAIN) -> httpx.Response:
        return self.client.get(self.process.url + path, headers=bearer(token))

    def post(self, asked: dict[str, Any], token: str = PLAIN) -> httpx.Response:
        return self.client.post(f"{self.process.url}/search", json=asked, headers=bearer(token))

    def uids(self, asked: dict[str, Any], token: str = PLAIN) -> list[str]:
        answer = self.post({"k": 200, **asked}, token)
        assert answer.status_code == 200, answer.text
        return [one["uid"] for one in answer.json()["results"]]

    def revoke(self, name: str, **changes: Any) -> None:
        """One line more, as somebody would append it."""
        with self.revocations.open("a") as file:
            file.write(revocation(name, **changes).model_dump_json(by_alias=True) + "\n")


def revocation(name: str, **changes: Any) -> Revocation:
    return Revocation.model_validate(template()["revocation"] | {"revocation_id": name} | changes)


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("search")
    (folder / "tiny.toml").write_text(TINY + TWO_SEGMENTS)
    samples = [
        sample(
            number,
            license_ids=[name_of(number)],
            contributor={"id": f"c{number}"},
            categories=[{"name": f"k{number % 2}"}],
        )
        for number in range(NUM)
    ]
    uri = Deliveries(folder).write(samples, LICENSES)
    words = ["--corpus", str(folder / "corpus"), "--config", str(folder / "tiny.toml"), *PURPOSE]
    assert run(["ingest", uri, "--as-of", "2026-06-01T00:00:00Z", "--engine", "inline", *words]) == 0
    assert run(["build", "--engine", "inline", *words]) == 0
    return str(folder / "corpus")


@pytest.fixture(scope="module")
def running(corpus: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Searching]:
    folder = tmp_path_factory.mktemp("keys")
    (folder / "tokens").write_text(f"{PLAIN}\n{SELLER} uses=commercial\n{ABROAD} territory=worldwide\n")
    (folder / "revoked.jsonl").write_text("")
    words = ["index", "serve", "--corpus", corpus, "--token-file", str(folder / "tokens")]
    # Two replicas: what one was told, such as which ids may answer, the other does not know.
    words += ["--revocations", str(folder / "revoked.jsonl"), "--rate", "100000", "--replicas", "2"]
    # The weights that a first use would make again.
    kept = {"XDG_CACHE_HOME": str(cache_folder().parent)}
    with begun(words, kept) as process, httpx.Client(timeout=60) as client:
        yield Searching(process=process, client=client, corpus=corpus, revocations=folder / "revoked.jsonl")


@pytest.mark.slow
def test_an_index_in_shards_answers_as_it_does_whole(running: Searching) -> None:
    words = ["index", "serve", "--corpus", running.corpus, "--open", "--rate", "100000", "--shards", "2"]
    image = base64.b64encode(drawing(3)[1]).decode()
    asked: list[dict[str, Any]] = [
        {"text": "a red circle"},
        {"image": image, "text": "red", "weights": {"text": -0.5}, "k": 5},
        *({"uid": uid_of(number), "text": "blue", "k": 7} for number in (0, 1, 26, 27)),
        {"text": "a", "where": {"category": ["k1"]}},
    ]
    kept = {"XDG_CACHE_HOME": str(cache_folder().parent)}
    with begun(words, kept) as process, httpx.Client(timeout=60) as client:
        for one in asked:
            found = client.post(f"{process.url}/search", json=one).json()
            assert found["results"] == running.post(one).json()["results"], one


@pytest.mark.parametrize("token", [*SHOWN], ids=["plain", "seller", "abroad"])
def test_what_a_caller_may_not_see_comes_back_from_no_route(running: Searching, token: str) -> None:
    shown, everything = uids_of(SHOWN[token]), uids_of({*LICENSES})
    found = uids_of(SHOWN[token] - {"unfound"})
    assert {*running.uids({"text": "a red circle"}, token)} == found
    image = base64.b64encode(drawing(3)[1]).decode()
    assert {*running.uids({"image": image, "text": "red", "weights": {"text": -0.5}}, token)} == found
    told = running.get("/facts", token).json()
    assert (told["assets"], told["shown"]) == (NUM, len(shown))
    assert {one["value"] for one in told["facets"]["license"]} == SHOWN[token]
    for uid in everything:
        status = 200 if uid in shown else 404
        for route in ("assets", "thumbnails", "images", "neighbors"):
            answer = running.get(f"/{route}/{quote(uid, safe='')}", token)
            assert answer.status_code == status, (uid, route)
            if route in ("assets", "neighbors"):
                # The uid that was asked for is repeated to whoever asked.
                assert not [other for other in everything - shown - {uid} if other in answer.text]
        asked = running.post({"uid": uid}, token)
        assert asked.status_code == (200 if uid in found else 422 if uid in shown else 404)
        assert not [other for other in everything - shown - {uid} if other in asked.text]


def test_a_query_narrows_its_token_and_never_widens_it(running: Searching) -> None:
    sold = {"text": "red", "where": {"uses": ["commercial"]}}
    assert {*running.uids(sold)} == uids_of({"sold"})
    germany = {"text": "red", "where": {"territory": ["DE"]}}
    assert {*running.uids(germany, ABROAD)} == uids_of({"world", "de", "sold"})
    answer = running.post({"text": "red", "where": {"territory": ["US"]}})
    assert answer.status_code == 403
    assert {*answer.json()} == {"error", "value", "fix"}
    assert {*running.uids({"text": "red", "where": {"license": ["de"]}}, ABROAD)} == set()


def test_the_service_answers_as_the_command_does(
    running: Searching, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    words = ["index", "query", "--corpus", running.corpus, "--text", "a blue square", "-k", "5", "--json"]
    assert run(words) == 0
    expected = json.loads(capsys.readouterr().out)
    answer = running.post({"text": "a blue square", "k": 5}).json()["results"]
    assert [(one["uid"], one["score"]) for one in answer] == [
        (one["uid"], pytest.approx(one["score"], abs=2e-4)) for one in expected
    ]


@dataclass(slots=True)
class Load:
    """Callers that ask without a pause, and what each answer of them held."""

    running: Searching
    target: str
    seconds: float
    late: list[float] = field(default_factory=list)
    """When answers with the target came, seconds after it was revoked."""
    before: int = 0
    """Answers with it that came before."""
    answers: int = 0
    statuses: set[int] = field(default_factory=set)
    revoked: float | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def caller(self, number: int) -> None:
        until = time.monotonic() + self.seconds
        asked: list[dict[str, Any]] = [
            {"text": f"a {color} circle", "k": 200} for color in ("red", "green", "blue")
        ]
        with httpx.Client(headers=bearer(PLAIN), timeout=60) as client:
            while time.monotonic() < until:
                if number % 3 == 2:
                    path = f"/assets/{quote(self.target, safe='')}"
                    answer = client.get(self.running.process.url + path)
                    held = answer.status_code == 200
                else:
                    answer = client.post(f"{self.running.process.url}/search", json=asked[number % 3])
                    held = self.target in answer.text
                self._saw(answer.status_code, held=held)

    def _saw(self, status: int, *, held: bool) -> None:
        with self._lock:
            self.answers += 1
            self.statuses.add(status)
            if held and self.revoked is None:
                self.before += 1
            elif held and self.revoked is not None:
                self.late.append(time.monotonic() - self.revoked)

    def go(self, revoke: Any) -> None:
        with ThreadPoolExecutor(6) as callers:
            waiting = [callers.submit(self.caller, number) for number in range(6)]
            time.sleep(self.seconds / 3)
            self.revoked = time.monotonic()
            revoke()
            for one in waiting:
                one.result()


def checked(load: Load) -> None:
    assert load.statuses <= {200, 404}
    assert load.before > 10
    assert load.answers > 2 * load.before
    assert max(load.late, default=0) < TAKES_EFFECT_S, load.late
    assert load.target not in load.running.uids({"text": "red"})


def test_a_revocation_that_is_loaded_among_queries_takes_effect_within_a_second(running: Searching) -> None:
    target = uid_of(5)
    load = Load(running, target, seconds=6)
    load.go(lambda: running.revoke("among", targets=[target]))
    checked(load)
    assert running.process.metric("pardalis_revoked_assets") == 1


def test_a_file_that_is_broken_is_told_and_serving_goes_on(running: Searching) -> None:
    whole = running.revocations.read_text()
    record = json.loads(revocation("broken", targets=["a0010"]).model_dump_json(by_alias=True))
    running.revocations.write_text(whole + json.dumps(record | {"action": "delete"}) + "\n")
    until = time.monotonic() + 10
    while not running.process.metric("pardalis_revocations_errors"):
        assert time.monotonic() < until
        time.sleep(0.1)
    health = running.get("/healthz")
    assert health.status_code == 200
    assert health.json()["revocations"]["unreadable"]["revoked.jsonl"].startswith("since 20")
    assert "line 2: action: " in running.process.err()
    found = running.uids({"text": "red"})
    assert uid_of(10) in found
    assert uid_of(5) not in found
    running.revocations.write_text(json.dumps(record) + "\n")
    while running.process.metric("pardalis_revocations_errors"):
        assert time.monotonic() < until
        time.sleep(0.1)
    found = running.uids({"text": "red"})
    assert {uid_of(5), uid_of(10)}.isdisjoint(found)


def test_a_newer_version_of_the_corpus_brings_its_revocations(running: Searching) -> None:
    opened = Corpus(Store.at(running.corpus))
    taken = revocation("register", target_type="contributor", targets=["c11"])
    with opened.writing(purpose="test") as lease:
        head = opened.head()
        version = opened.append(head, REVOCATIONS, (taken.model_dump_json(by_alias=True) + "\n").encode())
        opened.publish(lease, head, version)
    time.sleep(TAKES_EFFECT_S)
    assert uid_of(11) not in running.uids({"text": "red"})
    assert running.get(f"/images/{quote(uid_of(11), safe='')}").status_code == 404


@pytest.mark.slow
def test_under_a_long_load_what_is_revoked_never_comes_back(running: Searching) -> None:
    target = uid_of(15)
    load = Load(running, target, seconds=45)
    load.go(lambda: running.revoke("long", target_type="contributor", targets=["c15"]))
    checked(load)


def test_no_process_but_the_first_knows_a_token_and_the_end_answers_those_inside(running: Searching) -> None:
    """The last of this module."""
    children = psutil.Process(running.process.process.pid).children(recursive=True)
    assert children
    assert not [one.pid for one in children if PLAIN in str(one.environ()) + str(one.cmdline())]
    with ThreadPoolExecutor(8) as callers:
        waiting = [callers.submit(running.post, {"text": f"picture {number}"}) for number in range(8)]
        time.sleep(0.05)
        running.process.process.send_signal(signal.SIGTERM)
        statuses = {status(one) for one in waiting}
    assert statuses <= {200, 503}
    assert running.process.process.wait(60) == 0, running.process.err()
    logs = [path for path in running.process.folder.rglob("*") if path.is_file()]
    assert any(path.suffix == ".log" for path in logs)
    assert not [path for path in logs if PLAIN.encode() in path.read_bytes()]


def status(answer: Future[httpx.Response]) -> int:
    try:
        return answer.result().status_code
    except httpx.TransportError:  # it was not inside when the signal came, and nobody listens any more
        return 503
