"""The offline encoder: pinned files, one text at a time, and ConSE between its two sides."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from infra.storage import cache_folder
from retrieval import encoders, offline
from retrieval.encoders import Encoder
from retrieval.offline import OfflineEncoder, Sentences
from tokenizer_service import features

pytestmark = pytest.mark.long

LONG = "an umbrella in the rain beside a small red house on a hill, seen from far away at night"


@pytest.fixture(scope="module")
def encoder() -> OfflineEncoder:
    """From the cache that the pipeline uses, since its thousand sentences take seconds the first time."""
    return OfflineEncoder.load(cache_folder() / "weights")


@pytest.fixture(scope="module")
def sentences() -> Sentences:
    return Sentences.load()


@settings(max_examples=20)
@given(texts=st.lists(st.text(max_size=40), max_size=4))
def test_a_text_has_the_same_bits_alone_and_in_company(sentences: Sentences, texts: Sequence[str]) -> None:
    together_BD = sentences.vectors([LONG, *texts])
    for row, text in enumerate([LONG, *texts]):
        assert np.array_equal(sentences.vectors([text])[0], together_BD[row])
    assert np.abs(np.linalg.norm(together_BD, axis=1) - 1).max() < 1e-6


def test_sentences_that_mean_the_same_are_close(sentences: Sentences) -> None:
    """The first row of a table measured with the same weights: 1.00, 0.75, 0.15, 0.04."""
    texts = [
        "a cat sleeping on a sofa",
        "a kitten resting on the couch",
        "a rocket launch at night",
        "espresso in a cup",
    ]
    vectors_BD = sentences.vectors(texts)
    assert np.abs(vectors_BD[0] @ vectors_BD.T - [1.0, 0.75, 0.15, 0.04]).max() < 0.03


def test_a_text_longer_than_the_model_reads_is_cut(sentences: Sentences) -> None:
    start = "word " * (offline.MAX_PIECES - 2)
    assert np.array_equal(sentences.vectors([start + "apple"]), sentences.vectors([start]))
    assert not np.array_equal(sentences.vectors([start[:-5] + "apple"]), sentences.vectors([start]))


def test_images_are_features_beside_conse(encoder: OfflineEncoder) -> None:
    images_BHWC = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    given_BF = encoder.image_features(images_BHWC)
    features_BF, logits_BL = encoder.backbone.features_and_logits(images_BHWC)
    assert given_BF.shape == (2, encoder.image_width) == (2, features.WIDTH + 384)
    assert np.array_equal(given_BF[:, : features.WIDTH], features_BF)
    assert np.array_equal(given_BF[:, features.WIDTH :], offline.conse(logits_BL, encoder.class_vectors))


def test_an_image_of_one_class_stands_where_its_name_stands(encoder: OfflineEncoder) -> None:
    """The softmax of a lone high logit is one-hot, so the class's own prompt is the nearest of all."""
    from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES  # noqa: PLC0415  # takes 5 s

    number = IMAGENET_CLASSNAMES.index("espresso")
    logits_1L = np.zeros((1, features.NUM_CLASSES), np.float32)
    logits_1L[0, number] = 30
    (vector_D,) = offline.conse(logits_1L, encoder.class_vectors)
    (prompt_D,) = encoder.text_features([offline.PROMPT.format("espresso")])
    assert vector_D @ prompt_D == pytest.approx(1, abs=1e-5)
    assert np.argmax(encoder.class_vectors @ vector_D) == number


@given(seed=st.integers(0, 100), shift=st.floats(-50, 50))
def test_conse_mixes_the_ten_likeliest_and_ignores_a_shift_of_all_logits(seed: int, shift: float) -> None:
    rng = np.random.default_rng(seed)
    logits_BL, classes_LD = (
        rng.normal(0, 3, (2, 40)).astype(np.float32),
        rng.normal(size=(40, 5)).astype(np.float32),
    )
    mixed_BD = offline.conse(logits_BL, classes_LD)
    likeliest_BT = np.argsort(-logits_BL, axis=1)[:, :10]
    for row in range(2):
        chosen = likeliest_BT[row]
        weights_T = np.exp(logits_BL[row, chosen].astype(np.float64))
        expected_D = weights_T @ classes_LD[chosen] / weights_T.sum()
        assert np.abs(mixed_BD[row] - expected_D).max() < 1e-5
    lowered_BL = logits_BL.copy()
    np.put_along_axis(lowered_BL, np.argsort(-logits_BL, axis=1)[:, 10:], -99, axis=1)
    assert np.array_equal(offline.conse(lowered_BL, classes_LD), mixed_BD)
    shifted_BL = (logits_BL.astype(np.float64) + shift).astype(np.float32)
    assert np.abs(offline.conse(shifted_BL, classes_LD) - mixed_BD).max() < 1e-3


def test_the_fingerprint_is_known_before_anything_is_loaded(encoder: OfflineEncoder) -> None:
    one: Encoder = encoder
    assert one.fingerprint == encoders.OFFLINE == offline.FINGERPRINT
    assert encoders.weights_identity("offline", "", "") == encoders.OFFLINE


def test_class_vectors_are_kept_and_a_wrong_file_is_refused(encoder: OfflineEncoder, tmp_path: Path) -> None:
    file = tmp_path / "classes.safetensors"
    save_file({"classes": encoder.class_vectors[:10]}, file)
    with pytest.raises(ValueError, match="not class vectors"):
        offline._class_vectors(encoder.sentences, file)  # noqa: SLF001  # loading all of it takes seconds
    save_file({"classes": encoder.class_vectors}, file)
    written = file.stat().st_mtime_ns
    kept_LD = offline._class_vectors(encoder.sentences, file)  # noqa: SLF001  # as above
    assert np.array_equal(kept_LD, encoder.class_vectors)
    assert file.stat().st_mtime_ns == written


def test_a_checkpoint_is_known_by_its_bytes_and_a_tag_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"one")
    (tmp_path / "b").write_bytes(b"one")
    (tmp_path / "c").write_bytes(b"two")
    a, b, c = (encoders.weights_identity("open_clip", "ViT-B-32", str(tmp_path / name)) for name in "abc")
    assert a == b != c
    assert encoders.weights_identity("open_clip", "ViT-B-32", "openai") == "ViT-B-32:openai"


def test_a_zero_vector_stays_zero_when_it_is_normalised() -> None:
    vectors_BD = np.array([[3, 4], [0, 0]], np.float32)
    assert np.abs(encoders.normalised(vectors_BD) - [[0.6, 0.8], [0, 0]]).max() < 1e-7
