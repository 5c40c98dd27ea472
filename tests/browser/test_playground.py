"""Laws of the playground in Chromium, on a run that was tuned: each tab by pointer and keys, to the pixel."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Locator, Page, expect

from infra.options import CorpusOptions
from pipeline.encoding import Pixels
from tests import played
from tests.laws.conftest import drawing
from tests.played import World
from tokenizer_service import coding, vocabulary
from trainer import playground
from trainer.brushed import on_grid
from trainer.studio import Studio

from .acting import photographed
from .conftest import WIDE
from .test_reach import CONTRAST

pytestmark = [pytest.mark.plan, pytest.mark.long, pytest.mark.timeout(300)]
GREEN, RED = "a green circle", "a red circle"
"""Red shapes may not be shown."""
MINUS = "\N{MINUS SIGN}"
NARROW = {"width": 420, "height": 900}
TABS = ("Draw", "Edit", "Ask", "Caption", "Ground", "Infill")


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return played.world(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def url(world: World) -> Iterator[str]:
    with played.playing(world) as process:
        yield process.url


@pytest.fixture(scope="module")
def studio(world: World) -> Studio:
    return playground.easel_of(world.tuned, CorpusOptions(corpus=world.corpus), None)[0].studio


def opened(page: Page, url: str, tab: str) -> Locator:
    page.goto(f"{url}/#{tab.lower()}")
    expect(page.get_by_role("tab", name=tab)).to_have_attribute("aria-selected", "true")
    return page.get_by_role("tabpanel", name=tab)


def asked(panel: Locator, results: int = 1) -> Locator:
    """The newest result, when it is there and its pictures are seen."""
    panel.locator("form button[type=submit]").click()
    expect(panel.locator(".result")).to_have_count(results, timeout=30_000)
    newest = panel.locator(".result").first
    for image in newest.locator(".row img").all():
        expect(image).to_have_class("shown")
    return newest


def chosen(page: Page, panel: Locator, words: str) -> None:
    panel.get_by_role("button", name="From the corpus").click()
    library = page.get_by_role("dialog", name="A picture of the corpus")
    library.get_by_label("What is on the picture").fill(words)
    library.get_by_role("button", name="Search").click()
    library.get_by_role("listitem").first.get_by_role("button").click()
    expect(library).to_be_hidden()
    expect(panel.locator(".chosen img")).to_have_class("shown")


def uploaded(panel: Locator, number: int) -> None:
    file: Any = {"name": "../mine.png", "mimeType": "image/png", "buffer": drawing(number)[1]}
    panel.locator("input[type=file]").set_input_files(file)
    expect(panel.locator(".chosen img")).to_have_class("shown")


def saved(page: Page, button: Locator, folder: Path) -> Path:
    with page.expect_download() as download:
        button.click()
    path = folder / download.value.suggested_filename
    download.value.save_as(path)
    return path


def copied(page: Page, result: Locator) -> str:
    result.get_by_role("button", name="Copy the command").click()
    expect(result.get_by_text("Copied")).to_be_attached()
    found: str = page.evaluate("() => navigator.clipboard.readText()")
    return found


def files_of(page: Page, result: Locator, folder: Path) -> list[Path]:
    """What its command reads, and what it writes."""
    return [saved(page, one, folder) for one in result.locator(".saves button").all()]


def pixels(image: bytes) -> Pixels:
    return np.asarray(Image.open(io.BytesIO(image)).convert("RGB"))


def same_when_repeated(page: Page, result: Locator, folder: Path) -> Pixels:
    """What the page's file holds, which the command that it tells draws again."""
    command, files = copied(page, result), files_of(page, result, folder)
    mine = pixels(files[-1].read_bytes())
    files[-1].unlink()
    played.repeated(command, folder)
    assert np.array_equal(pixels(files[-1].read_bytes()), mine)
    return mine


def same_words_when_repeated(page: Page, result: Locator, folder: Path) -> None:
    files_of(page, result, folder)
    printed = json.loads(played.repeated(copied(page, result), folder))
    assert result.locator(".said").text_content() in printed.values()


def test_words_are_drawn_beside_neighbors_that_can_be_switched_off(
    page: Page, url: str, tmp_path: Path
) -> None:
    panel = opened(page, url, "Draw")
    panel.get_by_label("What to draw").fill(GREEN)
    near = panel.get_by_role("list", name="Neighbors").get_by_role("listitem")
    expect(near).to_have_count(2)
    for one in near.all():
        expect(one).to_contain_text("Licence for-all")
        expect(one).to_contain_text("Photo: J. Doe")
        expect(one.locator("img")).to_have_class("shown")
    first = asked(panel)
    expect(first.locator("figure")).to_have_count(4)
    scores = [
        float(text.replace(MINUS, "-").split()[-1]) for text in first.locator("figcaption").all_inner_texts()
    ]
    assert scores == sorted(scores, reverse=True)
    expect(first.locator(".neighbors li")).to_have_count(2)
    with_both = same_when_repeated(page, first, tmp_path)
    near.first.get_by_role("checkbox").uncheck()
    second = asked(panel, results=2)
    expect(second.locator(".neighbors li")).to_have_count(1)
    with_one = same_when_repeated(page, second, tmp_path)
    panel.get_by_label("Neighbors", exact=True).first.select_option("0")
    expect(near).to_have_count(0)
    third = asked(panel, results=3)
    expect(third).to_contain_text("Drawn without neighbors.")
    with_none = same_when_repeated(page, third, tmp_path)
    assert not np.array_equal(with_both, with_one)
    assert not np.array_equal(with_one, with_none)


def test_a_neighbor_that_may_not_be_shown_has_its_credit_and_no_picture(page: Page, url: str) -> None:
    asked_for: list[str] = []
    page.on("request", lambda request: asked_for.append(request.url))
    panel = opened(page, url, "Draw")
    panel.get_by_label("What to draw").fill(RED)
    near = panel.get_by_role("list", name="Neighbors").get_by_role("listitem").first
    expect(near).to_contain_text("Licence not-shown")
    expect(near).to_contain_text("Photo: J. Doe")
    expect(near.locator(".frame")).to_have_attribute("data-missing", "May not be shown")
    asked(panel)
    assert not [address for address in asked_for if "/thumbnails/" in address]


def test_settings_and_the_seed_change_what_is_drawn_and_stand_in_the_command(
    page: Page, url: str, tmp_path: Path
) -> None:
    panel = opened(page, url, "Draw")
    panel.get_by_label("What to draw").fill(GREEN)
    panel.get_by_label("Samples").fill("1")
    before = same_when_repeated(page, asked(panel), tmp_path)
    panel.get_by_text("Sampler").click()
    panel.get_by_label("Guidance").fill("1.5")
    panel.get_by_role("button", name="Another seed").click()
    result = asked(panel, results=2)
    expect(result.locator("code")).to_contain_text("trainer.sampler.guidance = 1.5")
    expect(result.locator("code")).to_contain_text(f"--seed {panel.get_by_label('Seed').input_value()}")
    assert not np.array_equal(same_when_repeated(page, result, tmp_path), before)


def test_a_picture_that_was_brought_is_edited_beside_itself(page: Page, url: str, tmp_path: Path) -> None:
    panel = opened(page, url, "Edit")
    uploaded(panel, 3)
    panel.get_by_label("Instruction", exact=True).fill("make it blue")
    panel.get_by_label("Samples").fill("2")
    result = asked(panel)
    assert result.locator("figcaption").all_inner_texts() == ["Given", "1", "2"]
    assert same_when_repeated(page, result, tmp_path).shape == (32, 64, 3)


def test_a_result_is_used_in_another_tab(page: Page, url: str, tmp_path: Path) -> None:
    panel = opened(page, url, "Draw")
    panel.get_by_label("What to draw").fill(GREEN)
    result = asked(panel)
    figure = result.locator("figure").nth(1)
    mine = pixels(saved(page, figure.get_by_role("button", name="Save"), tmp_path).read_bytes())
    figure.get_by_text("Use in").click()
    figure.get_by_role("button", name="Edit").click()
    expect(page.get_by_role("tab", name="Edit")).to_be_focused()
    edit = page.get_by_role("tabpanel", name="Edit")
    expect(edit.locator(".chosen img")).to_have_class("shown")
    edit.get_by_label("Instruction", exact=True).fill("make it blue")
    edited = asked(edit)
    given = saved(page, edited.locator(".saves button").first, tmp_path)
    assert np.array_equal(pixels(given.read_bytes()), mine)


def test_a_question_is_answered_and_a_picture_captioned_short_and_long(
    page: Page, url: str, tmp_path: Path
) -> None:
    panel = opened(page, url, "Ask")
    chosen(page, panel, GREEN)
    panel.get_by_label("Question").fill("What color is it?")
    result = asked(panel)
    expect(result.locator("h3")).to_have_text("What color is it?")
    same_words_when_repeated(page, result, tmp_path)
    panel = opened(page, url, "Caption")
    chosen(page, panel, GREEN)
    near = panel.get_by_role("list", name="Neighbors").get_by_role("listitem")
    expect(near).to_have_count(2)
    short = asked(panel)
    expect(short.locator("code")).not_to_contain_text("--task")
    expect(short.locator(".neighbors li")).to_have_count(2)
    expect(short).to_contain_text("Written beside")
    same_words_when_repeated(page, short, tmp_path)
    near.first.get_by_role("checkbox").uncheck()
    other = asked(panel, results=2)
    expect(other.locator(".neighbors li")).to_have_count(1)
    expect(other.locator("code")).to_contain_text("--without")
    panel.get_by_role("checkbox", name="Long").check()
    expect(near.first).to_be_hidden()
    long = asked(panel, results=3)
    expect(long.locator("code")).to_contain_text("--task long-caption")
    same_words_when_repeated(page, long, tmp_path)


def dragged(page: Page, canvas: Locator, *points: tuple[float, float]) -> None:
    """From the first point to the last, in parts of the square."""
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    assert box
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in points]
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place, steps=5)
    page.mouse.up()


def test_things_are_placed_by_a_click_by_a_drag_and_by_numbers(page: Page, url: str, tmp_path: Path) -> None:
    panel = opened(page, url, "Ground")
    panel.get_by_label("What the picture shows").fill("a scene")
    stage = panel.locator(".stage256")
    dragged(page, stage, (0.125, 0.25), (0.5, 0.75))
    panel.get_by_label("Thing", exact=True).fill("a cup")
    dragged(page, stage, (0.75, 0.5))
    panel.get_by_label("Thing", exact=True).nth(1).fill("a red circle")
    boxes = [
        [int(side.input_value()) for side in item.locator("[data-side]").all()]
        for item in panel.locator(".things li").all()
    ]
    for found, wanted in zip(boxes, [[32, 64, 128, 192], [152, 88, 232, 168]], strict=True):
        assert np.abs(np.array(found) - wanted).max() <= 2  # of a grid of 256 on a square of 382 px
    panel.get_by_label("x1").nth(1).fill("250")
    panel.get_by_label("x1").nth(1).press("Tab")
    boxes[1][2] = 250
    first, second = (f"({x0}, {y0}) -> ({x1}, {y1})" for x0, y0, x1, y1 in boxes)
    things = f"a cup at {first}, a red circle at {second}"
    prompt = f"Generate high quality image of a scene with segmentations {things}"
    expect(panel.locator("form .prompt")).to_have_text(prompt)
    with page.expect_request("**/jobs") as request:
        result = asked(panel)
    sent = request.value.post_data_json["things"]
    assert [[one[side] for side in ("x0", "y0", "x1", "y1")] for one in sent] == boxes
    expect(result.locator(".prompt")).to_have_text(f"Prompt: {prompt}")
    overlays = result.locator(".row .boxes")
    expect(overlays.first.locator("text")).to_have_text(["a cup", "a red circle"])
    expect(overlays.first).to_be_visible()
    result.get_by_label("Boxes over the picture").uncheck()
    expect(overlays.first).to_be_hidden()
    same_when_repeated(page, result, tmp_path)


def test_a_box_is_moved_and_taken_away(page: Page, url: str) -> None:
    panel = opened(page, url, "Ground")
    stage = panel.locator(".stage256")
    panel.get_by_role("button", name="Add a thing").click()
    expect(panel.get_by_label("Thing", exact=True)).to_be_focused()
    dragged(page, stage, (0.5, 0.5), (0.1, 0.5), (0.75, 0.5))
    assert [side.input_value() for side in panel.locator("[data-side]").all()] == ["152", "88", "232", "168"]
    panel.get_by_role("button", name="Remove").click()
    expect(panel.locator(".things li")).to_have_count(0)
    expect(stage.locator("rect")).to_have_count(0)


def test_only_tokens_that_the_brush_touches_are_drawn_anew(
    page: Page, url: str, studio: Studio, tmp_path: Path
) -> None:
    panel = opened(page, url, "Infill")
    uploaded(panel, 3)
    told = panel.locator("form > .note[role=status]")
    expect(told).to_contain_text("0 of 16 tokens")
    panel.get_by_label("Brush size").fill("2")
    dragged(page, panel.locator("canvas"), (0.4, 0.65), (0.45, 0.65))
    expect(told).to_contain_text("1 of 16 tokens")
    result = asked(panel)
    image, mask, _ = files_of(page, result, tmp_path)
    (place,) = on_grid(pixels(mask.read_bytes())[..., 0] > 0, 4).nonzero()[0]
    assert place == 9
    codes_T = vocabulary.to_codes(np.asarray(studio.ids(studio.square(image.read_bytes()))))
    possible = np.tile(codes_T, (studio.vq.config.codebook_size, 1))
    possible[:, place] = np.arange(len(possible))
    drawn = same_when_repeated(page, result, tmp_path)
    pictures = coding.decode_codes(studio.vq, possible.astype(np.uint16))
    assert any(np.array_equal(drawn, one) for one in pictures)


def test_the_brush_is_moved_by_keys_and_erases(page: Page, url: str) -> None:
    panel = opened(page, url, "Infill")
    chosen(page, panel, GREEN)
    told = panel.locator("form > .note[role=status]")
    panel.get_by_label("Brush size").fill("2")
    canvas = panel.locator("canvas")
    canvas.focus()
    for key in ("ArrowUp", "ArrowLeft", " ", "ArrowRight", "ArrowRight", " "):
        page.keyboard.press(key)
    expect(told).to_contain_text("2 of 16 tokens")
    page.keyboard.press("Backspace")
    expect(told).to_contain_text("1 of 16 tokens")
    panel.get_by_role("button", name="All of it").click()
    expect(told).to_contain_text("16 of 16 tokens")
    panel.get_by_role("checkbox", name="Erase").check()
    dragged(page, canvas, (0.05, 0.05), (0.95, 0.05))
    panel.get_by_role("button", name="Clear").click()
    panel.locator("form button[type=submit]").click()
    expect(told).to_contain_text("Brush over what is to be drawn anew first")


def test_tabs_are_walked_by_keys_and_told_in_the_address(page: Page, url: str) -> None:
    opened(page, url, "Draw")
    page.get_by_role("tab", name="Draw").focus()
    for tab in (*TABS[1:], "Draw"):
        page.keyboard.press("ArrowRight")
        expect(page.get_by_role("tab", name=tab)).to_be_focused()
        expect(page.get_by_role("tabpanel")).to_have_count(1)
        assert page.url == f"{url}/#{tab.lower()}"
    page.keyboard.press("Tab")
    expect(page.get_by_label("What to draw")).to_be_focused()
    page.keyboard.type(GREEN)
    page.keyboard.press("Control+Enter")
    expect(page.locator("#panel-draw .result")).to_have_count(1, timeout=30_000)


def test_who_comes_second_is_told_how_many_are_before_and_may_give_up(page: Page, url: str) -> None:
    panel = opened(page, url, "Draw")
    panel.get_by_label("What to draw").fill(GREEN)
    with httpx.Client(base_url=url) as http:
        headers = {"Content-Type": "image/png"}
        image = http.post("/pictures", content=drawing(3)[1], headers=headers).json()["picture"]
        settings = {"max_text_tokens": 250, "temperature": 0}
        wish = {"task": "caption", "image": image, "settings": settings}
        jobs = [http.post("/jobs", json={**wish, "seed": seed}).json()["job"] for seed in range(6)]
        panel.locator("form button[type=submit]").click()
        work = panel.locator(".work")
        expect(work).to_contain_text(re.compile(r"\d others? before you"))
        work.get_by_role("button", name="Stop").click()
        expect(work).to_be_hidden()
        for job in jobs:
            http.post(f"/stop/{job}", json={})
    expect(panel.locator(".result, .wrong:visible")).to_have_count(0)
    asked(panel)


WATCH = """() => {
  const work = document.querySelector("#panel-caption .work");
  const told = { childList: true, subtree: true, characterData: true };
  window.seen = [];
  new MutationObserver(() => window.seen.push(work.querySelector("p").textContent)).observe(work, told);
}"""
"""Keeps what is told of a job: it may be gone before it is looked at."""


def test_how_far_a_drawing_is_is_told_while_it_is_made(page: Page, url: str) -> None:
    panel = opened(page, url, "Caption")
    chosen(page, panel, GREEN)
    panel.get_by_text("Sampler").click()
    panel.get_by_label("Longest answer").fill("250")
    panel.get_by_label("Temperature").fill("0")  # says the same again and again, and never ends by itself
    page.evaluate(WATCH)
    asked(panel)
    seen = page.evaluate("() => window.seen")
    assert [text for text in seen if re.match(r"^\d+ of 250 tokens, [\d.]+ a second, \d+ s left$", text)]
    bars = [int(text.split()[0]) for text in seen if " of 250 tokens" in text]
    assert bars == sorted(bars)


def test_what_the_service_refuses_is_told_in_its_words(page: Page, url: str) -> None:
    panel = opened(page, url, "Draw")
    panel.get_by_label("What to draw").fill("qz" * 500)
    panel.locator("form button[type=submit]").click()
    expect(panel.locator("form .wrong")).to_contain_text("exceed the context of")
    expect(panel.locator("form .wrong")).to_contain_text("give fewer neighbors or a shorter text")
    panel = opened(page, url, "Edit")
    panel.get_by_label("Instruction", exact=True).fill("make it blue")
    panel.locator("form button[type=submit]").click()
    expect(panel.get_by_role("alert").first).to_contain_text("Choose a picture first")
    broken: Any = {"name": "a.png", "mimeType": "image/png", "buffer": drawing(3)[1][:300]}
    panel.locator("input[type=file]").set_input_files(broken)
    expect(panel.get_by_role("alert").first).to_contain_text("a broken image")
    other: Any = {"name": "a.gif", "mimeType": "image/gif", "buffer": b"GIF89a"}
    panel.locator("input[type=file]").set_input_files(other)
    expect(panel.get_by_role("alert").first).to_contain_text("no JPEG, PNG or WebP")
    large: Any = {"name": "a.png", "mimeType": "image/png", "buffer": bytes(17 << 20)}
    panel.locator("input[type=file]").set_input_files(large)
    expect(panel.get_by_role("alert").first).to_contain_text("17.8 MB; at most 16.8 MB are taken")


def filled(page: Page, url: str, tab: str) -> Locator:
    """A result of each tab."""
    panel = opened(page, url, tab)
    if tab in ("Edit", "Ask", "Caption", "Infill"):
        chosen(page, panel, GREEN)
    match tab:
        case "Draw":
            panel.get_by_label("What to draw").fill(GREEN)
            expect(panel.get_by_role("list", name="Neighbors").get_by_role("listitem")).to_have_count(2)
        case "Edit":
            panel.get_by_label("Instruction", exact=True).fill("make it blue")
        case "Ask":
            panel.get_by_label("Question").fill("What color is it?")
        case "Ground":
            panel.get_by_label("What the picture shows").fill("a scene")
            panel.get_by_role("button", name="Add a thing").click()
            panel.get_by_label("Thing", exact=True).fill("a cup")
        case "Infill":
            panel.get_by_role("button", name="All of it").click()
    panel.get_by_text("Sampler").click()
    return asked(panel)


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
def test_every_tab_stands_out_is_named_and_hangs_over_nowhere(
    page: Page, url: str, scheme: Any, size: Any
) -> None:
    page.set_viewport_size(size)
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    asked_for: list[str] = []
    page.on("request", lambda request: asked_for.append(request.url))
    for tab in TABS:
        page.goto("about:blank")
        filled(page, url, tab)
        page.wait_for_timeout(300)
        photographed(page, f"playground-{tab.lower()}-{scheme}-{size['width']}")
        assert page.evaluate("() => document.documentElement.scrollWidth - innerWidth") <= 0
        assert not [(ratio, text) for ratio, text in page.evaluate(CONTRAST) if ratio < 4.5]
        for line in page.locator("body").aria_snapshot().splitlines():
            kinds = "button|link|textbox|searchbox|checkbox|slider|spinbutton|combobox|tab|progressbar"
            assert not re.fullmatch(rf"\s*- ({kinds})(:.*)?", line), line
        ids = page.evaluate("() => [...document.querySelectorAll('[id]')].map(({ id }) => id)")
        assert len(ids) == len(set(ids))
    assert all(address.startswith((url, "blob:", "about:")) for address in asked_for)


@pytest.mark.slow
def test_a_token_is_asked_for_and_kept_in_this_tab_alone(page: Page, world: World, tmp_path: Path) -> None:
    token = "a-token-of-the-picture-desk"  # noqa: S105  # of a service on loopback that ends with the test
    (tmp_path / "tokens").write_text(token)
    with played.playing(world, "--token-file", str(tmp_path / "tokens")) as process:
        page.goto(process.url)
        door = page.get_by_role("dialog", name="Sign in")
        door.get_by_label("Token").fill("not-the-right-token")
        door.get_by_label("Token").press("Enter")
        expect(door.get_by_role("alert")).to_contain_text("not taken")
        door.get_by_label("Token").fill(token)
        door.get_by_label("Token").press("Enter")
        panel = page.get_by_role("tabpanel", name="Draw")
        panel.get_by_label("What to draw").fill(GREEN)
        asked(panel)
        assert page.evaluate("() => [document.cookie, localStorage.length]") == ["", 0]
        page.get_by_role("button", name="Sign out").click()
        expect(door).to_be_visible()
