from __future__ import annotations

import re
from pathlib import Path

import pytest

from retrieval import page as searching
from trainer import playing
from trainer.playing import page

WEB = Path(playing.__file__).parent / "web"


def test_every_file_is_listed_and_every_listed_one_is_there() -> None:
    assert {path.name for path in WEB.iterdir()} == {page.INDEX, *page.OURS}
    for name in page.FILES:
        assert page.read(name)


@pytest.mark.parametrize("name", ["page.py", "../door.py", "../../page.py", "", "state.js", "grid.js"])
def test_no_other_file_is_read(name: str) -> None:
    with pytest.raises(KeyError):
        page.read(name)


def test_scripts_import_what_is_served_and_nothing_comes_from_elsewhere() -> None:
    for name in page.FILES:
        text = page.read(name).decode()
        assert set(re.findall(r'from "\./([^"]+)"', text)) <= page.FILES.keys()
        assert not re.findall(r"https?://(?!www\.w3\.org/2000/svg)", text)
        assert "innerHTML" not in text


def test_it_runs_under_the_policy_of_the_search_page() -> None:
    answer = page.packaged(page.INDEX)
    assert answer.headers["content-security-policy"] == searching.HEADERS["Content-Security-Policy"]
    assert "style=" not in page.read(page.INDEX).decode()
