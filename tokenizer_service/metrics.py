"""How good a tokenizer is: PSNR, SSIM, use of the codebook. :mod:`tokenizer_service.frechet` has the rest.

Surprising rule: a PSNR over several images has two usual meanings, the mean over images and that of the mean
error; they differ by a decibel here, so each has its own function.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

# B images, H height, W width, C channels, T codes, K codebook size
Pixels = NDArray[np.uint8]

PEAK = 255.0
MAX_PSNR_DB = 100.0
"""What an image without any error counts for in a mean."""
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
    x, y = (image_HWC.transpose(2, 0, 1).astype(np.float64) for image_HWC in (true_HWC, seen_HWC))
    mean_x, mean_y = _blur(x), _blur(y)
    var_x, var_y = _blur(x * x) - mean_x**2, _blur(y * y) - mean_y**2
    shared = _blur(x * y) - mean_x * mean_y
    c1, c2 = (0.01 * PEAK) ** 2, (0.03 * PEAK) ** 2
    light = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    return float((light * (2 * shared + c2) / (var_x + var_y + c2)).mean())


def _blur(planes_CHW: NDArray[np.float64]) -> NDArray[np.float64]:
    blurred: NDArray[np.float64] = (
        _windows(planes_CHW.shape[1]) @ planes_CHW @ _windows(planes_CHW.shape[2]).T
    )
    return blurred


@lru_cache(maxsize=8)
def _windows(length: int) -> NDArray[np.float64]:
    """Each row weighs a window [length - 10, length]: products are quicker than views."""
    away = np.arange(length) - _WINDOW // 2 - np.arange(length - _WINDOW + 1)[:, None]
    weights = np.where(abs(away) <= _WINDOW // 2, np.exp(-(away**2) / (2 * _SIGMA**2)), 0.0)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


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
    return use_of(code_counts(codes, size))


def code_counts(codes: NDArray[np.integer], size: int) -> NDArray[np.int64]:
    """How often each code occurs [K]; counts of several arrays may be added."""
    if codes.size and (codes.min() < 0 or codes.max() >= size):
        raise ValueError(f"codes must be in [0, {size}), got [{codes.min()}, {codes.max()}]")
    return np.bincount(codes.reshape(-1).astype(np.int64), minlength=size)


def use_of(counts_K: NDArray[np.number[Any]]) -> CodebookUse:
    if not counts_K.any():
        raise ValueError("no code was counted, so there is no use to tell; give at least one image")
    share = counts_K[counts_K > 0] / counts_K.sum()
    entropy = -(share * np.log2(share)).sum()
    return CodebookUse(used=share.size / len(counts_K), perplexity=float(2**entropy))


@dataclass(slots=True)
class Tally:
    """Quality of the images seen so far, all of one size: sums alone are kept."""

    images: int = 0
    psnr: float = 0.0
    ssim: float = 0.0
    error: float = 0.0
    """Sums over the images; the error is the mean square of each."""

    def add(self, psnr_B: NDArray[np.float64], ssim_B: NDArray[np.float64]) -> None:
        """PSNR in dB, as :func:`psnr_each` gives it."""
        self.images += len(psnr_B)
        self.error += float((PEAK**2 * 10 ** (-psnr_B / 10)).sum())
        self.psnr += float(np.minimum(psnr_B, MAX_PSNR_DB).sum())
        self.ssim += float(ssim_B.sum())

    def means(self) -> dict[str, float]:
        """Mean PSNR over images, PSNR of the mean error, mean SSIM; of at least one image."""
        pooled = float(_decibels(np.asarray(self.error / self.images)))
        return {
            "psnr_mean_db": self.psnr / self.images,
            "psnr_pooled_db": min(pooled, MAX_PSNR_DB),
            "ssim": self.ssim / self.images,
        }
