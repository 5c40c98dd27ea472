"""PSNR, SSIM and codebook use, against closed forms."""

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


@pytest.mark.parametrize(
    ("codes", "told"), [([], "no code was counted"), ([4], "in .0, 4"), ([-1], "in .0, 4")]
)
def test_codes_outside_the_codebook_and_none_at_all_are_refused(codes: list[int], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        metrics.codebook_use(np.array(codes, np.int64), 4)


def test_use_may_be_counted_batch_by_batch() -> None:
    codes = RNG.integers(0, 30, 200)
    parts = sum(metrics.code_counts(part, 50) for part in np.split(codes, [10, 10, 90]))
    assert metrics.use_of(parts) == metrics.codebook_use(codes, 50)


def test_a_tally_of_batches_has_the_means_of_all_images() -> None:
    seen = PHOTO_BHWC.copy()
    seen[0] = 255 - seen[0]
    seen[1] //= 2
    tally = metrics.Tally()
    for here in (slice(0, 2), slice(2, 3)):
        true, drawn = PHOTO_BHWC[here], seen[here]
        tally.add(metrics.psnr_each(true, drawn), metrics.ssim_each(true, drawn))
    psnr = metrics.psnr_each(PHOTO_BHWC, seen)
    assert np.isinf(psnr[2])
    assert tally.means() == {
        "psnr_mean_db": pytest.approx((psnr[0] + psnr[1] + metrics.MAX_PSNR_DB) / 3),
        "psnr_pooled_db": pytest.approx(metrics.pooled_psnr(PHOTO_BHWC, seen)),
        "ssim": pytest.approx(metrics.ssim_each(PHOTO_BHWC, seen).mean()),
    }


def test_ssim_is_that_of_a_loop_over_windows() -> None:
    """Written out from Wang et al. 2004, a window at a time."""
    seen = np.clip(PHOTO_BHWC.astype(int) + RNG.integers(-40, 40, PHOTO_BHWC.shape), 0, 255).astype(np.uint8)
    away = np.arange(11) - 5
    weights = np.exp(-(away[:, None] ** 2 + away**2) / (2 * 1.5**2))
    weights /= weights.sum()
    found = []
    for top, left, channel in np.ndindex(16 - 10, 20 - 10, 3):
        x, y = (
            image[0, top : top + 11, left : left + 11, channel].astype(float) for image in (PHOTO_BHWC, seen)
        )
        mx, my = (weights * x).sum(), (weights * y).sum()
        vx, vy = (weights * (x - mx) ** 2).sum(), (weights * (y - my) ** 2).sum()
        both = (weights * (x - mx) * (y - my)).sum()
        c1, c2 = 0.01**2 * 255**2, 0.03**2 * 255**2
        found.append((2 * mx * my + c1) * (2 * both + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2)))
    assert metrics.ssim_each(PHOTO_BHWC[:1], seen[:1]) == pytest.approx([np.mean(found)])
