"""Image features for near-duplicates: perceptual hashes to find candidates, and two image sizes to verify them.

Finding: 256 bits, the signs of the 16 x 16 lowest DCT frequencies of the grey image against their median (pHash with four
times its frequencies: copies of an image differ from it in at most about 60 bits, other images of its kind rarely in so few),
of the whole image and of 8 windows, cut by 2.5 or 7.5 % at each side. A crop of up to 10 % at each side is close to one of the
windows, so hashes of whole images are looked up from all windows of the other.

Judging (`image_likeness.py`): a thumbnail of 96 x 96 pixels, and for images on flat ground (tables, charts, figures, screens)
the image itself up to 512 pixels a side, at which their text can be told apart.
"""

from __future__ import annotations

import base64
import itertools
import zlib
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image

_LITTLE, _MUCH = 0.025, 0.075
WINDOWS = (
    (0.0, 0.0, 0.0, 0.0),
    *(cuts for cuts in itertools.product((_LITTLE, _MUCH), repeat=4) if cuts.count(_MUCH) % 2 == 0),
)
"""Shares of width and height that are cut off at left, top, right, bottom: nothing, and every second combination of little
and much, so that whatever was cut differs from one of them at a single side at most."""

FREQUENCIES = 16  # of the hash, along an axis
BITS = FREQUENCIES**2
SIDE = 96  # of the thumbnail
DETAIL_SIDE = 512  # longest of the detail
FLAT_STEP, FLAT_SHARE = (
    6,
    0.5,
)  # an image is on flat ground if so many of its pixels differ by less from their neighbours
SHADES = 8  # of the detail: grey values that are stored as one, so that a JPEG's noise on flat ground costs no space


@dataclass(frozen=True)
class ImageHash:
    """hashes: (9, 32) uint8, of the whole image and of its windows. thumbnail: (96, 96) uint8.
    detail: (height, width) uint8 with at most 512 pixels a side, None for images that are not on flat ground."""

    hashes: np.ndarray
    thumbnail: np.ndarray
    detail: np.ndarray | None = None

    @property
    def side(self) -> int:
        """Longest side, in pixels, that the image can be compared at."""
        return SIDE if self.detail is None else max(self.detail.shape)


def image_hash(image: Image.Image) -> ImageHash:
    grey = _grey(image)
    values = Image.fromarray(np.asarray(grey, np.float32))
    whole = np.asarray(values.resize((_GRID, _GRID), Image.Resampling.BOX))
    thumbnail = values.resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    return ImageHash(
        _hashes(whole), np.clip(np.rint(np.asarray(thumbnail)), 0, 255).astype(np.uint8), _detail(grey)
    )


def _grey(image: Image.Image) -> Image.Image:
    """In grey, transparent parts on white, not much larger than needed."""
    if image.format == "JPEG":
        image.draft("L", (DETAIL_SIDE, DETAIL_SIDE))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("L")


def _detail(grey: Image.Image) -> np.ndarray | None:
    scale = DETAIL_SIDE / max(grey.size)
    if scale < 1:
        size = (max(1, round(grey.width * scale)), max(1, round(grey.height * scale)))
        grey = grey.resize(size, Image.Resampling.BOX)
    values = np.asarray(grey).astype(np.int16)
    if min(values.shape) < 2:
        return None
    down = np.abs(np.diff(values, axis=0))[:, 1:] < FLAT_STEP
    across = np.abs(np.diff(values, axis=1))[1:] < FLAT_STEP
    if (down & across).mean() < FLAT_SHARE:
        return None
    return (values // SHADES * SHADES + SHADES // 2).astype(np.uint8)


_GRID = 128  # pixels a side that the hashes are computed from
_CUTS = tuple(sorted({(left, right) for left, _, right, _ in WINDOWS}))


@lru_cache(1)
def _transforms() -> np.ndarray:
    """(cuts, 16, 128): DCT (type II) of the lowest frequencies of what is left of 128 pixels after each of _CUTS."""
    edges = np.arange(_GRID + 1) / _GRID
    frequencies = np.arange(FREQUENCIES)[:, None]
    found = []
    for left, right in _CUTS:
        place = np.clip((edges - left) / (1 - left - right), 0, 1)[None]
        # the integral of cos(pi k u) over each pixel, as far as it lies within the cut
        integral = np.where(
            frequencies == 0, place, np.sin(np.pi * frequencies * place) / np.pi / np.maximum(frequencies, 1)
        )
        found.append(np.diff(integral, axis=1))
    return np.array(found, np.float32)


def _hashes(whole: np.ndarray) -> np.ndarray:
    cuts = _transforms()
    rows = np.einsum("ckp,pq->ckq", cuts, whole)  # frequencies down, for each cut of top and bottom
    low = np.einsum("akq,blq->abkl", rows, cuts)
    found = []
    for left, top, right, bottom in WINDOWS:
        window = low[_CUTS.index((top, bottom)), _CUTS.index((left, right))].ravel()
        found.append(np.packbits(window > np.median(window)))
    return np.array(found)


def differing_bits(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Number of bits in which hashes (..., 32) differ."""
    return np.bitwise_count(a ^ b).sum(axis=-1, dtype=np.int64)


def hashes_of(stored: bytes) -> np.ndarray:
    """Hashes (9, 32) of an image from their bytes."""
    return np.frombuffer(stored, np.uint8).reshape(len(WINDOWS), BITS // 8)


def pack(image: ImageHash) -> dict[str, str]:
    """As JSON; 3 to 12 KB without, and 5 to 60 KB with the detail."""
    packed = {
        "hashes": base64.b64encode(image.hashes.tobytes()).decode(),
        "thumbnail": _deflated(image.thumbnail),
    }
    if image.detail is not None:
        packed |= {"detail": _deflated(image.detail), "width": str(image.detail.shape[1])}
    return packed


def unpack(data: dict[str, str]) -> ImageHash:
    hashes = hashes_of(base64.b64decode(data["hashes"]))
    detail = _inflated(data["detail"], int(data["width"])) if "detail" in data else None
    return ImageHash(hashes, _inflated(data["thumbnail"], SIDE), detail)


def _deflated(values: np.ndarray) -> str:
    return base64.b64encode(zlib.compress(values.tobytes(), 6)).decode()


def _inflated(text: str, width: int) -> np.ndarray:
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8).reshape(-1, width)
