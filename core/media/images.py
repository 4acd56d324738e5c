"""Images as viewers show them: upright by their EXIF orientation, transparency on white, deep greys scaled to 8 bits.

Of an animation the first frame is taken, of several pages the first. Colours are the stored ones; colour profiles are
not applied.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from PIL import ExifTags, Image

from core.media.sources import MediaError, Source, check_shape, content_of, readable

Size = tuple[int, int]  # (width, height) in pixels

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""The transposition that makes an image of each EXIF orientation upright."""
_SIDEWAYS = (5, 6, 7, 8)
_8_BITS = ("1", "L", "P", "RGB")
_BITS, _PHOTOMETRIC, _MIN_IS_WHITE = 258, 262, 0  # tags of a TIFF


def load_image(source: Source | Image.Image) -> Image.Image:
    """An RGB image from a path, encoded bytes, `{"bytes"|"path": …}` (as in Parquet) or a PIL image.

    Raises:
        MediaError: the file is missing, does not decode, or has values or a shape with no defined display; the
            message names it.
    """
    if isinstance(source, Image.Image):
        return _shown(source, "image")
    with _opened(source) as (image, name):
        return _shown(image, name)


def image_size(source: Source, *, decode: bool = False) -> Size:
    """(width, height) of what `load_image` gives, read from the header alone unless `decode`. Raises MediaError."""
    if decode:
        return load_image(source).size
    with _opened(source) as (image, _):
        sideways = _orientation(image) in _SIDEWAYS
        return (image.height, image.width) if sideways else image.size


def stored_as_shown(source: Source) -> bool:
    """Whether the file's own pixels are what `load_image` gives: upright, opaque, 8 bits a channel. Raises MediaError."""
    with _opened(source) as (image, _):
        return _orientation(image) == 1 and image.mode in _8_BITS and not image.has_transparency_data


@contextmanager
def _opened(source: Source) -> Iterator[tuple[Image.Image, str]]:
    content, name = content_of(source, "image")
    try:
        with Image.open(readable(content)) as image:
            check_shape(*image.size, f"image {name}")
            yield image, f"image {name}"
    except MediaError:
        raise
    except Exception as error:  # noqa: BLE001  decoders raise whatever a broken file leads them to
        raise MediaError(f"expected an image that decodes, got {name} ({error})") from None


def _shown(image: Image.Image, name: str) -> Image.Image:
    image.load()
    turn = _TURNS.get(_orientation(image))
    if image.mode in ("I", "F") or image.mode.startswith("I;"):
        image = _eight_bits(image, name)
    elif image.has_transparency_data:
        image = image.convert("LA") if image.mode == "La" else image
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    image = image.convert("RGB")
    if turn is not None:
        image = image.transpose(turn)
    image.info = {}  # an engine that reads the orientation would turn the image again
    return image


def _orientation(image: Image.Image) -> int:
    """EXIF orientation still to be applied, 1 to 8; 1 where none can be read, as viewers do."""
    if image.format == "TIFF":
        return 1  # PIL turns TIFF files itself, sizes included
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # noqa: BLE001  broken EXIF data, which is no reason not to show the image
        return 1


def _eight_bits(image: Image.Image, name: str) -> Image.Image:
    """Grey of 16 bits, or of floats in [0, 1], as 8 bits; the range of other numbers is unknown."""
    values = np.asarray(image)
    tags: Any = getattr(image, "tag_v2", {})
    if image.mode.startswith("I;") or image.format == "PPM":  # PIL scales PGM to 16 bits
        top = float(2 ** tags.get(_BITS, (16,))[0] - 1)
    elif image.mode == "F" and values.min() >= 0.0 and values.max() <= 1.0:  # false for NaN
        top = 1.0
    else:
        kind = "32-bit integers" if image.mode == "I" else "floats"
        raise MediaError(
            f"{name}: expected grey of 8 or 16 bits or floats from 0 to 1, got {kind} from {values.min():g} to"
            f" {values.max():g}, which viewers show differently; save it with 8 or 16 bits"
        )
    grey = np.rint(values.astype(np.float64) * (255.0 / top)).clip(0, 255).astype(np.uint8)
    if tags.get(_PHOTOMETRIC) == _MIN_IS_WHITE:
        grey = 255 - grey
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        grey[values == transparent] = 255
    return Image.fromarray(grey)
