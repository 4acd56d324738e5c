"""Near-duplicate images: perceptual hashes to find candidates, aligned thumbnails to judge them.

Finding: pHash (the signs of the 8 x 8 lowest DCT frequencies of a 32 x 32 grey image against their median, as in
ImageHash's `phash`) of the whole image and of 16 windows, cut by 2.5 or 7.5 % at each side. A crop of up to 10 % at each
side is close to one of the windows, so hashes of whole images are looked up from all windows of the other.

Judging: hashes of 64 bits cannot tell tables, charts and screens apart. Candidates are compared by 96 x 96 grey
thumbnails: one is moved and scaled along both axes onto the other (Lucas and Kanade 1981, with gain and offset so that
recolouring does not matter), coarse shades are taken away, and two correlations are asked for: of the whole, and of the
worst patch (a tenth of width and height) that has structure in either image.
"""

from __future__ import annotations

import base64
import itertools
import zlib
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image

WINDOWS = ((0.0, 0.0, 0.0, 0.0), *itertools.product((0.025, 0.075), repeat=4))
"""Shares of width and height that are cut off at left, top, right, bottom."""

SIDE = 96  # of the thumbnail
SMOOTH_FIRST = 2.0  # the same before a first, coarse alignment
LEAST_BEFORE, LEAST_COARSE = (
    0.35,
    0.9,
)  # least correlation before and after it; 1 copy in 200 has less, 9 of 10 tables
SMOOTHING = 0.8  # sigma in pixels of the thumbnail, before thumbnails are compared
COARSE = 6.0  # sigma in pixels of what is taken away
MARGIN = 2  # pixels at each side that are not compared
PATCH, PATCHES = 9, 19  # the worst patch: pixels of its side, positions along an axis
STRUCTURE = 0.35  # patches with less than this share of the image's own contrast do not count


@dataclass(frozen=True)
class ImageHash:
    """hashes: (17,) uint64, of the whole image and of its windows. thumbnail: (96, 96) uint8."""

    hashes: np.ndarray
    thumbnail: np.ndarray


@dataclass(frozen=True)
class Likeness:
    """bits: Hamming distance of the closest hashes, of 64. correlation, worst_patch: of the aligned thumbnails, up to 1."""

    bits: int
    correlation: float
    worst_patch: float


def image_hash(image: Image.Image) -> ImageHash:
    grey = np.asarray(_grey(image), np.float32)
    side = 128
    whole = Image.fromarray(np.asarray(Image.fromarray(grey).resize((side, side), Image.Resampling.BOX)))
    hashes = []
    for left, top, right, bottom in WINDOWS:
        box = (left * side, top * side, (1 - right) * side, (1 - bottom) * side)
        window = np.asarray(whole.resize((32, 32), Image.Resampling.BOX, box=box))
        hashes.append(_phash(window))
    thumbnail = Image.fromarray(grey).resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    return ImageHash(
        np.array(hashes, np.uint64), np.clip(np.rint(np.asarray(thumbnail)), 0, 255).astype(np.uint8)
    )


def _grey(image: Image.Image) -> Image.Image:
    """In grey, transparent parts on white, not much larger than needed."""
    if image.format == "JPEG":
        image.draft("L", (4 * SIDE, 4 * SIDE))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("L")


@lru_cache(1)
def _dct() -> np.ndarray:
    """(8, 32) rows of the discrete cosine transform (type II) of the lowest frequencies."""
    k, n = np.arange(8)[:, None], np.arange(32)[None]
    return np.cos(np.pi * k * (2 * n + 1) / 64).astype(np.float32)


def _phash(window: np.ndarray) -> int:
    low = _dct() @ window @ _dct().T
    bits = (low > np.median(low)).flatten()
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


# ------------------------------------------------------------------------------------------------------- comparison


def likeness(a: ImageHash, b: ImageHash, bits: int = 64) -> Likeness:
    """How alike two images are; symmetric but for rounding. Farther than `bits` they are not aligned: correlation -1."""
    from_a = np.bitwise_count(a.hashes ^ b.hashes[0])
    from_b = np.bitwise_count(b.hashes ^ a.hashes[0])
    if from_b.min() < from_a.min():
        a, b, from_a = b, a, from_b
    if from_a.min() > bits:
        return Likeness(int(from_a.min()), -1.0, -1.0)
    if np.array_equal(a.thumbnail, b.thumbnail):
        return Likeness(int(from_a.min()), 1.0, 1.0)
    left, top, right, bottom = WINDOWS[int(from_a.argmin())]
    placed = np.array([1 - left - right, left, 1 - top - bottom, top])
    image, target = a.thumbnail.astype(np.float64), b.thumbnail.astype(np.float64)
    # most candidates among tables and the like are told apart without, or by, a coarse alignment
    smooth = _smooth(target, SMOOTH_FIRST)
    correlation = _correlation(_fine(_placed(image, placed, SMOOTH_FIRST)), _fine(smooth))
    if correlation < LEAST_BEFORE:
        return Likeness(int(from_a.min()), correlation, -1.0)
    placed, moved = _align(image, smooth, placed, SMOOTH_FIRST)
    correlation = _correlation(_fine(moved), _fine(smooth))
    if correlation < LEAST_COARSE:
        return Likeness(int(from_a.min()), correlation, -1.0)
    smooth = _smooth(target, SMOOTHING)
    placed, moved = _align(image, smooth, placed, SMOOTHING)
    inner = slice(MARGIN, SIDE - MARGIN)
    correlation, worst = _compare(moved[inner, inner], smooth[inner, inner])
    return Likeness(int(from_a.min()), correlation, worst)


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


# ------------------------------------------------------------------------------------------------------------- JSON


def pack(image: ImageHash) -> dict[str, str]:
    """As JSON; 2 to 12 KB, most of it the thumbnail."""
    return {
        "hashes": base64.b64encode(image.hashes.tobytes()).decode(),
        "thumbnail": base64.b64encode(zlib.compress(image.thumbnail.tobytes(), 6)).decode(),
    }


def unpack(data: dict[str, str]) -> ImageHash:
    thumbnail = np.frombuffer(zlib.decompress(base64.b64decode(data["thumbnail"])), np.uint8)
    return ImageHash(
        np.frombuffer(base64.b64decode(data["hashes"]), np.uint64), thumbnail.reshape(SIDE, SIDE)
    )
