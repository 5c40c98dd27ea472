"""Scores of pictures against what they should show: error in a region, edges met, boxes hit.

The surprising rule: a tolerance in pixels is one of the grid of 256, whatever the picture's side: two pixels
of a picture of 64 are an eye.

H, W height and width; N, M pictures.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.colors import Pixels
from pipeline.duplicates import DuplicateConfig, alike
from pipeline.likeness import perceptual, signatures
from tokenizer_service.metrics import MAX_PSNR_DB, PEAK
from trainer.instruct import edits, scenes
from trainer.instruct.scenes import GRID, Box, Mask

TOLERANCE = 2
"""Pixels of the grid of 256 by which an edge may be off."""
GROUND = 32
"""Levels by which a drawn ground may differ from its color."""
HIT = 0.5
"""IoU from which a box is hit: PASCAL VOC's (Everingham et al., IJCV 88, 2010)."""


def psnr(true: Pixels, seen: Pixels, mask: Mask | None = None) -> float:
    """In dB, of the pixels of ``mask`` [H, W] or of all; 100 where they are equal."""
    error = np.square(true.astype(np.float64) - seen)
    mean = float(error.mean() if mask is None else error[mask].mean())
    return MAX_PSNR_DB if mean == 0 else min(MAX_PSNR_DB, 10 * float(np.log10(PEAK**2 / mean)))


def likeness(one: Pixels, two: Pixels) -> float:
    """1 - mean difference, of pictures in [0, 1]."""
    return 1.0 - float(np.abs(one.astype(np.float64) - two).mean()) / PEAK


def edge_f1(found: Pixels, true: Pixels) -> float:
    """F1 of edges: those found near a true one, and true ones near one that was found."""
    found_HW, true_HW = is_edge(found), is_edge(true)
    if not found_HW.any() or not true_HW.any():
        return float(found_HW.any() == true_HW.any())
    precision, recall = widened(true_HW)[found_HW].mean(), widened(found_HW)[true_HW].mean()
    return float(2 * precision * recall / (precision + recall)) if precision + recall else 0.0


def edge_f1_each(maps: Pixels, others: Pixels) -> NDArray[np.float64]:
    """[N, M]: :func:`edge_f1` of every map [N, H, W, 3] as found, against every other [M, H, W, 3]."""
    found, true = (np.stack([is_edge(one).ravel() for one in some]) for some in (maps, others))
    near_found, near_true = (
        np.stack([widened(is_edge(one)).ravel() for one in some]).astype(np.float32)
        for some in (maps, others)
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = (found.astype(np.float32) @ near_true.T) / found.sum(1)[:, None]
        recall = (near_found @ true.astype(np.float32).T) / true.sum(1)[None]
        scores = 2 * precision * recall / (precision + recall)
    scores_NM: NDArray[np.float64] = np.nan_to_num(scores.astype(np.float64))
    return scores_NM


def is_edge(picture: Pixels) -> Mask:
    """[H, W]"""
    return np.asarray(picture.max(axis=2) > 127)


def widened(edges: Mask) -> Mask:
    """Edges with all that is within the tolerance of one."""
    reach = max(1, round(TOLERANCE * edges.shape[0] / GRID))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    return np.asarray(cv2.dilate(edges.astype(np.uint8), kernel) > 0)


def flattened(picture: Pixels) -> Pixels:
    """What is within 32 levels of the border's color, as that color: a ground is plain again behind a
    tokenizer.

    Of 200 true edits of color behind one of 20 dB the word was read off 2 % as they were, and off 95 % so.
    """
    smooth = cv2.medianBlur(picture, 3)
    border = np.concatenate([smooth[0], smooth[-1], smooth[:, 0], smooth[:, -1]]).astype(np.int16)
    ground = np.median(border, axis=0)
    flat = picture.copy()
    flat[np.abs(smooth.astype(np.int16) - ground).max(axis=2) <= GROUND] = np.rint(ground)
    return flat


def thing_color(picture: Pixels) -> str | None:
    """The color word of what stands on such a ground."""
    flat = flattened(picture)
    found = scenes.foreground(flat)
    return None if found is None else edits.color_of(flat, found.mask)


def ground_color(picture: Pixels) -> str | None:
    """The color word of such a ground."""
    return edits.ground_of(flattened(picture))


def best_ious(wanted: Sequence[Box], found: Sequence[Box]) -> list[float]:
    """For every box that is wanted, the IoU of the best that was found; none is found twice.

    The largest overlap is taken first.
    """
    pairs = sorted(
        ((one.iou(other), i, j) for i, one in enumerate(wanted) for j, other in enumerate(found)),
        reverse=True,
    )
    best, taken = [0.0] * len(wanted), set[int]()
    done = set[int]()
    for iou, i, j in pairs:
        if i not in done and j not in taken:
            best[i] = iou
            done.add(i)
            taken.add(j)
    return best


def hit_rate(wanted: Sequence[Box], found: Sequence[Box]) -> float:
    """Share of the boxes that something was found in."""
    return sum(iou >= HIT for iou in best_ious(wanted, found)) / len(wanted)


def near_duplicates(drawn: Sequence[Pixels], known: Sequence[Pixels]) -> NDArray[np.bool_]:
    """[N]: whether a picture is one of the known ones again, as the pipeline's dedup judges it: perceptual
    hashes within 8 bits, then edges and colours.
    """
    config = DuplicateConfig()
    found = signatures.measured([*drawn, *known])
    hashes, _ = perceptual.hashes([*drawn, *known])
    apart_NM = np.bitwise_count(hashes[: len(drawn), None] ^ hashes[None, len(drawn) :])
    rows, columns = np.nonzero(apart_NM <= config.max_hamming)
    same_P = alike(found, np.stack([rows, columns + len(drawn)], 1), config)
    return np.isin(np.arange(len(drawn)), rows[same_P])
