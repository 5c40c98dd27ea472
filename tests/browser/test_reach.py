"""Laws of who can use the search page: by keys alone, read aloud, in both themes, on a phone."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from .acting import asset, focused, photographed, search, tiles, told
from .conftest import PHONE, WIDE

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]


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
def test_all_text_stands_out_and_nothing_hangs_over(page: Page, url: str, scheme: Any, size: Any) -> None:
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
