"""Laws of the search page's files: all are listed, none of them needs what its policy forbids."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from importlib.resources import files

import pytest

from retrieval import page

SCRIPTS = [name for name in page.FILES if name.endswith(".js")]


class Parsed(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def test_the_list_is_what_lies_in_the_folder() -> None:
    assert {path.name for path in (files("retrieval") / "web").iterdir()} == set(page.FILES)
    assert all(page.read(name) for name in page.FILES)


@pytest.mark.parametrize("name", ["", "..", "../page.py", "web/page.js", "/etc/passwd", "page.js\0"])
def test_no_name_outside_of_the_list_is_read(name: str) -> None:
    with pytest.raises(KeyError):
        page.read(name)


def test_the_page_runs_under_its_own_policy() -> None:
    tags = Parsed(page.read(page.INDEX).decode()).tags
    assert not [tag for tag, _ in tags if tag in {"style", "base", "iframe", "object"}]
    assert not [name for _, attrs in tags for name in attrs if name == "style" or name.startswith("on")]
    assert all(attrs.get("src") for tag, attrs in tags if tag == "script")
    named = [attrs.get("src") or attrs.get("href") or "" for tag, attrs in tags if tag in {"script", "link"}]
    assert {name.removeprefix("web/") for name in named} <= set(page.FILES)


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_imports_listed_files_and_never_parses_markup(name: str) -> None:
    text = page.read(name).decode()
    assert set(re.findall(r'from "\./([^"]+)"', text)) <= set(page.FILES)
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|https?://", text)


def test_style_and_icons_come_from_nowhere_else() -> None:
    styles = page.read("page.css").decode()
    assert set(re.findall(r'url\("([^"]+)"\)', styles)) <= set(page.FILES)
    assert "@import" not in styles
