"""The page of the demo, from a small summary: it stands alone, and nothing in it can act."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.reviewing import thumbnails
from trainer import page

HOSTILE = "<script>alert(1)</script>"
BREAKOUT = '"><img src="https://example.com/x.png">'
PROMPTS = ("red apple", "a < b & c")


def picture(value: int) -> str:
    return thumbnails.png(np.full((16, 16, 3), value, np.uint8))


def neighbor(number: int) -> dict[str, Any]:
    return {
        "uid": f"acme:{number}",
        "score": 0.5,
        "description": HOSTILE,
        "licenses": ("free", BREAKOUT),
        "attribution": BREAKOUT,
        "group": f"acme:{number}",
        "image": picture(number),
    }


def drawn(prompt: str, red: int) -> dict[str, Any]:
    image = np.zeros((16, 16, 3), np.uint8)
    image[..., 0] = red
    return {
        "prompt": prompt,
        "named": ["acme:9"],
        "trained_on": [],
        "image": thumbnails.png(image),
        "alone": picture(1),
        "copy": picture(2),
        "neighbors": [neighbor(3), neighbor(4)],
    }


def curve(step: int) -> dict[str, float]:
    held_out = {"neighbors/loss/image/target_2": 3.0, "alone/loss/image/target_0": 4.0}
    return {"step": step, "loss": 5.0 / step, **held_out}


MEASURED = {
    "model": {
        "layers": 2,
        "width": 32,
        "parameters": 1_500_000,
        "lookup_rows": 64,
        "lookup_parameters": 500_000,
    },
    "tokenizer": {
        "held_out_images": 7,
        "side": 16,
        "image_tokens": 9,
        "psnr_mean_db": 23.4,
        "psnr_pooled_db": 22.4,
        "psnr_opaque_db": 20.2,
        "ssim": 0.7,
        "codes_used": 1.0,
        "codebook_perplexity": 12.0,
    },
    "retrieval": {
        "pairs": 7,
        "recall_at_1": 0.3,
        "recall_at_10": 0.8,
        "chance_at_10": 0.1,
        "median_rank": 2.0,
    },
    "validation": {
        "best_step": 2,
        "last_step": 2,
        "alone/loss/image": 2.7,
        "neighbors/loss/image/target_2": 2.8,
    },
    "masking": {"causal": 0.7, "rows_with_caption": 0.2},
}


@pytest.fixture
def summary() -> dict[str, Any]:
    return {
        "version": 2,
        "as_of": "2026-06-01T00:00:00+00:00",
        **MEASURED,
        "samples": [drawn(prompt, 200) for prompt in PROMPTS],
        "captions": [{"uid": "acme:5", "licensed": BREAKOUT, "written": HOSTILE, "image": picture(5)}],
        "reconstructions": [{"true": picture(6), "seen": picture(7)}],
        "curves": {"tokenizer": [{"step": 1, "loss": 0.1}], "model": [curve(1), curve(2)]},
        "steps": {
            "images": {"in": 10, "kept": 8, "rejected:broken": 2},
            "split": {"in": 8, "kept": 8},
        },
        "rates": {"images": {"seconds": 2.0, "rows_per_s": 123.4}},
    }


class Parsed(HTMLParser):
    """Every element with its attributes, and the text between them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words += data


@pytest.fixture
def parsed(summary: dict[str, Any], tmp_path: Path) -> Parsed:
    page.write(tmp_path / "index.html", summary)
    return Parsed((tmp_path / "index.html").read_text())


def test_the_page_needs_no_other_file_and_runs_nothing(parsed: Parsed) -> None:
    references = ("src", "href", "srcset", "action", "data", "poster")
    found = [value for _, facts in parsed.elements for name, value in facts.items() if name in references]
    assert len(found) == len(PROMPTS) * 5 + 3
    assert all(value and value.startswith("data:image/png;base64,") for value in found)
    assert not {"script", "iframe", "object", "embed", "link", "base"} & {tag for tag, _ in parsed.elements}
    assert not [name for _, facts in parsed.elements for name in facts if name.startswith("on")]


def test_what_people_wrote_is_shown_as_they_wrote_it(parsed: Parsed) -> None:
    for words in (*PROMPTS, HOSTILE, BREAKOUT):
        assert words in parsed.words


def test_the_page_says_the_tokens_of_an_image_and_the_rate_of_a_step(parsed: Parsed) -> None:
    assert "what is left after 9 tokens" in " ".join(parsed.words.split())
    assert "123.4" in parsed.words


def test_the_picture_beside_the_page_shows_every_sample(summary: dict[str, Any], tmp_path: Path) -> None:
    page.write(tmp_path / "index.html", summary)
    with Image.open(tmp_path / "index.png") as sheet:
        assert sheet.size == (page.TILE * len(PROMPTS), page.TILE + page.LABEL)
        for place in range(len(PROMPTS)):
            assert sheet.getpixel((page.TILE * place + page.TILE // 2, page.TILE // 2)) == (200, 0, 0)


def test_the_picture_of_a_sample_comes_back_from_its_address() -> None:
    image = np.arange(16 * 16 * 3, dtype=np.uint8).reshape(16, 16, 3)
    data = base64.b64decode(thumbnails.png(image).partition(",")[2])
    with Image.open(io.BytesIO(data)) as found:
        assert np.array_equal(np.asarray(found), image)


def test_the_terminal_tells_outcomes_that_add_up_to_the_rows_that_came(summary: dict[str, Any]) -> None:
    told = page.text(summary, Path("index.html"))
    for name, counts in summary["steps"].items():
        (line,) = [line for line in told.splitlines() if line.split()[0] == name and " in: " in line]
        came, outcomes = re.sub(r"\(.*/s\)", "", line).split(" in: ")
        assert int(came.split()[-1]) == counts["in"]
        assert sum(int(one.split()[-1]) for one in outcomes.split(",")) == counts["in"]
    assert "(123.4/s)" in told
    assert told.endswith("page: index.html")


def test_a_run_without_reports_has_a_page_too(summary: dict[str, Any], tmp_path: Path) -> None:
    summary["curves"] = {"tokenizer": [], "model": []}
    page.write(tmp_path / "index.html", summary)
    assert "<polyline" not in (tmp_path / "index.html").read_text()
