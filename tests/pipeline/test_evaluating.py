"""`tokenizer eval`: the numbers are those of all pictures, the page shows what may be shown."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from infra.cli import MISTAKE, run
from pipeline.tokenizer import evalpage, heldout
from pipeline.tokenizer.evaluating import numbers
from pipeline.tokenizer.reconstructing import PICKED, Measured, Picture, measure
from tests.pipeline.test_pages import HOSTILE, Parsed
from tokenizer_service import coding, frechet, metrics, vq
from tokenizer_service.coding import Numerics
from tokenizer_service.frechet import Moments
from tokenizer_service.vq import VQConfig

SIDE, CODES = 32, 64
MODEL = vq.new(VQConfig(codebook_size=CODES), torch.Generator().manual_seed(0)).eval()
RNG = np.random.default_rng(0)
TRUE = RNG.integers(0, 256, (20, SIDE, SIDE, 3), dtype=np.uint8)


def means(images_BHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
    """A network of three features."""
    return images_BHWC.mean(axis=(1, 2)).astype(np.float32)


def picture(number: int, **changes: object) -> Picture:
    facts = {"name": f"acme:{number:02d}", "groups": ("even",) if number % 2 == 0 else ("odd", "all")}
    return Picture(**{**facts, "may_be_shown": True, "pixels": TRUE[number], **changes})  # type: ignore[arg-type]  # one at a time


PICTURES = [picture(number) for number in range(len(TRUE))]


def measured(pictures: Sequence[Picture], *, batch_images: int = 8) -> Measured:
    return measure(pictures, MODEL, networks={"rfd": means}, numerics=Numerics(batch_images=batch_images))


FOUND = measured(PICTURES)


def test_numbers_are_those_of_all_pictures_at_once() -> None:
    codes = coding.encode_images(MODEL, TRUE, numerics=Numerics(batch_images=8))
    seen = coding.decode_codes(MODEL, codes, numerics=Numerics(batch_images=8))
    use = metrics.codebook_use(codes, CODES)
    found = numbers(FOUND)
    assert found["images"] == 20
    assert found["psnr_mean_db"] == pytest.approx(metrics.psnr_each(TRUE, seen).mean())
    assert found["psnr_pooled_db"] == pytest.approx(metrics.pooled_psnr(TRUE, seen))
    assert found["ssim"] == pytest.approx(metrics.ssim_each(TRUE, seen).mean())
    assert (found["codes_used_here"], found["perplexity"]) == (use.used, use.perplexity)
    whole = frechet.distance(Moments.of(means(TRUE)), Moments.of(means(seen)))
    assert found["rfd"] == pytest.approx(whole, rel=1e-6)


def test_the_batch_and_the_order_of_pictures_decide_nothing_that_is_shown() -> None:
    other = measured(PICTURES[::-1], batch_images=8)
    for name, pairs in FOUND.picked.items():
        assert [pair.name for pair in other.picked[name]] == [pair.name for pair in pairs]
    assert other.histogram.tolist() == FOUND.histogram.tolist()
    assert other.all.means() == pytest.approx(FOUND.all.means())


def test_the_worst_and_the_best_are_shown_first_and_few() -> None:
    worst, best = ([pair.psnr_db for pair in FOUND.picked[name]] for name in ("worst", "best"))
    assert worst == sorted(worst)
    assert best == sorted(best, reverse=True)
    assert len(worst) == len(best) == len(FOUND.picked["random"]) == PICKED
    assert worst[0] < best[0]


def test_a_picture_counts_in_each_of_its_categories_the_largest_first() -> None:
    found = numbers(FOUND)["categories"]
    assert [(one["name"], one["images"]) for one in found] == [("all", 10), ("even", 10), ("odd", 10)]
    assert found[0]["psnr_mean_db"] == found[2]["psnr_mean_db"] != found[1]["psnr_mean_db"]
    both = (found[1]["psnr_mean_db"] + found[2]["psnr_mean_db"]) / 2
    assert numbers(FOUND)["psnr_mean_db"] == pytest.approx(both)


def test_a_single_picture_has_no_distance() -> None:
    assert numbers(measured(PICTURES[:1]))["rfd"] is None


def test_the_page_shows_no_picture_that_no_licence_shows_and_nothing_on_it_acts(tmp_path: Path) -> None:
    hidden = picture(3, name=HOSTILE, may_be_shown=False, groups=(HOSTILE,))
    found = measured([PICTURES[0], hidden])
    told = {"side": SIDE, "model": "m", "pictures": "p", "rfd_effnet": None, "rfid": None, "rfid_weights": ""}
    evalpage.write(tmp_path, {**numbers(found), **told}, found)
    page = Parsed((tmp_path / evalpage.PAGE).read_text())
    assert "script" not in {tag for tag, _ in page.elements}
    assert HOSTILE in page.words
    shown = [facts["src"] for tag, facts in page.elements if tag == "img"]
    assert len(shown) == 2 * 3  # true and drawn, in three strips
    assert all(source is not None and source.startswith("data:image/png;base64,") for source in shown)
    assert page.words.count("not shown") == 3
    with Image.open(tmp_path / "worst.png") as sheet:
        colors = np.asarray(sheet)
    assert (colors == evalpage.HIDDEN).all(axis=2).sum() > 2 * evalpage.LEAST_TILE**2 * 0.99


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number, name in enumerate(("fruit/apple.png", "fruit/pear.PNG", "cake.jpg")):
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(TRUE[number]).save(path)
    (tmp_path / "images" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (tmp_path / "images" / "notes.txt").write_text("no image")
    Image.fromarray(TRUE[0, :8, :8]).save(tmp_path / "images" / "tiny.png")
    return tmp_path / "images"


def test_a_folder_is_measured_by_its_folders_without_what_cannot_be(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = list(heldout.of_folder(folder, heldout.squares(SIDE, MODEL.config.preprocessing)))
    assert [(one.name, one.groups) for one in found] == [
        ("cake.jpg", (heldout.NO_GROUP,)),
        ("fruit/apple.png", ("fruit",)),
        ("fruit/pear.PNG", ("fruit",)),
    ]
    said = capsys.readouterr().err
    assert "left out: broken.png" in said
    assert "left out: tiny.png: 8x8 is too small" in said


@pytest.mark.long
def test_a_file_of_weights_is_measured_on_a_folder_without_any_corpus(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PARDALIS_CORPUS", raising=False)
    (tmp_path / "vq.safetensors").write_bytes(vq.save(MODEL))
    words = ["tokenizer", "eval", "--image", str(folder), "--model", str(tmp_path / "vq.safetensors")]
    assert run(words) == MISTAKE
    assert "--side" in capsys.readouterr().err
    assert run([*words, "--side", str(SIDE), "--out", str(tmp_path / "page"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["images"], found["side"], found["codebook_size"]) == (3, SIDE, CODES)
    assert found["rfd_effnet"] > 0
    assert found["rfid"] is None
    assert "--inception" in found["rfid_weights"]
    assert sorted(path.name for path in (tmp_path / "page").iterdir()) == [
        "best.png",
        "index.html",
        "random.png",
        "worst.png",
    ]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--out", "nowhere/page"], "there is no folder nowhere"),
        (["--out", "pyproject.toml"], "is a file"),
    ],
)
def test_a_page_that_cannot_be_is_refused_before_anything_is_opened(
    words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["tokenizer", "eval", "--corpus", "nowhere", *words]) == MISTAKE
    assert told in capsys.readouterr().err
