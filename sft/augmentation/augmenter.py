"""Random flips, crops and colour jitter of training images by torchvision, with the boxes and points of their rows.

What is drawn depends on seed, epoch and row alone, so that workers, processes and resumed runs see the same images. Rows
about the same media draw the same numbers: where the same changes are allowed, they still share what they compute.
Every image keeps its size, and every row so many visual tokens as before.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

import torch
from PIL import Image
from torchvision import tv_tensors
from torchvision.transforms import v2

from core.processes.exchange import seed_of
from core.rows import Row, count_placeholders
from rewards.geometry.frames import with_model_limits
from sft.augmentation.coordinates import Refused, rewrite
from sft.augmentation.words import CROP, FLIP, JITTER, forbidden
from sft.config import AugmentConfig
from sft.data import prompt_media
from vlm.media import load_media

CHANGES = (FLIP, CROP, JITTER)
CROPS_TRIED = 10  # as many as torchvision tries to find one of the wanted shape


@dataclass(frozen=True)
class Augmented:
    """row: with decoded images, if anything was changed. done: what was, in words that are equal for equal changes.
    counts: by the names of COUNTS."""

    row: Row
    done: tuple[Hashable, ...] = ()
    counts: tuple[str, ...] = ()


COUNTS = ("flipped", "cropped", "jittered", "not_cropped")
"""not_cropped: none of the crops that were tried held all boxes and points of the row."""
Box = tuple[float, float, float, float]


class Augmenter:
    """Changes of the rows of a data set.

    refused: (change, why) -> [(id, detail), …] of the rows that a change is refused for.
    limits: of the model's processor, for coordinates in the frame `resized` (`vlm.load.pixel_limits`).
    """

    def __init__(self, rows: Sequence[Row], config: AugmentConfig, seed: int, limits: dict[str, int]) -> None:
        self.config, self.seed, self.limits = config, seed, limits
        self.refused: dict[tuple[str, str], list[tuple[str, str]]] = {}
        self.with_images = sum(bool(row["images"]) for row in rows)
        self._allowed = [self._changes_of(row) for row in rows]
        first: dict[Hashable, int] = {}
        self._drawn_by = [first.setdefault(prompt_media(row), i) for i, row in enumerate(rows)]

    def _changes_of(self, row: Row) -> frozenset[str]:
        """The changes that the row may go through; what is refused is noted."""
        found = set()
        for change in CHANGES if row["images"] else ():
            if change in self.config.wanted:
                try:
                    self._check(row, change)
                    found.add(change)
                except Refused as refused:
                    why, detail = refused.args
                    self.refused.setdefault((change, why), []).append((row["id"], detail))
        return frozenset(found)

    def _check(self, row: Row, change: str) -> None:
        if row["videos"]:
            raise Refused("videos", f"{len(row['videos'])}")
        if said := forbidden(row, change, self.config.pattern):
            raise Refused(said[0], said[1])
        if change == JITTER:
            return
        boxes = self._boxes(row)
        prompt_images = count_placeholders(row["prompt"], "image")
        if change == CROP and not boxes:
            raise Refused("no box or point that says what must stay in view", "")
        if change == CROP and len(row["images"]) > 1:
            raise Refused("several images", f"{len(row['images'])}")
        if boxes and prompt_images > 1:
            raise Refused("several images, and coordinates in one of them", f"{prompt_images}")

    def _boxes(self, row: Row) -> list[Box]:
        """All boxes and points (as boxes without a size) of a row, in fractions of its image. Raises Refused."""
        found: list[Box] = []

        def note(values: tuple[float, ...]) -> tuple[float, ...]:
            found.append(values if len(values) == 4 else (*values, *values))  # type: ignore[arg-type]
            return values

        try:
            rewrite(with_model_limits([row], self.limits)[0], note)
        except Refused:
            raise
        except ValueError as error:  # an answer's frame, or the size of its image
            raise Refused("coordinates that cannot be read", str(error)) from None
        return found

    def __call__(self, row: Row, index: int, epoch: int) -> Augmented:
        """Row `index` as it is trained on in an epoch (from 0). Raises MediaError for images that do not decode."""
        drawn = {
            change: seed_of(self.seed, epoch, self._drawn_by[index], number, 1)
            for number, change in enumerate(CHANGES)
            if change in self._allowed[index]
            and self._uniform(index, epoch, number) < self.config.wanted[change]
        }
        if not drawn:
            return Augmented(row)
        images, _ = load_media(row)
        boxes = self._boxes(row) if drawn.keys() & {FLIP, CROP} else []
        moving = _Moving(images, _pixels(boxes, images[0].size))
        done: list[Hashable] = []
        counts: list[str] = []
        if FLIP in drawn:
            moving = flipped(moving)
            done.append(FLIP)
            counts.append("flipped")
        if CROP in drawn:
            scale, ratio = self.config.crop_scale, self.config.crop_ratio
            cropped, params = cropped_around(moving, scale, ratio, drawn[CROP])
            if params:
                moving = cropped
                done.append((CROP, *params))
            counts.append("cropped" if params else "not_cropped")
        if JITTER in drawn:
            moving = replace(moving, images=jittered(moving.images, self.config, drawn[JITTER]))
            done.append((JITTER, drawn[JITTER]))
            counts.append("jittered")
        if not done:
            return Augmented(row, counts=tuple(counts))
        new = dict(row)
        if boxes:
            moved = iter(_fractions(moving.boxes, images[0].size))
            limited = with_model_limits([row], self.limits)[0]
            rewritten = rewrite(limited, lambda values: next(moved)[: len(values)])
            new = {name: rewritten[name] for name in row}
        return Augmented(new | {"images": moving.images}, tuple(done), tuple(counts))

    def _uniform(self, index: int, epoch: int, number: int) -> float:
        """In [0, 1), by seed, epoch, media and change."""
        generator = torch.Generator().manual_seed(seed_of(self.seed, epoch, self._drawn_by[index], number, 0))
        return torch.rand(1, generator=generator).item()


@dataclass(frozen=True)
class _Moving:
    """images: of a row. boxes: (n, 4) in pixels of the first of them."""

    images: list[Image.Image]
    boxes: tv_tensors.BoundingBoxes


def _pixels(boxes: Sequence[Box], size: tuple[int, int]) -> tv_tensors.BoundingBoxes:
    # Points are boxes without a size: torchvision's KeyPoints flip x to width - 1 - x, boxes (and ours) to width - x.
    values = torch.tensor(boxes, dtype=torch.float64).reshape(-1, 4) * torch.tensor(
        [*size, *size], dtype=torch.float64
    )
    return tv_tensors.BoundingBoxes(values, format="XYXY", canvas_size=(size[1], size[0]), clamping_mode=None)


def _fractions(boxes: torch.Tensor, size: tuple[int, int]) -> list[list[float]]:
    return (boxes.as_subclass(torch.Tensor) / torch.tensor([*size, *size], dtype=torch.float64)).tolist()


def flipped(moving: _Moving) -> _Moving:
    """Mirrored left to right, all images of the row alike."""
    images = [v2.functional.horizontal_flip(image) for image in moving.images]
    return _Moving(images, v2.functional.horizontal_flip(moving.boxes))


def cropped_around(
    moving: _Moving, scale: tuple[float, float], ratio: tuple[float, float], seed: int
) -> tuple[_Moving, tuple[int, ...]]:
    """A random crop that holds all boxes whole, enlarged to the image's size, and (top, left, height, width) of it; () if none of
    CROPS_TRIED does. scale: share of the area. ratio: of the crop's aspect ratio to the image's."""
    (image,) = moving.images
    own = image.width / image.height
    crop = v2.RandomResizedCrop(
        (image.height, image.width), scale=scale, ratio=(own * ratio[0], own * ratio[1])
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        tried = [crop.make_params([image]) for _ in range(CROPS_TRIED)]
    for p in tried:
        left, top, width, height = p["left"], p["top"], p["width"], p["height"]
        low, high = moving.boxes[:, :2].amin(0), moving.boxes[:, 2:].amax(0)
        if low[0] >= left and low[1] >= top and high[0] <= left + width and high[1] <= top + height:
            given = (top, left, height, width, [image.height, image.width])
            new = v2.functional.resized_crop(image, *given, antialias=True)
            return _Moving([new], v2.functional.resized_crop(moving.boxes, *given)), (
                top,
                left,
                height,
                width,
            )
    return moving, ()


def jittered(images: Sequence[Image.Image], config: AugmentConfig, seed: int) -> list[Image.Image]:
    """Brightness, contrast, saturation and hue changed, of all images alike."""
    jitter = v2.ColorJitter(config.brightness, config.contrast, config.saturation, config.hue)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        changed = jitter(*images)
    return [changed] if isinstance(changed, Image.Image) else list(changed)


def described(augmenter: Augmenter, listed: int = 3) -> str:
    """What is changed with which probability, and what was refused: by change and reason, with counts and a few rows of each."""
    shares = ", ".join(f"{change} {share:g}" for change, share in augmenter.config.wanted.items())
    lines = [f"augment: {shares}, of {augmenter.with_images:,} rows with images"]
    for (change, why), rows in sorted(
        augmenter.refused.items(), key=lambda item: (item[0][0], -len(item[1]))
    ):
        some = ", ".join(f"{name!r}" + (f" ({detail})" if detail else "") for name, detail in rows[:listed])
        more = f" and {len(rows) - listed:,} more" if len(rows) > listed else ""
        lines.append(f"  {change} refused for {len(rows):,} rows, {why}: {some}{more}")
    return "\n".join(lines)
