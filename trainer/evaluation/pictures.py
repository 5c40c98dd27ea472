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
    """F1 of edges: those found near a true one, and true ones near one that was found. Where neither map has
    any, 1; where one alone has none, 0.
    """
    return float(edge_f1_each(found[None], true[None])[0, 0])


def edge_f1_each(maps: Pixels, others: Pixels) -> NDArray[np.float64]:
    """[N, M]: :func:`edge_f1` of every map [N, H, W, 3] as found, against every other [M, H, W, 3]."""
    found, true = (np.stack([is_edge(one) for one in some]) for some in (maps, others))
    found_NP, near_found_NP = (_flat(some) for some in (found, [widened(one) for one in found]))
    true_MP, near_true_MP = (_flat(some) for some in (true, [widened(one) for one in true]))
    num_found_N1, num_true_1M = found_NP.sum(1)[:, None], true_MP.sum(1)[None]
    precision_NM = (found_NP @ near_true_MP.T) / np.maximum(1, num_found_N1)
    recall_NM = (near_found_NP @ true_MP.T) / np.maximum(1, num_true_1M)
    both_NM = (precision_NM + recall_NM).astype(np.float64)
    scores_NM: NDArray[np.float64] = np.divide(
        2 * precision_NM * recall_NM, both_NM, out=np.zeros_like(both_NM), where=both_NM > 0
    )
    scores_NM[(num_found_N1 == 0) & (num_true_1M == 0)] = 1.0
    return scores_NM


def _flat(maps: Sequence[Mask] | Mask) -> NDArray[np.float32]:
    """[N, H x W]"""
    return np.stack([one.ravel() for one in maps]).astype(np.float32)


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


def cropped(picture: Pixels, box: Box) -> Pixels:
    """What is in a box."""
    at = box.scaled(picture.shape[0])
    return picture[at.y0 : at.y1, at.x0 : at.x1]
