"""Laws of searching on the page in Chromium, against the service that ``pardalis index serve`` starts."""

from __future__ import annotations

import base64
import re

import pytest
from playwright.sync_api import Page, Route, expect

from tests.laws.conftest import drawing

from .acting import GIVE, focused, give, search, tiles, told, uid
from .conftest import NUM_PICTURES

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]
REFUSED = {"error": "no replica answers", "value": "<b>busy</b>", "fix": "ask again in a second"}


def test_a_search_by_words_is_narrowed_by_a_filter_and_told_in_the_address(page: Page, url: str) -> None:
    search(page, url, "a red circle")
    expect(told(page)).to_have_text(re.compile(r"^\d+ results for “a red circle”$"))
    for part in (".caption", ".score", ".from"):
        expect(tiles(page).first.locator(part)).not_to_be_empty()
    expect(tiles(page).first.locator("img.shown")).to_have_attribute("alt", re.compile("^a .*, number"))
    before = tiles(page).count()
    page.get_by_role("checkbox", name=re.compile("^toys")).check()
    expect(told(page)).to_contain_text("narrowed by 1 filter")
    assert 0 < tiles(page).count() < before
    assert page.url == f"{url}/?text=a+red+circle&category=toys"
    page.get_by_role("button", name="Remove the filter toys").click()
    expect(tiles(page)).to_have_count(before)
    assert page.url == f"{url}/?text=a+red+circle"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["drop", "paste"])
def test_a_picture_that_is_dropped_or_pasted_is_searched_by_as_it_is(page: Page, url: str, kind: str) -> None:
    _, picture = drawing(7)
    page.goto(url)
    expect(page.locator("#start")).to_be_visible()
    give(page, picture, kind)
    expect(told(page)).to_contain_text("results like a picture of yours")
    asked = {"image": base64.b64encode(picture).decode(), "k": 60}
    found = page.request.post(f"{url}/search", data=asked).json()["results"]
    captions = [one["description"] for one in found]
    assert tiles(page).locator(".caption").all_inner_texts() == captions
    assert page.url == f"{url}/"
    expect(page.locator("#given img")).to_have_js_property("complete", value=True)


@pytest.mark.slow
def test_words_beside_a_picture_weigh_as_much_as_the_slider_says(page: Page, url: str) -> None:
    page.goto(url)
    give(page, drawing(7)[1], "drop")
    expect(told(page)).to_contain_text("a picture of yours")
    with page.expect_request("**/search") as both:
        page.fill("#text", "but green")
        page.press("#text", "Enter")
    assert both.value.post_data_json["weights"] == {"image": 1, "text": 1}
    with page.expect_request("**/search") as less:
        page.get_by_label("Weight").press("ArrowLeft")
        page.get_by_label("Weight").press("ArrowLeft")
    expect(page.get_by_label("Weight")).to_have_attribute("aria-valuetext", "picture 1, words 0.6")
    assert less.value.post_data_json["weights"]["text"] < 1
    page.get_by_role("button", name="Take the picture out").click()
    expect(told(page)).to_have_text(re.compile("results for “but green”$"))
    page.go_back()
    expect(told(page)).to_contain_text("for “but green” and like a picture of yours")


@pytest.mark.slow
def test_a_file_that_the_service_would_refuse_is_never_sent(page: Page, url: str) -> None:
    page.goto(url)
    expect(page.locator("#start")).to_be_visible()
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.post_data or ""))
    give(page, b"GIF89a", "drop", "image/gif")
    expect(page.locator("#unfit")).to_contain_text("JPEG, PNG or WebP")
    page.evaluate(GIVE.replace("[bytes]", "[new Uint8Array(17e6)]"), ["", "image/png", "drop"])
    expect(page.locator("#unfit")).to_contain_text("17.0 MB, over the")
    assert not [body for body in sent if "image" in body]


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 1281, 1283, 1366, 913, 390])
def test_rows_fill_the_width_whatever_fraction_of_a_pixel_it_ends_at(
    page: Page, url: str, width: int
) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    search(page, url, "a red circle")
    ends = """() => {
      const right = document.getElementById("grid").getBoundingClientRect().right;
      const boxes = [...document.querySelectorAll("#grid > li")].map((one) => one.getBoundingClientRect());
      return boxes.filter((box, place) => boxes[place + 1]?.top > box.top).map((box) => right - box.right);
    }"""
    found = page.evaluate(ends)
    assert found
    assert all(0 <= spare < 1.01 for spare in found), found


@pytest.mark.slow
def test_an_empty_result_says_what_to_loosen(page: Page, url: str) -> None:
    page.goto(f"{url}/?text=a+red+circle&category=toys&orientation=portrait&since=2025-06-01")
    expect(page.get_by_text("Nothing like that may be shown to you here.")).to_be_visible()
    expect(told(page)).to_contain_text("0 results for “a red circle”, narrowed by 3 filters")
    page.get_by_role("button", name="Without “Portrait”").click()
    expect(tiles(page).first).to_be_visible()
    assert page.url == f"{url}/?text=a+red+circle&since=2025-06-01&category=toys"


@pytest.mark.slow
def test_a_contributor_is_found_by_a_part_of_the_name_or_by_all_of_a_rare_one(page: Page, url: str) -> None:
    def many(route: Route) -> None:
        facts = route.fetch().json()
        others = [{"value": f"agency-{number}", "count": 9} for number in range(20)]
        known = [one for one in facts["facets"]["contributor"] if one["value"] != "c-4"]
        facts["facets"]["contributor"] = others + known
        route.fulfill(json={**facts, "facets_left_out": {"contributor": 812}})

    page.route("**/facts", many)
    search(page, url, "a red circle")
    contributors = page.get_by_role("group", name="Contributor")
    expect(contributors.get_by_role("checkbox")).to_have_count(6)
    find = contributors.get_by_role("searchbox", name="Find a contributor")
    find.fill("C-3")
    expect(contributors.get_by_role("checkbox")).to_have_count(1)
    find.press("Enter")
    expect(page).to_have_url(re.compile("contributor=c-3$"))
    find.fill("c-4")
    expect(contributors.get_by_role("status")).to_contain_text("812 more")
    find.press("Enter")
    expect(page).to_have_url(re.compile("contributor=c-3&contributor=c-4$"))
    expect(tiles(page)).to_have_count(18)
    expect(contributors.get_by_role("checkbox", checked=True)).to_have_count(2)


@pytest.mark.slow
def test_what_it_is_wanted_for_decides_who_is_shown_and_what_is_counted(page: Page, url: str) -> None:
    search(page, url, "a red circle")
    asked = page.locator("#asked")
    expect(asked).to_contain_text("48 of 48 pictures")
    places = page.get_by_role("group", name="Cleared in")
    expect(places.get_by_role("checkbox")).to_have_count(0)
    find = places.get_by_role("searchbox", name="Find a country")
    find.fill("germ")
    with page.expect_response("**/thumbnails/*territory=DE*") as thumbnail:
        find.press("Enter")
    assert thumbnail.value.ok
    expect(page.get_by_role("button", name="Remove the filter Germany")).to_be_visible()
    expect(asked).to_contain_text("for retrieval display, in DE")
    expect(tiles(page).first).to_be_visible()
    commercial = page.get_by_role("group", name="Also cleared for").get_by_role("checkbox", name="Commercial")
    commercial.press("Space")
    expect(asked).to_contain_text("0 of 48 pictures")
    expect(page.get_by_text("Nothing like that may be shown to you here.")).to_be_visible()
    expect(commercial).to_be_focused()
    page.get_by_role("button", name="Without “Commercial”").click()
    expect(tiles(page).first).to_be_visible()
    assert page.url == f"{url}/?text=a+red+circle&territory=DE"


@pytest.mark.slow
def test_what_admits_nothing_can_be_taken_back_where_nothing_was_asked(page: Page, url: str) -> None:
    page.goto(f"{url}/?uses=commercial")
    page.get_by_role("button", name="Without “Commercial”").click()
    expect(page.locator("#start")).to_contain_text("Search 48 pictures")
    assert page.url == f"{url}/"


@pytest.mark.slow
def test_what_the_service_refuses_is_shown_as_it_said_it_and_asked_again(page: Page, url: str) -> None:
    page.route("**/search", lambda route: route.fulfill(status=503, json=REFUSED))
    page.goto(f"{url}/?text=a+red+circle")
    trouble = page.get_by_role("alert").filter(has=page.locator("h2"))
    for said in REFUSED.values():
        expect(trouble).to_contain_text(said)  # as text: no element is made of it
    page.unroute("**/search")
    trouble.get_by_role("button", name="Try again").click()
    expect(tiles(page).first).to_be_visible()


@pytest.mark.slow
def test_offline_is_said_and_the_page_asks_again_when_it_is_back(page: Page, url: str) -> None:
    search(page, url, "a red circle")
    page.context.set_offline(offline=True)
    page.fill("#text", "a blue square")
    page.press("#text", "Enter")
    expect(page.get_by_role("heading", name="You are offline.")).to_be_visible()
    page.context.set_offline(offline=False)
    expect(told(page)).to_contain_text("“a blue square”")


@pytest.mark.slow
def test_only_the_newest_question_is_answered(page: Page, url: str) -> None:
    search(page, url, "a red circle")
    held: list[Route] = []
    page.route("**/search", lambda route: held.append(route))  # noqa: PLW0108  # playwright marks what it is given
    for words in ("one", "two", "three"):
        page.fill("#text", words)
        page.press("#text", "Enter")
        expect(page.locator("#progress")).to_be_visible()
    page.wait_for_timeout(200)
    held[-1].continue_()
    expect(told(page)).to_contain_text("“three”")
    expect(page.locator("#progress")).to_be_hidden()
    assert [route.request.failure for route in held[:2]] == ["net::ERR_ABORTED"] * 2


@pytest.mark.slow
def test_more_results_are_added_behind_those_that_are_there(page: Page, url: str) -> None:
    page.goto(f"{url}/?text=a+red+circle&k=10")
    expect(tiles(page)).to_have_count(10)
    first = tiles(page).locator(".caption").all_inner_texts()
    page.get_by_role("button", name=re.compile("^Show [0-9]+$")).press("Enter")
    expect(tiles(page)).not_to_have_count(10)
    assert tiles(page).locator(".caption").all_inner_texts()[:10] == first
    assert tiles(page).count() <= NUM_PICTURES
    assert focused(page) == 10


@pytest.mark.slow
def test_no_more_than_six_pictures_are_fetched_at_a_time_and_none_far_from_view(page: Page, url: str) -> None:
    held: list[Route] = []
    page.route("**/thumbnails/*", lambda route: held.append(route))  # noqa: PLW0108  # as above
    page.set_viewport_size({"width": 500, "height": 300})
    page.goto(f"{url}/?text=a+red+circle")
    expect(tiles(page).first).to_be_attached()
    page.wait_for_timeout(500)
    assert len(held) == 6
    while held:
        held.pop(0).continue_()
        page.wait_for_timeout(50)
        assert len(held) <= 6
    asked = tiles(page).locator("img.shown").count()
    assert 0 < asked < tiles(page).count()
    tiles(page).last.focus()
    page.wait_for_timeout(500)
    assert 0 < len(held) <= 6
    assert uid(tiles(page).last) in {route.request.url.rpartition("/")[2] for route in held}
