"""Conditioning maps of a picture: edges, strokes, regions, lines, depth and normals, by classical means.

The surprising rule: where the paper's map comes from a trained network, ours does not, and is another thing
under the same name: what each is stands in its docstring. A map made by such a network (HED, MiDaS,
Uniformer, M-LSD) may be delivered instead, and a map of poses (OpenPose) can only be.

H, W height and width of a picture, N labels or lines.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage import graph, morphology, segmentation

from pipeline.colors import Pixels
from trainer.instruct.scenes import foreground

Gray = NDArray[np.uint8]
Floats = NDArray[np.float32]

SPREAD = 0.33
"""Canny's upper threshold lies this share over the median of the grey levels, the lower at half of it."""
LEAST_EDGE, MOST_EDGE = 80, 200
"""Of the upper threshold: under 80 a JPEG's noise is an edge, over 200 nothing on white paper is."""
SOFT_SIGMAS = (1.0, 2.0, 4.0)
"""Blurs, in pixels of a picture of 256, whose gradients soft edges are the mean of."""
MIN_STROKE = 0.06
"""Of a side: a contour shorter than that is texture, and no child draws it."""
MIN_LINE = 0.06
"""Of a side."""
MERGED = 30.0
"""Distance of mean colours, in levels, under which neighbouring regions are one."""
PALETTE = (
    (0, 0, 0), (230, 25, 75), (60, 180, 75), (255, 225, 25), (0, 130, 200), (245, 130, 48), (145, 30, 180),
    (70, 240, 240), (240, 50, 230), (210, 245, 60), (250, 190, 212), (0, 128, 128), (220, 190, 255),
    (170, 110, 40), (255, 250, 200), (128, 0, 0),
)  # fmt: skip
"""Sixteen that are told apart (Trubetskoy, "List of 20 simple, distinct colors", 2017); then again."""


def canny_edge(picture: Pixels) -> Pixels:
    """Edges a pixel thin, white on black (Canny, IEEE TPAMI 8, 1986)."""
    return _rgb(_edges(picture))


def hed(picture: Pixels) -> Pixels:
    """Soft edges: the magnitude of gradients at three scales, white on black.

    Stands where HED, a trained network, would (arXiv 1504.06375): it marks texture that HED leaves out.
    """
    scale = picture.shape[0] / 256
    mean = np.mean([_gradient(picture, sigma * scale) for sigma in SOFT_SIGMAS], axis=0)
    top = max(float(np.percentile(mean, 99.5)), 1.0)
    return _rgb(np.rint(np.clip(mean / top, 0, 1) * 255).astype(np.uint8))


def scribble(picture: Pixels) -> Pixels:
    """Thick strokes along simplified contours, white on black: edges closed, thinned and straightened."""
    side = min(picture.shape[:2])
    kernel = np.ones((3, 3), np.uint8)
    closed = cv2.dilate(_edges(np.asarray(cv2.GaussianBlur(picture, (5, 5), 0), np.uint8)), kernel)
    thinned = morphology.skeletonize(closed > 0).astype(np.uint8)
    contours, _ = cv2.findContours(thinned, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    # A contour of a thin stroke goes there and back: half its length is the stroke's.
    strokes = [c for c in contours if cv2.arcLength(c, closed=True) / 2 >= MIN_STROKE * side]
    simple = [cv2.approxPolyDP(stroke, 0.01 * side, closed=True) for stroke in strokes]
    drawn = np.zeros(picture.shape[:2], np.uint8)
    cv2.polylines(drawn, simple, isClosed=True, color=255, thickness=max(2, round(side / 64)))
    return _rgb(drawn)


def segmentation_map(picture: Pixels) -> Pixels:
    """Regions in the fixed colours of :data:`PALETTE`, by how bright they are: the darkest gets the first.

    Regions of Felzenszwalb and Huttenlocher (IJCV 59, 2004), neighbours of like colour merged. They have no
    names: Uniformer's map, whose place this takes, tells by its colour what a region is of.
    """
    least = picture.shape[0] * picture.shape[1] // 200
    # A median keeps edges steep: without it the soft pixels along an outline become a region, a thin rim.
    steep = cv2.medianBlur(picture, 5)
    labels = segmentation.felzenszwalb(steep, scale=200, sigma=0, min_size=least)
    if labels.max() > 0:
        labels = graph.cut_threshold(labels, graph.rag_mean_color(steep, labels), MERGED)
    regions, labels = np.unique(labels, return_inverse=True)
    labels = labels.reshape(picture.shape[:2])
    light = np.bincount(labels.ravel(), cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).ravel())
    light_N = light / np.bincount(labels.ravel())
    rank_N = np.empty(len(regions), np.int64)
    rank_N[np.argsort(light_N, kind="stable")] = np.arange(len(regions))
    return np.array(PALETTE, np.uint8)[rank_N[labels] % len(PALETTE)]


def depth(picture: Pixels) -> Pixels | None:
    """An inflated silhouette, white is near: 0 on the ground, highest in the middle of the thing.

    No depth was measured or estimated: the height over a pixel is that of a balloon in the outline, the
    square root of its distance to the ground. None where the ground is not plain.
    """
    height = _height(picture)
    return None if height is None else _rgb(np.rint(height * 255).astype(np.uint8))


def normals(picture: Pixels) -> Pixels | None:
    """Unit normals of the inflated silhouette of :func:`depth`: (x right, y up, z to the eye) as (n + 1) / 2.

    The ground looks at the eye: (128, 128, 255). None where the ground is not plain.
    """
    height = _height(picture)
    if height is None:
        return None
    smooth = cv2.GaussianBlur(height, (0, 0), min(picture.shape[:2]) / 100) * min(picture.shape[:2]) / 4
    down, right = np.gradient(smooth)
    normal = np.stack([-right, down, np.ones_like(smooth)], axis=-1)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    return np.rint((normal + 1) * 127.5).astype(np.uint8)


def lines(picture: Pixels) -> Pixels:
    """Straight segments, white on black, found by LSD (Grompone von Gioi et al., IPOL 2012).

    Stands where M-LSD, a trained network, would (arXiv 2106.00186).
    """
    side = min(picture.shape[:2])
    detected = cv2.createLineSegmentDetector().detect(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY))[0]
    found = cast("Floats | None", detected)  # its stub does not know that no line at all is None
    drawn = np.zeros(picture.shape[:2], np.uint8)
    if found is None:
        return _rgb(drawn)
    ends_N = found.reshape(-1, 2, 2)
    long_N = np.linalg.norm(ends_N[:, 0] - ends_N[:, 1], axis=1) >= MIN_LINE * side
    for start, end in np.rint(ends_N[long_N]).astype(int).tolist():
        cv2.line(drawn, start, end, 255, max(1, round(side / 128)))
    return _rgb(drawn)


MAPS: Mapping[str, Callable[[Pixels], Pixels | None]] = MappingProxyType(
    {
        "canny edge": canny_edge,
        "hed": hed,
        "scribble": scribble,
        "segmentation": segmentation_map,
        "depth": depth,
        "normals": normals,
        "lines": lines,
    }
)
"""By the paper's names (arXiv 2309.02591, table 5). Each gives a map [H, W, 3] of the picture's size, or none
where the picture has no such map."""


def _rgb(gray: NDArray[np.integer]) -> Pixels:
    return np.repeat(gray.astype(np.uint8)[..., None], 3, axis=2)


def _edges(picture: Pixels) -> Gray:
    """[H, W]: 0 or 255."""
    gray = cv2.GaussianBlur(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), (3, 3), 0)
    high = float(np.clip((1 + SPREAD) * np.median(gray), LEAST_EDGE, MOST_EDGE))
    return np.asarray(cv2.Canny(gray, high / 2, high), np.uint8)


def _gradient(picture: Pixels, sigma: float) -> Floats:
    """[H, W]: the largest of the three channels' magnitudes, after a blur; larger blurs weigh the same."""
    smooth = cv2.GaussianBlur(picture.astype(np.float32), (0, 0), sigma)
    right, down = cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1)
    magnitude = np.hypot(right, down).max(axis=2) * sigma
    return np.asarray(magnitude, np.float32)


def _height(picture: Pixels) -> Floats | None:
    """[H, W] in [0, 1]."""
    found = foreground(picture)
    if found is None:
        return None
    inside = cv2.distanceTransform(found.mask.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return np.asarray(np.sqrt(inside / inside.max()), np.float32)
