"""Laws of the search page in Chromium, against the service that ``pardalis index serve`` starts."""

from __future__ import annotations

import base64
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from playwright.sync_api import Locator, Page, Route, expect

from tests.laws.conftest import drawing

from .conftest import BARRED, NUM_PICTURES, PHONE, TOKEN, WIDE, Heard, ended, served

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]

GIVE = """([base64, type, kind]) => {
  const files = new DataTransfer();
  const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  files.items.add(new File([bytes], "mine.png", { type }));
  const words = { bubbles: true, cancelable: true };
  const event = kind === "paste"
    ? new ClipboardEvent("paste", { ...words, clipboardData: files })
    : new DragEvent(kind, { ...words, dataTransfer: files });
  document.body.dispatchEvent(event);
}"""
REFUSED = {"error": "no replica answers", "value": "<b>busy</b>", "fix": "ask again in a second"}


def search(page: Page, url: str, words: str) -> None:
    page.goto(url)
    page.keyboard.type(words)  # the box has the focus from the start
    page.keyboard.press("Enter")
    expect(told(page)).to_contain_text(f"“{words}”")


def give(page: Page, picture: bytes, kind: str, media_type: str = "image/png") -> None:
    page.evaluate(GIVE, [base64.b64encode(picture).decode(), media_type, kind])


def told(page: Page) -> Locator:
    return page.locator("#told")


def tiles(page: Page) -> Locator:
    return page.locator("#grid li a")


def uid(tile: Locator) -> str:
    """As it stands in an address."""
    return (tile.get_attribute("href") or "").rpartition("open=")[2]


def asset(page: Page) -> Locator:
    return page.get_by_role("dialog").filter(has=page.locator(".stage"))


def focused(page: Page) -> int:
    """Which of the results has the focus; -1 if none has."""
    script = "() => [...document.querySelectorAll('#grid li a')].indexOf(document.activeElement)"
    found: int = page.evaluate(script)
    return found


def photographed(page: Page, name: str) -> None:
    """Into the folder $PARDALIS_SCREENSHOTS, for somebody to look at."""
    if folder := os.environ.get("PARDALIS_SCREENSHOTS"):
        page.screenshot(path=Path(folder) / f"{name}.png")


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
def test_more_like_this_asks_by_the_asset_and_back_returns(page: Page, url: str) -> None:
    search(page, url, "a red circle")
    first = tiles(page).first.locator(".caption").inner_text()
    tiles(page).first.click()
    asset(page).get_by_role("button", name="More like this").click()
    expect(told(page)).to_contain_text(f"results like “{first}”")
    assert "?uid=" in page.url
    expect(page.locator("#given")).to_contain_text(first)
    expect(tiles(page).locator(".caption").get_by_text(first, exact=True)).to_have_count(0)
    page.go_back()
    expect(asset(page)).to_be_visible()
    page.go_back()
    expect(asset(page)).not_to_be_visible()
    expect(told(page)).to_contain_text("“a red circle”")
    page.go_forward()
    expect(asset(page)).to_be_visible()


@pytest.mark.slow
def test_an_asset_shows_all_that_is_known_and_its_credit_line_can_be_copied(page: Page, url: str) -> None:
    search(page, url, "a blue square")
    caption = tiles(page).nth(2).locator(".caption").inner_text()
    tiles(page).nth(2).click()
    expect(asset(page).get_by_role("heading", name=caption)).to_be_visible()
    for name in ("Licence", "Contributor", "Category", "Kind", "AI-generated", "Size", "Score", "Asset"):
        expect(asset(page).get_by_text(name, exact=True)).to_be_visible()
    expect(asset(page).locator(".stage img.shown")).to_have_attribute("alt", caption)
    asset(page).get_by_role("button", name="Copy the credit line").click()
    expect(asset(page).get_by_role("status").get_by_text("Copied")).to_be_attached()
    credit = asset(page).locator(".credit > span > span").last.inner_text()
    assert page.evaluate("() => navigator.clipboard.readText()") == credit
    page.keyboard.press("ArrowRight")
    following = tiles(page).nth(3).locator(".caption").inner_text()
    expect(asset(page).get_by_role("heading", name=following)).to_be_visible()
    page.keyboard.press("Escape")
    expect(asset(page)).not_to_be_visible()
    assert focused(page) == 3
    assert "open=" not in page.url


@pytest.mark.slow
def test_an_asset_that_was_revoked_since_is_not_shown_a_second_time(page: Page, url: str) -> None:
    search(page, url, "a red circle")
    expect(tiles(page).first.locator("img.shown")).to_be_attached()
    gone = {"error": "no such asset", "value": "acme:a0000", "fix": "ask for another"}
    page.route("**/assets/*", lambda route: route.fulfill(status=404, json=gone))
    tiles(page).first.click()
    expect(asset(page).get_by_role("heading", name="No such picture is shown to you.")).to_be_visible()
    assert asset(page).locator(".stage img").get_attribute("src") is None
    expect(asset(page).get_by_role("button", name="More like this")).to_have_count(0)


@pytest.mark.slow
def test_keys_are_heard_whatever_button_was_pressed_last(page: Page, url: str) -> None:
    search(page, url, "a red circle")
    captions = tiles(page).locator(".caption").all_inner_texts()
    tiles(page).nth(1).click()
    before = asset(page).get_by_role("button", name="Previous result")
    before.click()
    expect(asset(page).get_by_role("heading", name=captions[0])).to_be_visible()
    expect(before).to_be_disabled()  # and had the focus
    page.keyboard.press("ArrowRight")
    expect(asset(page).get_by_role("heading", name=captions[1])).to_be_visible()
    page.keyboard.press("m")
    expect(told(page)).to_contain_text(f"results like “{captions[1]}”")


@pytest.mark.slow
def test_what_training_retrieved_for_a_picture_is_shown_in_its_order(page: Page, url: str) -> None:
    search(page, url, "a red circle")
    retrieved = asset(page).locator(".retrieved")
    for place in range(tiles(page).count()):  # until one that is the target of an example
        tiles(page).nth(place).click()
        expect(retrieved.locator(".note").first).not_to_have_text("…")
        if retrieved.locator("li").count():
            break
        page.keyboard.press("Escape")
    target = asset(page).locator("code").inner_text()
    told_by_service = page.request.get(f"{url}/neighbors/{quote(target, safe='')}").json()["candidates"]
    assert retrieved.locator(".rank").all_inner_texts() == [
        str(rank) for rank in range(1, len(told_by_service) + 1)
    ]
    shown = [one["description"] for one in told_by_service if one["shown"]]
    images = retrieved.locator("img")
    assert [image.get_attribute("alt") for image in images.all()] == shown
    retrieved.locator("a").first.click()
    expect(asset(page).get_by_role("heading", name=shown[0])).to_be_visible()


@pytest.mark.slow
def test_a_candidate_that_is_not_shown_to_the_caller_is_a_tile_without_a_name(page: Page, url: str) -> None:
    def hide(route: Route) -> None:
        answer = route.fetch()
        hidden = {"score": 0.5, "via": "text", "shown": False}
        told = {"candidates": [hidden], "split": "train"}
        route.fulfill(json=told if answer.ok else {**told, "target": {}}, status=200)

    page.route("**/neighbors/*", hide)
    search(page, url, "a red circle")
    tiles(page).first.click()
    expect(asset(page).locator(".anonymous")).to_have_count(1)
    expect(asset(page).locator(".anonymous")).to_contain_text("Not shown to you")
    expect(asset(page).locator(".retrieved a")).to_have_count(0)


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
def test_arrows_walk_over_the_grid_in_two_dimensions(page: Page, url: str) -> None:
    search(page, url, "a red circle")
    page.keyboard.press("Tab")
    tiles(page).first.focus()
    boxes = [tile.bounding_box() for tile in tiles(page).all()]
    assert focused(page) == 0
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert focused(page) == 2
    page.keyboard.press("ArrowDown")
    below = focused(page)
    above, under = boxes[2], boxes[below]
    assert above
    assert under
    assert under["y"] > above["y"]
    assert abs((under["x"] + under["width"] / 2) - (above["x"] + above["width"] / 2)) < above["width"]
    page.keyboard.press("ArrowUp")
    assert focused(page) == 2
    page.keyboard.press("End")
    assert focused(page) == tiles(page).count() - 1
    page.keyboard.press("Home")
    assert page.locator("#grid a[tabindex='0']").count() == 1
    page.keyboard.press("Enter")
    expect(asset(page)).to_be_visible()
    page.keyboard.press("Escape")
    assert focused(page) == 0
    page.keyboard.press("m")
    expect(told(page)).to_contain_text("results like “")
    assert focused(page) == 0
    page.keyboard.press("/")
    expect(page.locator("#text")).to_be_focused()


@pytest.mark.slow
def test_a_token_is_asked_for_tried_and_kept_in_this_tab_alone(page: Page, signed: str) -> None:
    page.goto(f"{signed}/?text=a+red+circle")
    door = page.get_by_role("dialog", name="Sign in")
    door.get_by_label("Token").fill("not-the-right-token")
    door.get_by_role("button", name="Sign in").click()
    expect(door.get_by_role("alert")).to_contain_text("not taken")
    door.get_by_label("Token").fill(TOKEN)
    door.get_by_label("Token").press("Enter")
    expect(tiles(page).first.locator("img.shown")).to_be_attached()
    assert TOKEN in page.evaluate("() => Object.values(sessionStorage)")
    assert page.evaluate("() => [document.cookie, localStorage.length]") == ["", 0]
    assert TOKEN not in page.url
    expect(page.locator("#asked")).to_contain_text("By your token")
    expect(page.locator("#asked")).to_contain_text("for retrieval display, in DE, FR")
    page.get_by_role("button", name="Sign out").click()
    expect(door).to_be_visible()
    assert page.evaluate("() => sessionStorage.length") == 0


@pytest.mark.slow
def test_a_caller_who_may_see_nothing_is_told_so(page: Page, signed: str) -> None:
    page.goto(signed)
    page.get_by_label("Token").fill(BARRED)
    page.get_by_label("Token").press("Enter")
    expect(page.locator("#empty")).to_contain_text("No picture of this corpus may be shown to you at all")
    expect(page.locator("#asked")).to_contain_text("0 of 48 pictures")
    expect(page.locator("#asked")).to_contain_text("for commercial and retrieval display")


@pytest.fixture(scope="module")
def signed(corpus: str) -> Iterator[str]:
    """A service that asks for a token: of two callers, no licence here grants what one of them needs."""
    with tempfile.TemporaryDirectory(prefix="serve", ignore_cleanup_errors=True) as folder:
        tokens = Path(folder) / "tokens"
        tokens.write_text(f"{TOKEN} territory=DE,FR\n{BARRED} uses=commercial\n")
        process, address = served(corpus, Path(folder), "--token-file", str(tokens))
        with ended(process):
            yield address


@pytest.mark.slow
def test_every_control_has_a_name_and_every_picture_its_words(page: Page, url: str) -> None:
    search(page, url, "a red circle")
    tiles(page).first.click()
    expect(asset(page).locator(".stage img.shown")).to_be_attached()
    assert page.evaluate("() => [...document.images].filter((one) => !one.hasAttribute('alt')).length") == 0
    for scope in (page.locator("body"), asset(page)):
        for line in scope.aria_snapshot().splitlines():
            assert not re.fullmatch(r"\s*- (button|link|textbox|searchbox|checkbox|slider)(:.*)?", line), line
    assert page.locator("main, header, footer, aside, search, h1").count() == 6
    ids = page.evaluate("() => [...document.querySelectorAll('[id]')].map(({ id }) => id)")
    assert len(ids) == len(set(ids))


CONTRAST = """() => {
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const rgb = (color) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const linear = (value) => (value <= 10 ? value / 3294.6 : ((value / 255 + 0.055) / 1.055) ** 2.4);
  const light = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  const ground = (node) => {
    const color = rgb(getComputedStyle(node).backgroundColor);
    return color[3] > 128 || !node.parentElement ? color : ground(node.parentElement);
  };
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const found = [];
  while (texts.nextNode()) {
    const node = texts.currentNode.parentElement;
    if (!texts.currentNode.data.trim() || !node.checkVisibility()) continue;
    if (node.closest("noscript, .unseen")) continue;
    const pair = [light(rgb(getComputedStyle(node).color)), light(ground(node))].sort((a, b) => b - a);
    found.push([(pair[0] + 0.05) / (pair[1] + 0.05), texts.currentNode.data.trim()]);
  }
  return found;
}"""


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
def test_all_text_stands_out_and_nothing_hangs_over(
    page: Page, url: str, scheme: Any, size: Any, heard: Heard
) -> None:
    page.set_viewport_size(size)
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    name = f"{scheme}-{size['width']}"

    def judged(where: str) -> None:
        page.wait_for_timeout(300)
        photographed(page, f"{where}-{name}")
        low = [(ratio, text) for ratio, text in page.evaluate(CONTRAST) if ratio < 4.5]
        assert not low
        assert page.evaluate("() => document.documentElement.scrollWidth - innerWidth") <= 0

    page.goto(url)
    expect(page.locator("#start")).to_be_visible()
    judged("start")
    search(page, url, "a red circle")
    expect(tiles(page).first.locator("img.shown")).to_be_attached()
    judged("results")
    page.locator("#narrow").click()
    judged("filters")
    page.locator("#narrow").click() if size is WIDE else page.keyboard.press("Escape")
    tiles(page).first.click()
    expect(asset(page).locator(".stage img.shown")).to_be_attached()
    judged("asset")
    page.goto(f"{url}/?text=x&orientation=portrait&category=toys")
    expect(page.locator("#empty")).to_be_visible()
    judged("empty")


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
def test_filters_are_a_sheet_on_a_phone_and_say_how_many_they_leave(page: Page, url: str) -> None:
    page.set_viewport_size(PHONE)
    search(page, url, "a red circle")
    expect(page.locator("#aside")).to_be_hidden()
    page.get_by_role("button", name="Filters").click()
    sheet = page.get_by_role("dialog", name="Filters")
    sheet.get_by_role("checkbox", name=re.compile("^toys")).check()
    done = sheet.get_by_role("button", name=re.compile("^Show [0-9]+ result"))
    expect(told(page)).to_contain_text("narrowed by 1 filter")
    assert done.inner_text() == f"Show {tiles(page).count()} results"
    done.click()
    expect(sheet).to_be_hidden()
    expect(page.get_by_role("button", name=re.compile("^Filters"))).to_be_focused()


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
