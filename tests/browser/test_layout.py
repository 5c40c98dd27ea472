"""Laws of the page's arithmetic: rows of pictures, and the state in the address. No service is asked."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Page, Route

from retrieval import page as packaged

pytestmark = [pytest.mark.long]
ORIGIN = "http://page.test"


@pytest.fixture
def modules(page: Page) -> Iterator[Page]:
    """A page from which the scripts can be imported, under their own policy."""

    def answer(route: Route) -> None:
        name = route.request.url.removeprefix(f"{ORIGIN}/web/")
        if name in packaged.FILES:
            kind = packaged.FILES[name]
            route.fulfill(body=packaged.read(name), headers={**packaged.HEADERS, "Content-Type": kind})
        else:
            route.fulfill(body="<!doctype html>", headers={**packaged.HEADERS, "Content-Type": "text/html"})

    page.route(f"{ORIGIN}/**", answer)
    page.goto(f"{ORIGIN}/")
    return page


def set_rows(modules: Page, ratios: list[float], **sizes: float) -> list[dict[str, Any]]:
    script = "async ([ratios, sizes]) => (await import('/web/layout.js')).rows(ratios, sizes)"
    found: list[dict[str, Any]] = modules.evaluate(script, [ratios, sizes])
    return found


def test_full_rows_fill_the_width_and_keep_near_the_height_that_was_asked(modules: Page) -> None:
    rng = np.random.default_rng(0)
    for width, target, gap in [(1100, 200, 12), (374, 157, 8), (320, 134, 8), (2400, 360, 12)]:
        ratios = np.exp(rng.normal(0.2, 0.4, 200)).clip(0.45, 3.2).tolist()
        rows = set_rows(modules, ratios, width=width, target=target, gap=gap)
        assert sum(len(row["widths"]) for row in rows) == len(ratios)
        for row in rows[:-1]:
            assert sum(row["widths"]) + gap * (len(row["widths"]) - 1) == width
            assert target / 2 <= row["height"] <= target * 2
        assert rows[-1]["height"] <= target


def test_pictures_keep_their_shape_to_a_pixel(modules: Page) -> None:
    ratios = [0.5, 1.0, 1.5, 0.75, 2.0, 1.0, 1.333, 0.667] * 6
    for row in set_rows(modules, ratios, width=1000, target=180, gap=10):
        for ratio, width in zip(ratios, row["widths"], strict=False):
            assert abs(width - ratio * row["height"]) <= len(row["widths"]) + ratio
        ratios = ratios[len(row["widths"]) :]


@pytest.mark.parametrize("ratios", [[], [1.0], [3.2], [0.45], [3.2] * 3])
def test_few_pictures_do_not_grow_over_the_height_and_never_past_the_width(
    modules: Page, ratios: list[float]
) -> None:
    for row in set_rows(modules, ratios, width=360, target=151, gap=8):
        assert row["height"] <= 151
        assert sum(row["widths"]) + 8 * (len(row["widths"]) - 1) <= 360


def test_an_address_tells_the_whole_state_and_nothing_that_is_as_always(modules: Page) -> None:
    script = """async (states) => {
      const { parsed, written, NOTHING } = await import("/web/state.js");
      return states.map((change) => [{ ...NOTHING, ...change }, parsed(written({ ...NOTHING, ...change }))]);
    }"""
    states = [
        {"text": "red & <b>fruit</b> 50 %", "category": ["a,b", "c&d=e"], "since": "2025-01-01"},
        {"uid": "provider:a b/c?d#é", "mix": -0.4, "text": "but at night", "k": 200},
        {
            "license": ["LicenseRef-x"],
            "contributor": ["c-1", "c-2"],
            "orientation": ["square"],
            "open": "a:1",
        },
    ]
    for state, again in modules.evaluate(script, states):
        assert again == state
    written = "async () => { const s = await import('/web/state.js'); return s.written(s.NOTHING); }"
    assert modules.evaluate(written) == "/"


def test_an_address_that_somebody_made_up_is_read_as_far_as_it_makes_sense(modules: Page) -> None:
    script = "async (search) => (await import('/web/state.js')).parsed(search)"
    state = modules.evaluate(
        script, "?text=%20x%20&since=soon&mix=7&k=-3&orientation=&orientation=square&else=1"
    )
    assert (state["text"], state["since"], state["mix"], state["k"]) == ("x", "", 0, 60)
    assert state["orientation"] == ["square"]
    assert "else" not in state


def test_a_picture_and_words_weigh_the_same_until_one_is_preferred(modules: Page) -> None:
    script = "async (mix) => (await import('/web/state.js')).weights(mix, 'image')"
    found = [modules.evaluate(script, mix) for mix in (0, -0.4, 0.8)]
    assert found == [{"image": 1, "text": 1}, {"image": 1, "text": 0.6}, {"image": 0.2, "text": 1}]
