"""Laws of signing in on the search page: who shows which token sees what it grants."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from .acting import tiles
from .conftest import ended, served

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]
TOKEN = "a-token-of-the-picture-desk"  # noqa: S105  # of a service on loopback that ends with the test
BARRED = "a-token-of-the-advertisers"


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
def test_a_link_for_other_places_says_so_and_is_mended_by_taking_them_back(page: Page, signed: str) -> None:
    page.goto(f"{signed}/?text=a+red+circle&territory=US&territory=germany")
    page.get_by_label("Token").fill(TOKEN)
    page.get_by_label("Token").press("Enter")
    expect(page.get_by_text("the token is for other places")).to_be_visible()
    page.get_by_role("button", name="Remove the filter United States").click()
    expect(tiles(page).first.locator("img.shown")).to_be_attached()
    places = page.get_by_role("group", name="Cleared in").get_by_role("checkbox")
    expect(places).to_have_count(2)


@pytest.mark.slow
def test_a_caller_who_may_see_nothing_is_told_so(page: Page, signed: str) -> None:
    page.goto(signed)
    page.get_by_label("Token").fill(BARRED)
    page.get_by_label("Token").press("Enter")
    expect(page.locator("#empty")).to_contain_text("No picture of this corpus may be shown to you at all")
    expect(page.locator("#asked")).to_contain_text("0 of 48 pictures")
    expect(page.locator("#asked")).to_contain_text("for commercial and retrieval display")
