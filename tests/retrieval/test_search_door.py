"""The search's door: what each route tells whom, and that what is revoked in flight is in no answer."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Iterator
from datetime import date
from typing import Any

import pyarrow as pa
import pytest
from fastapi.openapi.models import OpenAPI
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families

from infra.countries import COUNTRIES
from infra.serving.callers import Tokens, digest
from retrieval import page
from retrieval.serving.admission import Admitted, Grant
from retrieval.serving.desk import Desk
from retrieval.serving.door import Door
from retrieval.serving.results import ARROW

from .searched import (
    JSON,
    SHAPE,
    Here,
    ask,
    catalogue,
    direction,
    door,
    everything,
    in_base64,
    jpeg,
    member,
    search,
    searcher,
    vectors,
)

NUM = 12
TOKEN, OTHER = "canary-of-the-search-0123", "another-of-the-search-0123"  # made up
MEMBERS = catalogue(
    [
        member(number, group=f"acme:{number // 2 * 2}", date=date(2026, 1, 1 + number), width=3 + number % 3)
        for number in range(NUM)
    ]
)


@pytest.fixture(scope="module")
def desk() -> Iterator[Desk]:
    found = asyncio.run(Desk.ready(lambda _: searcher(MEMBERS.ids_N, vectors(NUM)), SHAPE))
    yield found
    found.close()


@pytest.fixture
def hidden() -> set[str]:
    return set()


@pytest.fixture
def app(desk: Desk, hidden: set[str]) -> Door:
    return door(desk, MEMBERS, everything(MEMBERS, hidden=lambda: hidden))


def uids(found: dict[str, Any]) -> list[str]:
    return [one["uid"] for one in found["results"]]


def test_an_answer_has_the_fields_of_the_interface_best_first(app: Door) -> None:
    found = search(app, text="a", k=5)
    assert (found["eligible"], found["version"], len(found["results"])) == (NUM, 7, 5)
    assert found["took_ms"] >= 0
    scores = [one["score"] for one in found["results"]]
    assert scores == sorted(scores, reverse=True)
    first = found["results"][0]
    number = int(first["uid"].partition(":")[2])
    assert first == {
        "uid": f"acme:{number}",
        "score": first["score"],
        "description": f"picture {number}",
        "keywords": ["red"],
        "categories": [],
        "contributor": "c",
        "licenses": ["L-1"],
        "attribution": f"by acme:{number}",
        "width": 3 + number % 3,
        "height": 3,
        "orientation": "square" if number % 3 == 0 else "landscape",
        "image_type": "photo",
        "ai_generated": "no",
        "date": f"2026-01-{1 + number:02}",
    }


def test_arrow_tells_the_same_as_json(app: Door) -> None:
    expected = search(app, text="a", k=5)
    answer = ask(app, "POST", "/search", json={"text": "a", "k": 5}, headers={"Accept": ARROW})
    assert answer.headers["content-type"] == ARROW
    table = pa.ipc.open_stream(answer.content).read_all()
    assert table["uid"].to_pylist() == uids(expected)
    assert table["score"].to_pylist() == pytest.approx(
        [one["score"] for one in expected["results"]], abs=1e-4
    )
    assert table["date"].to_pylist() == [date.fromisoformat(one["date"]) for one in expected["results"]]
    assert set(table.column_names) == {*expected["results"][0]}
    assert {name: table.schema.metadata[name.encode()] for name in ("eligible", "version")} == {
        "eligible": b"12",
        "version": b"7",
    }


def test_what_is_like_an_asset_is_neither_it_nor_its_duplicates(app: Door) -> None:
    found = search(app, uid="acme:4", k=200)
    assert found["eligible"] == NUM - 2
    assert {*uids(found)} == {f"acme:{number}" for number in range(NUM)} - {"acme:4", "acme:5"}


def test_words_a_picture_a_vector_and_an_asset_are_mixed(app: Door, desk: Desk) -> None:
    image = in_base64(jpeg((250, 10, 10)))
    vector = direction("v").tolist()
    asked = {"text": "a", "image": image, "vector": vector, "uid": "acme:4"}
    found = search(app, **asked, weights={"text": 1.0, "image": 0.5, "vector": -0.3, "uid": 2}, k=200)
    assert found["eligible"] == NUM - 2
    alone = search(app, **asked, weights={"text": 1.0, "image": 0, "vector": 0, "uid": 0}, k=200)
    assert [one["score"] for one in alone["results"]] == [
        one["score"] for one in search(app, text="a", k=200)["results"] if one["uid"] in uids(alone)
    ]


def test_parts_that_cancel_out_and_pictures_that_are_none_are_refused(app: Door) -> None:
    vector = direction("v").tolist()
    same = {"vector": vector, "text": "v", "weights": {"vector": -1.0}}
    assert ask(app, "POST", "/search", json=same).status_code == 422
    for file, status in (
        (b"GIF89a", 415),
        (jpeg((1, 1, 1))[:200], 422),
        (jpeg((1, 1, 1), size=(7, 40)), 422),
    ):
        answer = ask(app, "POST", "/search", json={"image": in_base64(file)})
        assert answer.status_code == status, answer.text
        assert set(answer.json()) == {"error", "value", "fix"}


def test_filters_narrow_and_what_matches_nothing_is_an_empty_answer(app: Door) -> None:
    found = search(app, text="a", where={"since": "2026-01-03", "until": "2026-01-05"}, k=200)
    assert {*uids(found)} == {"acme:2", "acme:3", "acme:4"}
    nothing = search(app, text="a", where={"contributor": ["nobody"]})
    assert (nothing["results"], nothing["eligible"]) == ([], 0)


ROUTES = ["/assets/{}", "/thumbnails/{}", "/images/{}", "/neighbors/{}"]


@pytest.mark.parametrize("route", ROUTES)
def test_unknown_revoked_and_not_for_this_caller_are_not_told_apart(
    app: Door, hidden: set[str], route: str
) -> None:
    assert ask(app, "GET", route.format("acme%3A3")).status_code == 200
    hidden.add("acme:3")
    gone, unknown = (ask(app, "GET", route.format(uid)) for uid in ("acme%3A3", "acme%3Anobody"))
    assert gone.status_code == unknown.status_code == 404
    assert gone.text.replace("acme:3", "X") == unknown.text.replace("acme:nobody", "X")
    assert gone.headers.keys() == unknown.headers.keys()
    for uid in ("acme:3", "acme:nobody"):
        assert ask(app, "POST", "/search", json={"uid": uid}).status_code == 404


def test_what_is_revoked_in_flight_is_in_no_answer(app: Door, hidden: set[str]) -> None:
    assert "acme:3" in uids(search(app, text="a", k=200))
    assert isinstance(app.searching, Here)
    app.searching.before = lambda: hidden.add("acme:3")
    found = search(app, text="a", k=200)
    assert (found["eligible"], len(found["results"])) == (NUM, NUM - 1)
    assert "acme:3" not in uids(found)
    assert "acme:3" not in ask(app, "GET", "/neighbors/acme%3A1").text


@pytest.mark.parametrize("route", ["/thumbnails/acme%3A3", "/images/acme%3A3"])
def test_a_picture_that_is_revoked_while_it_is_read_is_not_sent(
    app: Door, hidden: set[str], route: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(_self: object, _row: int) -> bytes:
        hidden.add("acme:3")
        return jpeg((1, 2, 3))

    monkeypatch.setattr(type(app.shelf), "image", read)
    assert ask(app, "GET", route).status_code == 404


def test_a_thumbnail_is_a_small_jpeg_and_the_image_is_as_it_is_stored(app: Door) -> None:
    small, whole = (ask(app, "GET", f"/{kind}/acme%3A3") for kind in ("thumbnails", "images"))
    assert Image.open(io.BytesIO(small.content)).size == (320, 240)
    assert whole.content == app.shelf.image(3)
    for answer in (small, whole):
        assert answer.headers["content-type"] == "image/jpeg"
        assert answer.headers["cache-control"] == "no-store"


def test_of_a_candidate_that_is_not_shown_nothing_is_told_but_that_there_is_one(
    app: Door, hidden: set[str]
) -> None:
    hidden.add("acme:4")
    told = ask(app, "GET", "/neighbors/acme%3A3").json()
    assert told["target"]["uid"] == "acme:3"
    assert told["split"] == "train"
    first, second = told["candidates"]
    assert first == {"score": 0.5, "via": "image", "shown": False}
    assert (second["uid"], second["shown"], second["description"]) == ("acme:5", True, "picture 5")
    assert ask(app, "GET", "/neighbors/acme%3A0").status_code == 404


def test_one_asset_is_told_with_its_reasons_and_without_a_score(app: Door) -> None:
    told = ask(app, "GET", "/assets/acme%3A3").json()
    assert (told["uid"], told["reasons"], "score" in told) == ("acme:3", [], False)


def test_the_facts_are_those_of_the_interface(app: Door, hidden: set[str]) -> None:
    hidden.add("acme:0")
    told = ask(app, "GET", "/facts").json()
    facets = told.pop("facets")
    assert told == {
        "corpus": "a corpus",
        "version": 7,
        "assets": NUM,
        "shown": NUM - 1,
        "encoder": {"name": "hashing", "is_clip": False, "fingerprint": "f" * 64},
        "open": True,
        "uses": ["retrieval_display"],
        "territory": "worldwide",
        "narrower": {"uses": ["commercial"], "territory": sorted(COUNTRIES)},
        "max_k": 200,
        "max_image_bytes": 16 << 20,
        "facets_left_out": {},
        "dates": {"first": "2026-01-02", "last": "2026-01-12"},
        "examples": True,
    }
    assert {*facets} == {"license", "category", "contributor", "image_type", "orientation"}
    assert facets["contributor"] == [{"value": "c", "count": NUM - 1}]


def test_what_a_search_found_for_one_place_is_shown_for_that_place(desk: Desk) -> None:
    def admit(grant: Grant) -> Admitted:
        """``acme:3`` is licensed for Germany alone."""
        here = grant.territory == frozenset({"DE"})
        return everything(MEMBERS, hidden=lambda: set() if here else {"acme:3"})(grant)

    app = door(desk, MEMBERS, admit)
    assert "acme:3" in uids(search(app, text="a", k=NUM, where={"territory": ["DE"]}))
    assert "acme:3" not in uids(search(app, text="a", k=NUM))
    for route in ROUTES:
        path = route.format("acme%3A3")
        told = {ask(app, "GET", path + asked).status_code for asked in ("", "?territory=DE&territory=FR")}
        assert told == {404}
        assert ask(app, "GET", f"{path}?territory=DE").status_code == 200
    shown = [ask(app, "GET", f"/facts{asked}").json() for asked in ("", "?territory=DE&uses=commercial")]
    assert [one["shown"] for one in shown] == [NUM - 1, NUM]
    assert [one["territory"] for one in shown] == ["worldwide", ["DE"]]
    assert [one["uses"] for one in shown] == [["retrieval_display"], ["commercial", "retrieval_display"]]
    assert shown[0]["narrower"] == shown[1]["narrower"]


@pytest.mark.parametrize(
    ("asked", "status", "told"),
    [
        ("territory=ES", 403, "the token is for other places"),
        ("territory=Germany", 422, "territory"),
        ("uses=resale", 422, "uses"),
        ("purpose=commercial", 422, "nobody knows"),
    ],
)
def test_an_address_narrows_no_more_than_a_search(desk: Desk, asked: str, status: int, told: str) -> None:
    grant = Grant(uses=frozenset({"retrieval_display"}), territory=frozenset({"DE", "FR"}))
    app = door(desk, MEMBERS, everything(MEMBERS), grants=lambda _caller: grant)
    answer = ask(app, "GET", f"/thumbnails/acme%3A3?{asked}")
    assert (answer.status_code, told in answer.json()["error"]) == (status, True)


def test_the_page_needs_no_token_and_comes_with_its_policy(desk: Desk) -> None:
    tokens = Tokens.of(TOKEN, source="the test")
    app = door(desk, MEMBERS, everything(MEMBERS), callers=tokens)
    index = ask(app, "GET", "/")
    assert index.content == page.read(page.INDEX)
    assert "default-src 'none'" in index.headers["content-security-policy"]
    for name, kind in page.FILES.items():
        answer = ask(app, "GET", f"/web/{name}")
        assert (answer.status_code, answer.headers["content-type"]) == (200, kind)
        assert answer.headers.get_list("cache-control") == [page.HEADERS["Cache-Control"]]
    for path in ("/web/../page.py", "/web/none.js", "/web/%2e%2e/page.py", "/retrieval/page.py"):
        assert ask(app, "GET", path).status_code == 404


@pytest.mark.parametrize("path", ["/facts", *(route.format("acme%3A3") for route in ROUTES)])
def test_nobody_is_told_anything_without_a_token(desk: Desk, path: str) -> None:
    app = door(desk, MEMBERS, everything(MEMBERS), callers=Tokens.of(TOKEN, source="the test"))
    assert ask(app, "GET", path).status_code == 401
    assert ask(app, "POST", "/search", json={"text": "a"}).status_code == 401
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    assert ask(app, "GET", path, headers=bearer).status_code == 200
    assert ask(app, "POST", "/search", json={"text": "a"}, headers=bearer).status_code == 200


def test_a_query_narrows_what_its_token_is_for_and_never_widens_it(desk: Desk) -> None:
    grants = {
        digest(TOKEN): Grant(uses=frozenset({"retrieval_display"}), territory=frozenset({"DE", "FR"})),
        digest(OTHER): Grant(uses=frozenset({"retrieval_display"}), territory="worldwide"),
    }
    asked: list[Grant] = []
    shown = everything(MEMBERS)

    def admit(grant: Grant) -> Any:
        asked.append(grant)
        return shown(grant)

    callers = Tokens.of(f"{TOKEN}\n{OTHER}", source="the test")
    app = door(desk, MEMBERS, admit, callers=callers, grants=grants.__getitem__)

    def status(token: str, **where: list[str]) -> int:
        headers = {"Authorization": f"Bearer {token}"}
        return ask(app, "POST", "/search", json={"text": "a", "where": where}, headers=headers).status_code

    assert status(TOKEN, territory=["DE"], uses=["commercial"]) == 200
    both = frozenset({"retrieval_display", "commercial"})
    assert asked[-1] == Grant(uses=both, territory=frozenset({"DE"}))
    assert status(TOKEN) == 200
    assert asked[-1] == grants[digest(TOKEN)]
    del asked[:]
    assert status(TOKEN, territory=["DE", "US"]) == 403
    assert not asked
    assert status(OTHER, territory=["US"]) == 200
    assert asked[-1].territory == frozenset({"US"})


def test_the_metrics_count_what_was_eligible_returned_and_withheld(app: Door, hidden: set[str]) -> None:
    search(app, text="a", k=5)
    assert isinstance(app.searching, Here)
    app.searching.before = lambda: hidden.add("acme:3")
    search(app, text="a", k=200)
    text = ask(app, "GET", "/metrics").text
    found = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert found["pardalis_requests_total", "/search", "200"] == 2
    assert found["pardalis_request_seconds_count", "/search"] == 2
    assert found["pardalis_batch_queries_sum",] == 2
    assert found["pardalis_eligible_assets_sum",] == 2 * NUM
    assert found["pardalis_returned_assets_sum",] == 5 + NUM - 1
    assert found["pardalis_withheld_assets_total",] == 1
    assert found["pardalis_corpus_version",] == 7


def test_routes_are_counted_by_their_names_and_not_by_what_callers_write(app: Door) -> None:
    for path in ("/assets/acme%3A1", "/assets/acme%3A2", "/no/such"):
        ask(app, "GET", path)
    text = ask(app, "GET", "/metrics").text
    assert 'pardalis_requests_total{route="/assets/{uid}",status="200"} 2.0' in text
    assert 'pardalis_requests_total{route="other",status="404"} 1.0' in text
    assert "acme" not in text


def test_other_bodies_and_methods_are_refused(app: Door) -> None:
    assert ask(app, "GET", "/search").status_code == 405
    assert ask(app, "POST", "/facts").status_code == 405
    assert (
        ask(app, "POST", "/search", content=b"{}", headers={"Content-Type": "text/plain"}).status_code == 415
    )
    assert ask(app, "POST", "/search", content=b"{", headers=JSON).status_code == 422
    head = {**JSON, "Content-Length": str(app.max_body + 1)}
    assert ask(app, "POST", "/search", content=b"x", headers=head).status_code == 413


def test_the_description_is_openapi_and_its_example_is_answered(app: Door) -> None:
    told = ask(app, "GET", "/openapi.json").json()
    OpenAPI.model_validate(told)
    known = set(told["paths"])
    assert known == {*app._routes} - {"/", "/web/{name}"}  # noqa: SLF001  # all but the page
    example = told["paths"]["/search"]["post"]["requestBody"]["content"]["application/json"]["example"]
    found = search(app, **example)
    schema = told["components"]["schemas"]
    assert {*found} == {*schema["Answer"]["properties"]}
    assert {*found["results"][0]} == {*schema["Result"]["properties"]}
    assert {*ask(app, "GET", "/assets/acme%3A1").json()} == {*schema["Asset"]["properties"]}
