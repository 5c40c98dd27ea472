"""Laws of one asset on the search page: its facts, more like it, and what training retrieved for it."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from playwright.sync_api import Page, Route, expect

from .acting import asset, focused, search, tiles, told

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]


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
