"""What a person does on the search page, and where on it things stand."""

from __future__ import annotations

import base64
import os
from pathlib import Path

from playwright.sync_api import Locator, Page, expect

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
