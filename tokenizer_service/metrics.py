"""How good a tokenizer is: PSNR, SSIM, use of the codebook, Fréchet distance.

Surprising rule: a PSNR over several images has two usual meanings, the mean over images and that of the mean
error; they differ by a decibel here, so each has its own function.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

# B images, H height, W width, C channels, N rows, D features, T codes
Pixels = NDArray[np.uint8]

PEAK = 255.0
_WINDOW = 11
_SIGMA = 1.5


def psnr_each(true_BHWC: Pixels, seen_BHWC: Pixels) -> NDArray[np.float64]:
    """Peak signal-to-noise ratio of each image in dB; infinite where equal."""
    return _decibels(_squared_error(true_BHWC, seen_BHWC).mean(axis=(1, 2, 3)))


def pooled_psnr(true_BHWC: Pixels, seen_BHWC: Pixels, *, mask_BHW: NDArray[np.bool_] | None = None) -> float:
    """PSNR in dB of the error averaged over all images, or over the pixels of ``mask_BHW``."""
    error_BHWC = _squared_error(true_BHWC, seen_BHWC)
    if mask_BHW is None:
        return float(_decibels(error_BHWC.mean()))
    if not mask_BHW.any():
        raise ValueError("the mask is empty, so there is no error to average; give images with some opacity")
    return float(_decibels(error_BHWC[mask_BHW].mean()))


def _squared_error(true_BHWC: Pixels, seen_BHWC: Pixels) -> NDArray[np.float64]:
    if true_BHWC.shape != seen_BHWC.shape:
        raise ValueError(f"images to compare must have one shape, got {true_BHWC.shape}, {seen_BHWC.shape}")
    return np.square(true_BHWC.astype(np.float64) - seen_BHWC)


def _decibels(error: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(divide="ignore"):
        return 10 * np.log10(PEAK**2 / np.asarray(error))


def ssim_each(true_BHWC: Pixels, seen_BHWC: Pixels) -> NDArray[np.float64]:
    """Structural similarity of each image, in [-1, 1], mean over channels and places.

    Wang et al., IEEE TIP 2004: a Gaussian window of 11 pixels with sigma 1.5, only where it fits.
    """
    if true_BHWC.shape != seen_BHWC.shape or min(true_BHWC.shape[1:3]) < _WINDOW:
        raise ValueError(
            f"SSIM compares images of one shape, at least {_WINDOW} pixels a side; "
            f"got {true_BHWC.shape}, {seen_BHWC.shape}"
        )
    return np.array([_ssim(true, seen) for true, seen in zip(true_BHWC, seen_BHWC, strict=True)])


def _ssim(true_HWC: Pixels, seen_HWC: Pixels) -> float:
    x, y = true_HWC.astype(np.float64), seen_HWC.astype(np.float64)
    mean_x, mean_y = _blur(x), _blur(y)
    var_x, var_y = _blur(x * x) - mean_x**2, _blur(y * y) - mean_y**2
    shared = _blur(x * y) - mean_x * mean_y
    c1, c2 = (0.01 * PEAK) ** 2, (0.03 * PEAK) ** 2
    light = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    return float((light * (2 * shared + c2) / (var_x + var_y + c2)).mean())


def _blur(plane_HWC: NDArray[np.float64]) -> NDArray[np.float64]:
    away = np.arange(_WINDOW) - _WINDOW // 2
    weights = np.exp(-(away**2) / (2 * _SIGMA**2))
    weights /= weights.sum()
    rows = sliding_window_view(plane_HWC, _WINDOW, axis=0) @ weights
    return np.asarray(sliding_window_view(rows, _WINDOW, axis=1) @ weights)


@dataclass(frozen=True, slots=True, kw_only=True)
class CodebookUse:
    used: float
    """Share of the codebook that occurs at all, in [0, 1]."""
    perplexity: float
    """Codes that would be as hard to guess if all were equally frequent, in [1, size]."""


def codebook_use(codes: NDArray[np.integer], size: int) -> CodebookUse:
    """How much of a codebook of ``size`` codes an array of codes makes use of.

    >>> codebook_use(np.array([0, 0, 3, 3]), 4)
    CodebookUse(used=0.5, perplexity=2.0)
    """
    if not codes.size or codes.min() < 0 or codes.max() >= size:
        raise ValueError(f"codes must be in [0, {size}) and at least one; got {codes.size} of them")
    counts = np.bincount(codes.reshape(-1), minlength=size)
    share = counts[counts > 0] / counts.sum()
    entropy = -(share * np.log2(share)).sum()
    return CodebookUse(used=share.size / size, perplexity=float(2**entropy))


def frechet_distance(first_ND: NDArray[np.floating], second_ND: NDArray[np.floating]) -> float:
    """Squared Fréchet distance of the Gaussians fitted to two sets of features (Heusel et al., 1706.08500).

    tr (A B)^1/2 of two covariances A = X'X and B = Y'Y is the sum of the singular values of X Y'. So no
    matrix is squared and none needs a root: the result is exact for fewer rows than features as well.
    """
    if first_ND.shape[1:] != second_ND.shape[1:] or min(len(first_ND), len(second_ND)) < 2:
        raise ValueError(f"two sets of at least 2 equal vectors, got {first_ND.shape}, {second_ND.shape}")
    first, second = first_ND.astype(np.float64), second_ND.astype(np.float64)
    x, y = _root(first), _root(second)
    cross = np.linalg.svd(x @ y.T, compute_uv=False).sum()
    means = np.square(first.mean(axis=0) - second.mean(axis=0)).sum()
    return max(0.0, float(means + np.square(x).sum() + np.square(y).sum() - 2 * cross))


def _root(rows_ND: NDArray[np.float64]) -> NDArray[np.float64]:
    """X, at most [D, D], with X'X the covariance of the rows."""
    centered_ND = (rows_ND - rows_ND.mean(axis=0)) / np.sqrt(len(rows_ND) - 1)
    root: NDArray[np.float64] = np.linalg.qr(centered_ND).R
    return root
