"""Downloading a batch: every wanted row ends in its bytes or in a reason, and img2dataset hides neither."""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import fsspec
import pytest

from infra.guarded.https import Limits
from pipeline.deliveries.download import Effort, Wanted, download
from pipeline.deliveries.fetched import Missed
from tests.infra.tls_server import HOST, Route, Site, body, raw, serving

pytestmark = pytest.mark.long

SECRET = "token-that-nobody-may-see"  # noqa: S105  # planted, and looked for
SMALL = Limits(max_bytes=1000)
ONCE = Effort(tries=1, threads=2)
RESIZE = "img2dataset.resizer.Resizer.__call__"


@pytest.fixture(scope="module")
def served() -> Iterator[Site]:
    with serving() as site:
        yield site


@pytest.fixture
def site(served: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Site:
    served.trust(monkeypatch, tmp_path)
    monkeypatch.setenv("NO_ALBUMENTATIONS_UPDATE", "1")  # some tests import it before the code does
    served.asked.clear()
    served.routes = {}
    return served


def wanted(row: int, content: bytes, path: str | None = None) -> Wanted:
    uri = f"https://{HOST}/{row if path is None else path}?Signature={SECRET}"
    return Wanted(row=row, uri=uri, sha256=hashlib.sha256(content).hexdigest())


def outcomes(
    site: Site,
    rows: list[Wanted],
    *,
    effort: Effort = ONCE,
    slept: list[float] | None = None,
) -> dict[int, Any]:
    """Bytes, or (code, whether to try again), by row; no message tells a secret."""
    sleep = (slept if slept is not None else []).append
    found = download(rows, hosts={HOST}, limits=SMALL, network=site.network(), effort=effort, sleep=sleep)
    assert [one.row for one in found] == [one.row for one in rows]
    missed = [one.outcome for one in found if isinstance(one.outcome, Missed)]
    assert not [why.message for why in missed if SECRET in why.message or HOST not in why.message]
    return {
        one.row: one.outcome if isinstance(one.outcome, bytes) else (one.outcome.code, one.outcome.again)
        for one in found
    }


def in_turn(*routes: Route) -> Route:
    """Each answers once, in this order."""
    left = iter(routes)

    def answer(at: BaseHTTPRequestHandler) -> None:
        next(left)(at)

    return answer


def test_rows_come_back_in_their_order_with_the_bytes_that_were_served_undecoded(site: Site) -> None:
    contents = {row: f"no image at all, {row}".encode() for row in (7, 3, 12, 0)}
    site.routes = {f"/{row}": body(content) for row, content in contents.items()}
    assert outcomes(site, [wanted(row, content) for row, content in contents.items()]) == contents
    assert {fields["User-Agent"][:9] for _, fields in site.asked} == {"pardalis/"}


def test_the_same_address_may_be_wanted_twice_and_nothing_may_be_wanted(site: Site) -> None:
    site.routes = {"/same": body(b"a")}
    rows = [wanted(0, b"a", "same"), wanted(1, b"b", "same")]
    assert outcomes(site, rows) == {0: b"a", 1: ("sha256_mismatch", False)}
    assert outcomes(site, []) == {}


def test_one_row_spoils_no_other_and_each_says_its_own_reason(site: Site) -> None:
    site.routes = {
        "/0": body(b"fine"),
        "/1": body(b"changed"),
        "/2": body(b"", 404),
        "/3": body(b"", 302, Location="https://127.0.0.1/"),
        "/4": body(b"", 503),
        "/5": body(b"x" * 1001),
        "/6": body(b"packed", Content_Encoding="gzip"),
        "/7": body(b"not for machines", X_Robots_Tag="noai"),
    }
    rows = [wanted(row, b"fine") for row in range(8)]
    rows += [Wanted(row=8, uri=f"file://{HOST}/etc/passwd", sha256="0" * 64)]
    rows += [Wanted(row=9, uri=f"https://evil.{HOST}/", sha256="0" * 64)]
    rows += [Wanted(row=10, uri=f"{HOST}/0?Signature={SECRET}", sha256="0" * 64)]
    rows += [Wanted(row=11, uri=f" https://{HOST}/0", sha256="0" * 64)]
    assert outcomes(site, rows) == {
        0: b"fine",
        1: ("sha256_mismatch", False),
        2: ("status", False),
        3: ("redirect", False),
        4: ("unreachable", True),
        5: ("size", False),
        6: ("encoding", False),
        7: ("disallowed", False),
        8: ("scheme", False),
        9: ("host", False),
        10: ("scheme", False),
        11: ("scheme", False),
    }


@pytest.mark.parametrize(
    ("tag", "free"),
    [
        ("noai", False),
        ("all, NoImageAI", False),
        ("noindex", False),
        ("noimageindex", False),
        ("none", False),
        ("pardalis: noai", False),
        ("otherbot: noai", True),
        ("nofollow", True),
    ],
)
def test_x_robots_tag_is_heeded_where_it_speaks_to_us(site: Site, tag: str, *, free: bool) -> None:
    site.routes = {"/0": body(b"a", X_Robots_Tag=tag)}
    assert outcomes(site, [wanted(0, b"a")]) == {0: b"a" if free else ("disallowed", False)}


def test_a_machine_inside_is_not_reached_through_a_name_that_is_allowed(site: Site) -> None:
    site.routes = {"/0": body(b"a")}
    network = site.network("169.254.169.254")
    [found] = download([wanted(0, b"a")], hosts={HOST}, network=network)
    assert isinstance(found.outcome, Missed)
    assert (found.outcome.code, found.outcome.again, site.asked) == ("address", False, [])


def test_what_fails_is_tried_again_after_longer_and_longer_pauses_and_the_rest_is_not(site: Site) -> None:
    site.routes = {"/0": body(b"a"), "/1": in_turn(body(b"", 503), body(b"", 429), body(b"b"))}
    site.routes["/2"] = body(b"", 404)
    slept: list[float] = []
    effort = Effort(tries=5, first_wait_s=3.0, threads=2)
    found = outcomes(site, [wanted(0, b"a"), wanted(1, b"b"), wanted(2, b"c")], effort=effort, slept=slept)
    assert found == {0: b"a", 1: b"b", 2: ("status", False)}
    assert slept == [3.0, 6.0]
    assert sorted(path[:2] for path, _ in site.asked) == ["/0", "/1", "/1", "/1", "/2"]


def test_the_tries_are_bounded(site: Site) -> None:
    site.routes = {"/0": body(b"", 503)}
    slept: list[float] = []
    assert outcomes(site, [wanted(0, b"a")], effort=Effort(tries=3), slept=slept) == {
        0: ("unreachable", True)
    }
    assert (len(site.asked), slept) == (3, [1.0, 2.0])


def test_a_batch_ends_where_its_bytes_do(site: Site) -> None:
    site.routes = {f"/{row}": body(b"x" * 500) for row in range(6)}
    effort = Effort(tries=1, threads=1, max_total_bytes=1000)
    found = outcomes(site, [wanted(row, b"x" * 500) for row in range(6)], effort=effort)
    assert found == {0: b"x" * 500, 1: b"x" * 500} | dict.fromkeys(range(2, 6), ("budget", True))
    assert len(site.asked) == 3


@pytest.mark.parametrize(
    ("route", "why"),
    [
        (raw(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 1001), ("size", False)),
        (raw(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", b"x" * 999), ("unreachable", True)),
    ],
)
def test_what_came_of_an_answer_that_was_cut_short_counts_too(
    site: Site, route: Route, why: tuple[str, bool]
) -> None:
    site.routes = {"/0": route, "/1": body(b"a")}
    effort = Effort(tries=1, threads=1, max_total_bytes=1000)
    found = outcomes(site, [wanted(0, b"a"), wanted(1, b"a")], effort=effort)
    assert found == {0: why, 1: ("budget", True)}
    assert len(site.asked) == 1


def test_a_batch_has_room_for_one_answer(site: Site) -> None:
    with pytest.raises(ValueError, match="max_total_bytes is 999, and one answer may have 1000"):
        outcomes(site, [], effort=Effort(max_total_bytes=999))


def test_a_row_that_img2dataset_drops_is_lost_and_tried_again(
    site: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its loop catches whatever happens to a row, prints it, and goes on."""

    def failing(_self: object, stream: io.BytesIO, _boxes: object) -> tuple[object, ...]:
        if stream.getvalue() == b"bad":
            raise MemoryError(SECRET)
        return stream.getvalue(), None, None, None, None, None

    monkeypatch.setattr(RESIZE, failing)
    site.routes = {"/0": body(b"bad"), "/1": body(b"good")}
    rows = [wanted(0, b"bad"), wanted(1, b"good")]
    assert outcomes(site, rows, effort=Effort(tries=2)) == {0: ("lost", True), 1: b"good"}
    assert len(site.asked) == 3
    assert capsys.readouterr() == ("", "")
    [lost, _] = download(rows, hosts={HOST}, network=site.network(), effort=ONCE)
    assert isinstance(lost.outcome, Missed)
    assert "lost it (MemoryError)" in lost.outcome.message


def test_a_shard_that_img2dataset_gives_up_loses_what_it_did_not_tell(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(_self: object, _row: object) -> None:
        raise OSError(SECRET)

    monkeypatch.setattr("img2dataset.downloader.Downloader.download_shard", failing)
    site.routes = {"/0": body(b"a")}
    assert outcomes(site, [wanted(0, b"a")]) == {0: ("lost", True)}


def test_words_that_we_do_not_know_find_nothing(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RESIZE, lambda *_: (b"a", None, None, None, None, "a new complaint"))
    site.routes = {"/0": body(b"a")}
    assert outcomes(site, [wanted(0, b"a")]) == {0: ("lost", True)}


def test_bytes_are_compared_again_after_img2dataset_had_them(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RESIZE, lambda *_: (b"re-encoded", None, None, None, None, None))
    site.routes = {"/0": body(b"a")}
    assert outcomes(site, [wanted(0, b"a")]) == {0: ("sha256_mismatch", False)}


def test_nothing_is_printed_written_or_left_behind(
    site: Site, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    before, kept = set(tmp_path.iterdir()), urllib.request.OpenerDirector()
    urllib.request.install_opener(kept)
    site.routes = {"/0": body(b"a"), "/1": body(b"", 500)}
    outcomes(site, [wanted(0, b"a"), wanted(1, b"b")])
    assert urllib.request._opener is kept  # type: ignore[attr-defined]  # noqa: SLF001  # no public name
    urllib.request.install_opener(None)  # back to what a process starts with
    assert capfd.readouterr() == ("", "")
    assert set(tmp_path.iterdir()) == before
    assert fsspec.filesystem("memory").find("") == []


def test_img2dataset_and_everyone_else_can_open_nothing_meanwhile(site: Site) -> None:
    asked, told = threading.Event(), []

    def waiting(at: BaseHTTPRequestHandler) -> None:
        for address in ("https://example.org/", "file:///etc/passwd", "http://127.0.0.1:1/"):
            with pytest.raises(urllib.error.URLError, match="unknown url type"):
                urllib.request.urlopen(address)  # noqa: S310  # it must fail
            told.append(address)
        asked.set()
        body(b"a")(at)

    site.routes = {"/0": waiting}
    assert outcomes(site, [wanted(0, b"a")]) == {0: b"a"}
    assert asked.is_set()
    assert len(told) == 3


def test_what_img2dataset_leaves_running_can_open_nothing_afterwards(site: Site) -> None:
    site.routes = {"/0": body(b"a")}
    outcomes(site, [wanted(0, b"a")])
    with pytest.raises(urllib.error.URLError, match="unknown url type: guarded"):
        urllib.request.urlopen("guarded:0")  # noqa: S310  # it must fail


def test_two_batches_at_once_take_turns(site: Site) -> None:
    site.routes = {f"/{row}": body(str(row).encode()) for row in range(4)}
    found: dict[int, Any] = {}

    def work(row: int) -> None:
        found.update(outcomes(site, [wanted(row, str(row).encode())]))

    threads = [threading.Thread(target=work, args=(row,)) for row in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {row: str(row).encode() for row in range(4)}


@pytest.mark.slow
def test_starting_img2dataset_asks_nobody_anything() -> None:
    """Its import alone would ask the package index for the newest version of a library."""
    program = """
import sys
from infra.guarded.https import Network
from pipeline.deliveries.download import Wanted, download
seen = []
sys.addaudithook(lambda event, _: seen.append(event))
nobody = Network(resolve=lambda *_: ())
[found] = download([Wanted(row=0, uri="https://a.example/", sha256="")], hosts={"a.example"}, network=nobody,
                   sleep=lambda _: None)
assert found.outcome.code == "unreachable", found
assert "img2dataset.downloader" in sys.modules
assert not {"socket.connect", "socket.getaddrinfo", "socket.sendto"}.intersection(seen)
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=100)
