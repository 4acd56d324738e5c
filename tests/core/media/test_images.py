"""Images are decoded as viewers show them, or refused by name; sizes agree everywhere."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps, PngImagePlugin

from core.media.images import image_size, load_image, stored_as_shown
from core.media.sources import MediaError
from rewards.geometry.frames import sizes_of
from vlm.media import load_media

WHITE = [255, 255, 255]


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def photo(kind: str, orientation: int) -> bytes:
    """64 x 32 pixels with a red corner at the top left of the stored image, and an EXIF orientation."""
    image = Image.new("RGB", (64, 32), "white")
    image.paste((200, 0, 0), (0, 0, 16, 16))
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(image, kind, exif=exif)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "JPEG2000"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_photos_stand_upright_and_every_size_is_the_upright_one(tmp_path, kind, orientation):
    if kind == "JPEG2000":  # has no place for EXIF data
        content = encoded(Image.new("RGB", (64, 32)), kind)
    else:
        content = photo(kind, orientation)
    with Image.open(io.BytesIO(content)) as stored:
        upright = ImageOps.exif_transpose(stored).convert("RGB")
    path = tmp_path / "photo"
    path.write_bytes(content)
    for source in (content, path, {"path": str(path)}, {"bytes": content}):
        shown = load_image(source)
        np.testing.assert_array_equal(np.asarray(shown), np.asarray(upright))
        assert image_size(source) == image_size(source, decode=True) == upright.size
        assert sizes_of({}, {"images": [source]})[0] == upright.size
    assert ImageOps.exif_transpose(shown).size == shown.size  # nobody turns it a second time
    assert stored_as_shown(content) == (orientation == 1 or kind in ("TIFF", "JPEG2000"))


def test_an_image_in_memory_is_turned_too():
    with Image.open(io.BytesIO(photo("JPEG", 6))) as image:
        assert load_image(image).size == (32, 64)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_broken_exif_data_do_not_hide_the_image():
    exif = b"Exif\x00\x00II*\x00\xff\xff\xff\xff"
    assert load_image(encoded(Image.new("RGB", (40, 20)), "JPEG", exif=exif)).size == (40, 20)


def see_through(mode: str) -> Image.Image:
    """Black text (left half) on a transparent black background."""
    image = Image.new("RGBA", (40, 20), (0, 0, 0, 0))
    image.paste((0, 0, 0, 255), (0, 0, 20, 20))
    if mode != "P":
        return image.convert(mode)
    palette = Image.new("P", image.size, 1)
    palette.putpalette([0] * 768)
    palette.paste(0, (0, 0, 20, 20))
    return palette


@pytest.mark.parametrize(
    ("mode", "kind", "options"),
    [
        ("RGBA", "PNG", {}),
        ("RGBA", "WEBP", {"lossless": True}),
        ("RGBA", "TIFF", {}),
        ("LA", "PNG", {}),
        ("P", "PNG", {"transparency": 1}),
        ("P", "GIF", {"transparency": 1}),
    ],
)
def test_transparent_ground_is_white(mode, kind, options):
    shown = np.asarray(load_image(encoded(see_through(mode), kind, **options)))
    assert shown[10, 5].max() < 8 and shown[10, 35].tolist() == WHITE


def test_half_transparent_colours_are_mixed_with_white():
    shown = load_image(Image.new("RGBA", (10, 10), (0, 0, 0, 51)))  # a fifth of black
    assert shown.getpixel((5, 5)) == (204, 204, 204)


@pytest.mark.parametrize("mode", ["L", "RGB", "1"])
def test_a_transparent_key_colour_is_white(mode):
    image = Image.new(mode, (40, 20), 0)
    image.paste(1 if mode != "RGB" else (1, 1, 1), (0, 0, 20, 20))
    key = 0 if mode != "RGB" else (0, 0, 0)
    shown = np.asarray(load_image(encoded(image, "PNG", transparency=key)))
    assert (shown[10, 35].tolist() == WHITE and shown[10, 5].tolist() != WHITE) or mode == "1"


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "JPEG2000", "PPM"])
def test_grey_of_16_bits_keeps_its_shades(kind):
    values = np.tile(np.linspace(0, 65535, 256).round().astype(np.uint16), (20, 1))
    shown = np.asarray(load_image(encoded(Image.fromarray(values), kind)))
    np.testing.assert_allclose(shown[..., 0], np.tile(np.arange(256), (20, 1)), atol=1)


def test_transparent_grey_of_16_bits_is_white():
    values = np.full((20, 40), 1000, np.uint16)
    values[:, 20:] = 30000
    shown = np.asarray(load_image(encoded(Image.fromarray(values), "PNG", transparency=1000)))
    assert shown[5, 5].tolist() == WHITE and shown[5, 35].tolist() == [117] * 3


def test_floats_from_0_to_1_are_black_to_white():
    values = np.tile(np.linspace(0, 1, 256, dtype=np.float32), (20, 1))
    shown = np.asarray(load_image(encoded(Image.fromarray(values), "TIFF")))
    np.testing.assert_array_equal(shown[..., 1], np.tile(np.arange(256), (20, 1)))


@pytest.mark.parametrize(
    "values", [np.float32([[0, 300.0]]), np.float32([[0, np.nan]]), np.int32([[0, 70000]])]
)
def test_numbers_without_a_known_range_are_refused_by_name(tmp_path, values):
    path = tmp_path / "depth.tiff"
    Image.fromarray(np.tile(values, (30, 30))).save(path)
    with pytest.raises(MediaError, match=r"depth\.tiff: expected grey of 8 or 16 bits"):
        load_image(path)


def broken_images(folder: Path) -> list[Path]:
    """Files of the kinds that PIL refuses in different ways."""
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (200, 200, 3), dtype=np.uint8))
    png = bytearray(encoded(noise, "PNG"))
    second = png.index(b"IDAT", png.index(b"IDAT") + 4)
    note = PngImagePlugin.PngInfo()
    note.add_text("note", "a" * (2 << 20), zip=True)
    contents = {
        "damaged.png": bytes(png[:second]) + b"\x00\x01\x02\x03" + bytes(png[second + 4 :]),
        "cut.png": encoded(noise, "PNG")[:-3000],
        "cut.jpg": encoded(noise, "JPEG")[:-3000],
        "cut.webp": encoded(noise, "WEBP")[:-3000],
        "profile.png": encoded(noise, "PNG", icc_profile=b"\x00" * (2 << 20)),
        "note.png": encoded(noise, "PNG", pnginfo=note),
        "bomb.png": encoded(Image.new("1", (20000, 10000), 1), "PNG"),
        "strip.png": encoded(Image.new("RGB", (402, 2)), "PNG"),
        "text.png": b"no image",
        "empty.png": b"",
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return [folder / name for name in (*contents, "gone.png")]


def test_what_cannot_be_shown_is_refused_with_row_and_file(tmp_path):
    for path in broken_images(tmp_path):
        with pytest.raises(MediaError) as caught:
            load_media({"id": "r7", "images": [str(path)]})
        assert str(caught.value).startswith("row 'r7': ") and path.name in str(caught.value)
