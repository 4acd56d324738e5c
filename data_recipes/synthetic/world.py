"""Shared parts of the synthetic worlds: options, hold-out by content, media files, and rows.

A world is a `Format` that generates rows; its `path` is the folder for their media. A row depends only on the world's
options, the seed, the split and the row's index, so rows can be made in any order and by any worker. A world first plans
a row (cheap: what it shows and asks), then makes it (draws it, which also gives the exact boxes).
"""

from __future__ import annotations

import io
import json
import random
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

import numpy as np
from PIL import Image
from pydantic import Field

from core.files.replacing import write_once
from core.rows import Row
from data_recipes.records import Format, Options, Record, Rejected
from data_recipes.synthetic.hold_out import is_held_out
from data_recipes.synthetic.shapes.scenes import write_frames

LICENCE = "CC0-1.0"
ATTEMPTS = 200  # plans tried for one row before giving up


class WorldOptions(Options):
    """Options of every synthetic world. Options that are null follow `difficulty`."""

    rows: int = Field(1000, ge=1)
    """Number of rows; the first n rows are the same for any larger number."""
    seed: int = 0
    """Random seed."""
    split: str = Field("train", pattern=r"^[a-z0-9_]+$")
    """Rows of different splits differ. `test` is held out by content: rows of other splits never show the same, whatever
    the seeds."""
    difficulty: float = Field(0.5, ge=0.0, le=1.0)
    """From 0 (easiest) to 1 (hardest); sets every option that is null."""
    image_format: Literal["png", "jpeg"] = "png"
    """`png` keeps every pixel; `jpeg` (quality 95, 4:4:4) is smaller where backgrounds are textured."""


@dataclass(frozen=True)
class DraftRow:
    """A row before its media are written to files.

    question: the user's turn, after the media; a system prompt and further turns come from `system` and `trace`.
    images: those of the prompt, then those of a multi-turn trace; bytes: the content of an encoded file. videos: content of encoded files.
    columns: additional columns of the row.
    """

    task: str
    question: str
    answer: dict[str, Any]
    trace: dict[str, str] | list[dict[str, Any]] | None
    images: tuple[Image.Image | bytes, ...] = ()
    videos: tuple[bytes, ...] = ()
    system: str | None = None
    columns: dict[str, Any] = field(default_factory=dict)


class Plan(Protocol):
    @property
    def content(self) -> str:
        """What the row shows, as text; plans with the same content look the same except for texture."""
        ...


O = TypeVar("O", bound=WorldOptions)  # noqa: E741
P = TypeVar("P", bound=Plan)


def world(
    name: str,
    summary: str,
    options: type[O],
    plan: Callable[[str, random.Random, O], P | None],
    make: Callable[[P, random.Random, O], DraftRow],
) -> Format:
    """The Format of a synthetic world.

    plan(kind, rng, options): what one row shows and asks, or None if the draw failed and another should be tried.
    kind: one of `options.kinds`, in turn. make(plan, rng, options): the row with its media.
    """
    convert = partial(_convert, name, plan, make)
    return Format(name, summary, _read, convert, never, options, generates=True)


def knob(given: float | None, easy: float, hard: float, difficulty: float) -> float:
    """The given value, or if None, the interpolation between easy and hard by difficulty."""
    return easy + (hard - easy) * difficulty if given is None else given


def whole_knob(given: int | None, easy: int, hard: int, difficulty: float) -> int:
    return round(knob(given, easy, hard, difficulty))


def numbers(values: Iterable[float]) -> str:
    """A box or span as written in answers: `[1, 2, 3, 4]`."""
    return json.dumps(list(values))


def listed(words: Iterable[str], empty: str = "none") -> str:
    return ", ".join(words) or empty


def with_article(words: str) -> str:
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def _read(path: Path, options: WorldOptions) -> Iterator[Record]:
    return (Record({"index": index}, path, index) for index in range(options.rows))


def never(path: Path, first: Any) -> bool:
    """No file is of a world's format."""
    return False


def _convert(
    name: str,
    plan: Callable[[str, random.Random, Any], Any],
    make: Callable[[Any, random.Random, Any], DraftRow],
    record: Record,
    options: Any,
) -> Iterator[Row]:
    index = record.data["index"]
    kind = options.kinds[index % len(options.kinds)]
    for attempt in range(ATTEMPTS):
        rng = random.Random(f"{name}-{options.split}-{options.seed}-{index}-{attempt}")
        planned = plan(kind, rng, options)
        if planned is not None and is_held_out(planned.content) == (options.split == "test"):
            break
    else:
        raise Rejected(
            f"field 'options': expected options that allow for kind {kind!r}, but {ATTEMPTS} draws failed;"
            f" give {name} more room, fewer things or more colours and shapes"
        )
    yield row_of(name, make(planned, rng, options), kind, index, options, record.file.absolute())


def row_of(
    name: str,
    sample: DraftRow,
    kind: str,
    index: int,
    options: WorldOptions,
    folder: Path,
    stem_index: int | None = None,
) -> Row:
    """Row number `index` of the world `name`, its media written to `folder`. stem_index: in the names of media; rows that share
    one have the same."""
    stem = f"{name}-{options.split}-{index if stem_index is None else stem_index:06d}"
    parts = [{"type": "image"}] * _prompt_images(sample) + [{"type": "video"}] * len(sample.videos)
    system = [{"role": "system", "content": sample.system}] if sample.system else []
    user = {"role": "user", "content": [*parts, {"type": "text", "text": sample.question}]}
    return {
        "id": f"{name}-{options.split}-{options.seed}-{index:06d}",
        "task": sample.task,
        "kind": kind,
        "prompt": [*system, user],
        "images": [str(store(encoded(i, options.image_format), folder, stem)) for i in sample.images],
        "videos": [str(store(video, folder, stem)) for video in sample.videos],
        "answer": sample.answer,
        "trace": sample.trace,
        "source": {"dataset": f"Onsight {name.replace('_', ' ')}", "licence": LICENCE},
        "difficulty": options.difficulty,
        **sample.columns,
    }


def _prompt_images(sample: DraftRow) -> int:
    turns = sample.trace if isinstance(sample.trace, list) else []
    later = sum(p["type"] == "image" for t in turns if isinstance(t["content"], list) for p in t["content"])
    return len(sample.images) - later


def encoded(image: Image.Image | bytes, image_format: str) -> bytes:
    if isinstance(image, bytes):
        return image
    file = io.BytesIO()
    if image_format == "jpeg":
        image.save(file, "JPEG", quality=95, subsampling=0)
    else:
        image.save(file, "PNG", compress_level=6)
    return file.getvalue()


def encoded_video(frames: Iterable[np.ndarray], frames_per_second: int) -> bytes:
    """An H.264 file in MP4, at constant quality."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        write_frames(frames, path, frames_per_second, {"qp": "16"})
        return path.read_bytes()


def store(content: bytes, folder: Path, stem: str) -> Path:
    """Write a file to `folder` atomically and return its path. The name contains the content's hash, so an existing file
    need not be written again, and rows of other options never share a file by mistake."""
    suffix = {b"\x89P": "png", b"\xff\xd8": "jpg"}.get(content[:2], "mp4")
    path = folder / f"{stem}-{blake2b(content, digest_size=6).hexdigest()}.{suffix}"
    write_once(path, content)
    return path
