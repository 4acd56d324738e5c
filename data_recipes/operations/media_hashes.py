"""Features of a row that are compared: perceptual hashes of images and of a few video frames, MinHash of texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from PIL import Image

from core.rows import Row
from data_recipes.operations import image_hashes, text_hashes
from data_recipes.operations.image_hashes import ImageHash
from data_recipes.operations.image_likeness import Likeness, likeness
from data_recipes.operations.text_hashes import TextHash
from vlm.media import MediaError, frames_at, load_image

FRAMES = (0.1, 0.37, 0.63, 0.9)
"""Places in a video, as shares of the part that the row shows, whose frames are hashed."""
FRAMES_ALIKE = 3
"""So many of them must be near-duplicates, each of the frame at the same place: one may fall on a cut."""


@dataclass(frozen=True)
class Medium:
    """kind: "image" or "video". frames: one for an image, one per place of FRAMES for a video."""

    kind: str
    frames: tuple[ImageHash, ...]


@dataclass(frozen=True)
class Hashed:
    """What is compared of a row. answer: digest of its gold answer, "" where that is no value."""

    media: tuple[Medium, ...]
    text: TextHash
    answer: str = ""


@dataclass(frozen=True)
class Thresholds:
    """When images and texts are near-duplicates; see the options of `dedup`."""

    bits: int
    correlation: float
    worst_patch: float
    detail: float
    text: float
    numbers: bool


def hash_row(row: Row, *, media: bool, text: str) -> dict[str, Any]:
    """A row's `Hashed` as JSON. An image or video that does not open raises an error with the row's id."""
    found = []
    try:
        if media:
            for image in row["images"]:
                found.append({"kind": "image", "frames": [opened_hash(load_image(image))]})
            for video in row["videos"]:
                frames = [image_hashes.pack(image_hashes.image_hash(frame)) for frame in frames_of(video)]
                found.append({"kind": "video", "frames": frames})
    except MediaError as error:
        raise ValueError(f"row {row['id']!r}: expected media that open, got: {error}") from error
    packed = text_hashes.pack(text_hashes.text_hash(text, document=row.get("document") is not None))
    return {"media": found, "text": packed, "answer": text_hashes.answer_digest(row)}


def opened_hash(image: Image.Image) -> dict[str, str]:
    return image_hashes.pack(image_hashes.image_hash(image))


def unpack(data: Mapping[str, Any]) -> Hashed:
    return Hashed(unpack_media(data["media"]), text_hashes.unpack(data["text"]), data["answer"])


def unpack_media(media: Sequence[Mapping[str, Any]]) -> tuple[Medium, ...]:
    return tuple(Medium(m["kind"], tuple(image_hashes.unpack(frame) for frame in m["frames"])) for m in media)


def digest(hashed: Hashed, *, media: bool, text: bool, answer: bool) -> str:
    """Equal for rows that need no comparison: same thumbnails, details and hashes, same words, same answer."""
    parts = blake2b(digest_size=16)
    for medium in hashed.media if media else ():
        parts.update(medium.kind.encode())
        for frame in medium.frames:
            parts.update(image_digest(frame))
    return parts.hexdigest() + (hashed.text.digest if text else "") + (hashed.answer if answer else "")


def image_digest(image: ImageHash) -> bytes:
    """Equal for images of which everything that is compared is the same."""
    detail = b"" if image.detail is None else image.detail.tobytes()
    return blake2b(image.hashes.tobytes() + image.thumbnail.tobytes() + detail, digest_size=16).digest()


@dataclass(frozen=True)
class Comparison:
    """Of two media. alike: the figures in words if they are near-duplicates. closeness: the lowest correlation of a patch
    in thumbnails or details. differ: they show the same scene, and differences in it can be seen."""

    alike: str | None
    closeness: float
    differ: bool


def compare(a: Medium, b: Medium, limits: Thresholds) -> Comparison:
    """Compare two images, or two videos frame by frame; videos may differ in one frame."""
    if a.kind != b.kind:
        return Comparison(None, -1.0, False)
    pairs = list(zip(a.frames, b.frames))
    spare = max(0, len(pairs) - FRAMES_ALIKE)
    alike: list[Likeness] = []
    failed: list[Likeness] = []
    for x, y in pairs:
        found = likeness(x, y, limits.bits)
        (alike if is_alike(found, limits) else failed).append(found)
        if len(failed) > spare:
            return Comparison(None, -1.0, all(found.correlation >= limits.correlation for found in failed))
    worst = min(alike, key=lambda one: min(one.worst_patch, one.detail))
    figures = (
        f"{worst.bits} of {image_hashes.BITS} bits differ, correlation {worst.correlation:.3f}, "
        f"worst patch {worst.worst_patch:.3f}"
    )
    return Comparison(f"{a.kind}s alike ({figures})", min(worst.worst_patch, worst.detail), False)


def is_alike(found: Likeness, limits: Thresholds) -> bool:
    return (
        found.bits <= limits.bits
        and found.correlation >= limits.correlation
        and found.worst_patch >= limits.worst_patch
        and found.detail >= limits.detail
    )


def texts_alike(a: TextHash, b: TextHash, limits: Thresholds) -> str | None:
    """The figure in words if two texts are near-duplicates."""
    if limits.numbers and a.numbers != b.numbers:
        return None
    found = text_hashes.similarity(a, b)
    if found < limits.text or not (
        a.words == b.words or text_hashes.same_words(a, b, numbers=limits.numbers)
    ):
        return None
    return f"texts alike (similarity {found:.2f})"


def frames_of(video: Any) -> list[Image.Image]:
    """The frames of a row's video at FRAMES of the part that it shows."""
    return [Image.fromarray(frame).convert("L") for frame in frames_at(video, FRAMES)]
