"""The card's page as a reader has it: opened from disk, on a desk and on a telephone."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from infra.cli import run
from tests.browser.conftest import PHONE, WIDE
from tests.pipeline.card.written import write

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("card")
    settings = folder / "card.toml"
    settings.write_text(
        '[gates]\n"contributors.gini.max" = 1\n[reference]\nsource = "x"\ncountries = {NL = 0.5}\n'
    )
    corpus = write(folder).corpus.store.uri
    words = ["--out", str(folder / "out"), "--corpus", corpus, "--before", "1", "--settings", str(settings)]
    assert run(["card", *words]) == 0
    return (folder / "out" / "card.html").as_uri()


@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["desk", "telephone"])
def test_nothing_hangs_over_the_edge_and_nothing_overlaps(
    page: Page, address: str, size: dict[str, int], tmp_path: Path
) -> None:
    page.set_viewport_size(size)  # type: ignore[arg-type]
    page.goto(address)
    assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
    hanging = """() => [...document.querySelectorAll('.figures > .figure')]
      .filter(one => one.scrollWidth > one.clientWidth + 1).map(one => one.querySelector('h3').innerText)"""
    assert size == PHONE or page.evaluate(hanging) == []  # a wide table may be scrolled on a telephone
    page.screenshot(path=str(tmp_path / "card.png"), full_page=True)


def test_every_heading_is_reached_and_every_source_opens(page: Page, address: str) -> None:
    page.goto(address)
    for link in page.locator("nav a").all():
        assert page.locator(str(link.get_attribute("href"))).count() == 1
    source = page.locator("details.from", has_text="representation.identity").first
    expect(source.get_by_text("95 % Wilson intervals")).to_be_hidden()
    source.locator("summary").click()
    expect(source.get_by_text("95 % Wilson intervals")).to_be_visible()


def test_what_is_written_beside_the_curves_touches_none_and_the_dashed_line_lies_on_top(
    page: Page, address: str
) -> None:
    page.goto(address)
    drawn = page.locator("svg[aria-label='Lorenz curves'] g")
    frame = drawn.locator("rect").bounding_box()
    top = drawn.locator("text").last.bounding_box()
    assert frame
    assert top
    assert top["x"] + top["width"] <= frame["x"]
    shapes = drawn.locator("polyline, line").evaluate_all("found => found.map(one => one.tagName)")
    assert shapes[-1] == "line"


def test_pictures_are_drawn(page: Page, address: str) -> None:
    page.goto(address)
    assert page.locator("svg[aria-label*='their term ends'] rect").count() == 36
    assert page.locator("svg[aria-label='Lorenz curves'] polyline").count() == 2
    assert page.locator("svg[aria-label='interval of the log2 ratio'] circle").count() >= 3
    boxes = [one.bounding_box() for one in page.locator("#shift ~ details.cut[open] svg circle").all()]
    assert boxes
    assert all(box and box["width"] > 0 for box in boxes)
