"""How alike two images are: aligned thumbnails, then patches of their details.

One thumbnail is moved and scaled along both axes onto the other (Lucas and Kanade 1981, with gain and offset so that
recolouring does not matter), coarse shades are taken away, and two correlations are asked for: of the whole, and of the worst
patch (a tenth of width and height) that has structure in either image. Of images on flat ground the details are laid upon
each other by the same alignment, and every patch with structure (16 pixels a side, about a line of text) must be found in the
other within a pixel: another digit is not.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageFilter

from data_recipes.operations.image_hashes import SIDE, WINDOWS, ImageHash, differing_bits

SMOOTH_FIRST = 2.0  # sigma in pixels of the thumbnail before a first, coarse alignment
LEAST_BEFORE, LEAST_COARSE = (
    0.35,
    0.9,
)  # least correlation before and after it; 1 copy in 200 has less, 9 of 10 tables
SMOOTHING = 0.8  # sigma in pixels of the thumbnail, before thumbnails are compared
COARSE = 6.0  # sigma in pixels of what is taken away
MARGIN = 2  # pixels at each side that are not compared
PATCH, PATCHES = 9, 19  # the worst patch: pixels of its side, positions along an axis
STRUCTURE = 0.35  # patches with less than this share of the image's own contrast do not count
DETAIL_PATCH, DETAIL_BLUR = 16, 0.8  # pixels of the details: side of a patch, sigma of smoothing
DETAIL_STRUCTURE = (
    0.6  # as STRUCTURE: text has its image's full contrast, edges that clipping takes away have less
)


@dataclass(frozen=True)
class Likeness:
    """bits: Hamming distance of the closest hashes, of 256. correlation, worst_patch: of the aligned thumbnails, up to 1.
    detail: of the worst patch of the details; 1 where one of the images has none, -1 where thumbnails differ clearly."""

    bits: int
    correlation: float
    worst_patch: float
    detail: float


def likeness(a: ImageHash, b: ImageHash, bits: int = 256) -> Likeness:
    """How alike two images are; symmetric but for rounding. Farther than `bits` they are not aligned: correlation -1."""
    from_a = differing_bits(a.hashes, b.hashes[0])
    from_b = differing_bits(b.hashes, a.hashes[0])
    if from_b.min() < from_a.min():
        a, b, from_a = b, a, from_b
    if from_a.min() > bits:
        return Likeness(int(from_a.min()), -1.0, -1.0, -1.0)
    same_detail = a.detail is None or b.detail is None or np.array_equal(a.detail, b.detail)
    if np.array_equal(a.thumbnail, b.thumbnail) and same_detail:
        return Likeness(int(from_a.min()), 1.0, 1.0, 1.0)
    left, top, right, bottom = WINDOWS[int(from_a.argmin())]
    placed = np.array([1 - left - right, left, 1 - top - bottom, top])
    image, target = a.thumbnail.astype(np.float64), b.thumbnail.astype(np.float64)
    # most candidates among tables and the like are told apart without, or by, a coarse alignment
    smooth = _smooth(target, SMOOTH_FIRST)
    correlation = _correlation(_fine(_placed(image, placed, SMOOTH_FIRST)), _fine(smooth))
    if correlation < LEAST_BEFORE:
        return Likeness(int(from_a.min()), correlation, -1.0, -1.0)
    placed, moved = _align(image, smooth, placed, SMOOTH_FIRST)
    correlation = _correlation(_fine(moved), _fine(smooth))
    if correlation < LEAST_COARSE:
        return Likeness(int(from_a.min()), correlation, -1.0, -1.0)
    smooth = _smooth(target, SMOOTHING)
    placed, moved = _align(image, smooth, placed, SMOOTHING)
    inner = slice(MARGIN, SIDE - MARGIN)
    correlation, worst = _compare(moved[inner, inner], smooth[inner, inner])
    detail = 1.0
    if a.detail is not None and b.detail is not None:
        detail = _compare_details(a.detail, b.detail, placed)
    return Likeness(int(from_a.min()), correlation, worst, detail)


def _placed(image: np.ndarray, placed: np.ndarray, smoothing: float) -> np.ndarray:
    return _sampler(placed[2], placed[3], smoothing) @ image @ _sampler(placed[0], placed[1], smoothing).T


def _fine(image: np.ndarray) -> np.ndarray:
    """Without coarse shades."""
    coarse = _coarse(len(image))
    return image - coarse @ image @ coarse.T


def _align(
    image: np.ndarray, target: np.ndarray, placed: np.ndarray, smoothing: float, steps: int = 12
) -> tuple[np.ndarray, np.ndarray]:
    """The placement (scale x, shift x, scale y, shift y; 1, 0, 1, 0 is none) of `target` in `image` and what stands there.

    Gauss-Newton on the squared difference, with gain and offset of the grey values free. Of all steps, the best.
    """
    u = (np.arange(SIDE) + 0.5) / SIDE
    best, best_moved, best_correlation = placed, target, -2.0
    for _ in range(steps):
        moved = (
            _sampler(placed[2], placed[3], smoothing) @ image @ _sampler(placed[0], placed[1], smoothing).T
        )
        correlation = _correlation(moved, target)
        if correlation > best_correlation:
            best, best_moved, best_correlation = placed, moved, correlation
        gradient_y, gradient_x = np.gradient(moved)
        gradient_x, gradient_y = gradient_x * SIDE / placed[0], gradient_y * SIDE / placed[2]
        columns = (
            gradient_x * u[None],
            gradient_x,
            gradient_y * u[:, None],
            gradient_y,
            moved,
            np.ones_like(moved),
        )
        jacobian = np.stack([column.ravel() for column in columns], axis=1)
        normal = jacobian.T @ jacobian
        normal[np.diag_indices(6)] += 1e-6 * np.trace(normal) / 6
        solution = np.linalg.solve(normal, jacobian.T @ target.ravel())
        gain = solution[4] if abs(solution[4]) > 0.1 else 1.0
        step = np.clip(solution[:4] / gain, -0.05, 0.05)
        placed = np.clip(placed + step, (0.75, -0.15, 0.75, -0.15), (1.3, 0.15, 1.3, 0.15))
        if np.abs(step).max() < 2e-4:
            break
    return best, best_moved


def _sampler(scale: float, shift: float, sigma: float) -> np.ndarray:
    """(SIDE, SIDE) matrix that samples SIDE places of a row of pixels, smoothed by a Gaussian; edges repeat."""
    places = ((np.arange(SIDE) + 0.5) / SIDE * scale + shift) * SIDE - 0.5
    pad = 8
    pixels = np.arange(-pad, SIDE + pad)
    weights = np.exp(-((np.clip(places, -4, SIDE + 3)[:, None] - pixels[None]) ** 2) / (2 * sigma**2))
    weights /= weights.sum(axis=1, keepdims=True)
    matrix = weights[:, pad:-pad]
    matrix[:, 0] += weights[:, :pad].sum(axis=1)
    matrix[:, -1] += weights[:, -pad:].sum(axis=1)
    return matrix


@lru_cache(8)
def _still(sigma: float) -> np.ndarray:
    return _sampler(1.0, 0.0, sigma)


def _smooth(image: np.ndarray, sigma: float) -> np.ndarray:
    return _still(sigma) @ image @ _still(sigma).T


@lru_cache(1)
def _patches(side: int) -> np.ndarray:
    """(PATCHES, side) matrix of means over patches along an axis."""
    matrix = np.zeros((PATCHES, side))
    for row, start in zip(matrix, np.linspace(0, side - PATCH, PATCHES).round().astype(int)):
        row[start : start + PATCH] = 1 / PATCH
    return matrix


@lru_cache(4)
def _coarse(side: int) -> np.ndarray:
    places = np.arange(side)
    weights = np.exp(-((places[:, None] - places[None]) ** 2) / (2 * COARSE**2))
    return weights / weights.sum(axis=1, keepdims=True)


def _compare(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """(correlation, worst patch) of the fine structure of two aligned images."""
    means = _patches(len(a))
    a, b = _fine(a), _fine(b)

    def mean(x: np.ndarray) -> np.ndarray:
        return means @ x @ means.T

    mean_a, mean_b = mean(a), mean(b)
    variance_a, variance_b = mean(a * a) - mean_a**2, mean(b * b) - mean_b**2
    covariance = mean(a * b) - mean_a * mean_b
    # relative to each image's own contrast, as one may be paler
    structured = np.maximum(variance_a / max(a.var(), 1e-9), variance_b / max(b.var(), 1e-9)) > STRUCTURE**2
    patches = covariance / np.sqrt(np.maximum(variance_a * variance_b, 1e-9))
    return _correlation(a, b), float(patches[structured].min(initial=1.0))


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a - a.mean(), b - b.mean()
    return float((a * b).sum() / max(np.sqrt((a * a).sum() * (b * b).sum()), 1e-9))


def _compare_details(image: np.ndarray, target: np.ndarray, placed: np.ndarray) -> float:
    """Correlation of the worst patch of `target` with `image` around the place where it stands there."""
    found = _laid_upon(Image.fromarray(image), Image.fromarray(target), placed)
    if found is None:
        return 1.0
    a, b = found
    height, width = b.shape
    b = b[1:-1, 1:-1]
    mean_b = _patch_means(b)
    variance_b = _patch_means(b * b) - mean_b**2
    best = structured = None
    for y, x in ((1, 1), (0, 0), (0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1), (2, 2)):
        moved = a[y : height - 2 + y, x : width - 2 + x]
        mean_a = _patch_means(moved)
        variance_a = _patch_means(moved * moved) - mean_a**2
        product = np.sqrt(np.maximum(variance_a * variance_b, 1e-6))
        correlation = (_patch_means(moved * b) - mean_a * mean_b) / product
        if best is None:
            best = correlation
            contrast = np.maximum(variance_a / max(a.var(), 1.0), variance_b / max(b.var(), 1.0))
            structured = contrast > DETAIL_STRUCTURE**2
        best = np.maximum(best, correlation)
    assert best is not None
    return float(best[structured].min(initial=1.0))


def _laid_upon(
    image: Image.Image, target: Image.Image, placed: np.ndarray
) -> tuple[np.ndarray, np.ndarray] | None:
    """What both show of the same ground, at the coarser resolution of the two; None if that is less than a patch."""
    (scale_x, shift_x, scale_y, shift_y), limit = placed, DETAIL_PATCH + 4
    left, right = max(0.0, -shift_x / scale_x), min(1.0, (1 - shift_x) / scale_x)
    top, bottom = max(0.0, -shift_y / scale_y), min(1.0, (1 - shift_y) / scale_y)
    size = (
        int(min(target.width, image.width * scale_x) * (right - left)),
        int(min(target.height, image.height * scale_y) * (bottom - top)),
    )
    if min(size) < limit:
        return None
    shares = np.array([left, top, right, bottom])
    there = shares * np.tile([target.width, target.height], 2)
    here = (shares * np.tile([scale_x, scale_y], 2) + np.tile([shift_x, shift_y], 2)) * np.tile(
        [image.width, image.height], 2
    )
    here = np.clip(here, 0, np.tile([image.width, image.height], 2))
    blur = ImageFilter.GaussianBlur(DETAIL_BLUR)
    a, b = (
        np.asarray(picture.resize(size, Image.Resampling.BICUBIC, box=tuple(box)).filter(blur), np.float64)
        for picture, box in ((image, here), (target, there))
    )
    return a, b


def _patch_means(values: np.ndarray) -> np.ndarray:
    """Means over patches of the details, each half over the next."""
    half = DETAIL_PATCH // 2
    down, across = (side // half for side in values.shape)
    blocks = values[: down * half, : across * half].reshape(down, half, across, half).sum(axis=(1, 3))
    rows = blocks[1:] + blocks[:-1]
    return np.asarray(rows[:, 1:] + rows[:, :-1]) / DETAIL_PATCH**2
