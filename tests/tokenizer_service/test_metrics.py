"""PSNR, SSIM, codebook use and the Fréchet distance, against closed forms."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenizer_service import metrics

RNG = np.random.default_rng(0)
PHOTO_BHWC = RNG.integers(0, 256, (3, 16, 20, 3), dtype=np.uint8)


@given(st.integers(1, 255))
def test_a_constant_error_has_the_psnr_of_its_size(error: int) -> None:
    dark = np.zeros((2, 4, 4, 3), np.uint8)
    expected = 20 * np.log10(255 / error)
    assert metrics.psnr_each(dark, dark + np.uint8(error)) == pytest.approx([expected] * 2)
    assert metrics.pooled_psnr(dark, dark + np.uint8(error)) == pytest.approx(expected)


def test_errors_do_not_wrap_around_in_eight_bits() -> None:
    dark, light = np.zeros((1, 2, 2, 3), np.uint8), np.full((1, 2, 2, 3), 255, np.uint8)
    assert metrics.pooled_psnr(dark, light) == metrics.pooled_psnr(light, dark) == 0


def test_equal_images_are_infinitely_alike() -> None:
    assert np.isinf(metrics.psnr_each(PHOTO_BHWC, PHOTO_BHWC)).all()
    assert metrics.ssim_each(PHOTO_BHWC, PHOTO_BHWC) == pytest.approx([1.0] * 3)


def test_one_bad_image_weighs_more_in_the_pooled_psnr() -> None:
    seen = PHOTO_BHWC.copy()
    seen[0] = 255 - seen[0]
    seen[1:] = np.where(seen[1:] < 255, seen[1:] + 1, 254)
    assert metrics.pooled_psnr(PHOTO_BHWC, seen) < metrics.psnr_each(PHOTO_BHWC, seen).mean()


def test_the_mask_chooses_which_pixels_count() -> None:
    seen = PHOTO_BHWC.copy()
    seen[:, :4] = 255 - seen[:, :4]
    below = np.zeros(seen.shape[:3], bool)
    below[:, 4:] = True
    assert np.isinf(metrics.pooled_psnr(PHOTO_BHWC, seen, mask_BHW=below))
    assert metrics.pooled_psnr(PHOTO_BHWC, seen, mask_BHW=~below) < metrics.pooled_psnr(PHOTO_BHWC, seen)
    with pytest.raises(ValueError, match="mask is empty"):
        metrics.pooled_psnr(PHOTO_BHWC, seen, mask_BHW=np.zeros_like(below))


def test_ssim_of_flat_images_is_the_term_of_their_brightness() -> None:
    dark, light = np.full((1, 11, 11, 3), 100, np.uint8), np.full((1, 11, 11, 3), 120, np.uint8)
    c1 = (0.01 * 255) ** 2
    assert metrics.ssim_each(dark, light) == pytest.approx((2 * 100 * 120 + c1) / (100**2 + 120**2 + c1))


def test_ssim_sees_lost_structure_that_keeps_the_mean() -> None:
    blurred = np.broadcast_to(PHOTO_BHWC.mean(axis=(1, 2), keepdims=True), PHOTO_BHWC.shape).astype(np.uint8)
    assert (metrics.ssim_each(PHOTO_BHWC, blurred) < 0.1).all()
    assert metrics.ssim_each(PHOTO_BHWC, blurred) == pytest.approx(metrics.ssim_each(blurred, PHOTO_BHWC))


def test_images_of_two_shapes_are_refused() -> None:
    for measure in (metrics.psnr_each, metrics.ssim_each, metrics.pooled_psnr):
        with pytest.raises(ValueError, match="shape"):
            measure(PHOTO_BHWC, PHOTO_BHWC[:, 1:])
    with pytest.raises(ValueError, match="at least 11"):
        metrics.ssim_each(PHOTO_BHWC[:, :10], PHOTO_BHWC[:, :10])


@given(st.integers(1, 50), st.integers(1, 5))
def test_codes_that_are_equally_frequent_have_their_number_as_perplexity(num_codes: int, times: int) -> None:
    use = metrics.codebook_use(np.repeat(np.arange(num_codes), times), 50)
    assert use.used == num_codes / 50
    assert use.perplexity == pytest.approx(num_codes)


@pytest.mark.parametrize("codes", [[], [4], [-1]])
def test_codes_outside_the_codebook_are_refused(codes: list[int]) -> None:
    with pytest.raises(ValueError, match="codes must be in"):
        metrics.codebook_use(np.array(codes, np.int64), 4)


@given(st.floats(0.1, 10), st.floats(-5, 5))
def test_the_distance_of_scaled_and_moved_features_has_a_closed_form(scale: float, shift: float) -> None:
    first = RNG.standard_normal((60, 8))
    variance = first.var(axis=0, ddof=1).sum()
    expected = np.square(first.mean(axis=0) * (scale - 1) + shift).sum() + variance * (scale - 1) ** 2
    assert metrics.frechet_distance(first, first * scale + shift) == pytest.approx(
        expected, rel=1e-6, abs=1e-6
    )


def test_the_distance_is_exact_with_fewer_rows_than_features() -> None:
    first, second = RNG.standard_normal((5, 40)), RNG.standard_normal((7, 40))
    a, b = np.cov(first.T), np.cov(second.T)
    roots = np.sqrt(np.clip(np.linalg.eigvals(a @ b).real, 0, None)).sum()
    expected = np.square(first.mean(0) - second.mean(0)).sum() + np.trace(a + b) - 2 * roots
    assert metrics.frechet_distance(first, second) == pytest.approx(expected, rel=1e-6)


def test_the_distance_to_itself_is_zero_and_features_must_agree() -> None:
    first = RNG.standard_normal((5, 40)).astype(np.float32)
    assert metrics.frechet_distance(first, first[::-1]) == pytest.approx(0, abs=1e-6)
    for other in (first[:, 1:], first[:1]):
        with pytest.raises(ValueError, match="at least 2"):
            metrics.frechet_distance(first, other)
