"""A tiny model and a handful of rows of every kind: one image, two images, video, text only."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from core.rows import write_rows
from vlm.tiny import build_tiny_vlm

COLOURS = {"red": (220, 40, 40), "green": (40, 170, 60), "blue": (40, 70, 220)}


def trace(caption: str, conclusion: str) -> dict[str, str]:
    return {
        "summary": "Look, then answer.",
        "caption": caption,
        "reasoning": f"It must be {conclusion}.",
        "conclusion": conclusion,
    }


def make_rows(folder: Path, count: int = 12) -> list[dict]:
    """`count` rows that go through the four kinds in turn, with their media files."""
    folder.mkdir(parents=True, exist_ok=True)
    names = list(COLOURS)
    rows = []
    for i in range(count):
        a, b = names[i % 3], names[(i // 3 + 1) % 3]
        row = {
            "id": f"row{i}",
            "task": "chat",
            "images": [],
            "videos": [],
            "answer": {"value": a},
            "source": "test",
        }
        image = folder / f"{i}.png"
        Image.new("RGB", (56 if i % 2 else 84, 56), COLOURS[a]).save(image)
        if i % 4 == 0:
            content = [{"type": "image"}, {"type": "text", "text": "Which colour?"}]
            row |= {"images": [str(image)], "trace": trace(f"a {a} tile", a)}
        elif i % 4 == 1:
            content = [{"type": "text", "text": f"{i} plus one?"}]
            row |= {"trace": trace("no image", str(i + 1))}
        elif i % 4 == 2:
            other = folder / f"{i}b.png"
            Image.new("RGB", (28, 28), COLOURS[b]).save(other)
            content = [{"type": "image"}, {"type": "text", "text": " and "}, {"type": "image"}]
            row |= {"images": [str(image), str(other)], "trace": trace(f"{a}, {b}", "two")}
        else:
            clip = folder / f"{i}.mp4"
            write_clip(clip, COLOURS[a], COLOURS[b])
            content = [{"type": "video"}, {"type": "text", "text": "When does it change?"}]
            row |= {"videos": [str(clip)], "trace": trace(f"{a} then {b}", "00:01")}
        rows.append(row | {"prompt": [{"role": "user", "content": content}]})
    return rows


def write_clip(path: Path, first: tuple[int, ...], second: tuple[int, ...], frames: int = 4) -> None:
    """Two seconds at 2 frames a second: one colour, then another."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=2)
        stream.width, stream.height, stream.pix_fmt = 56, 56, "yuv420p"
        for i in range(frames):
            pixels = np.full((56, 56, 3), first if i < frames // 2 else second, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))


@pytest.fixture(scope="session")
def rows_file(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("rows")
    return write_rows(make_rows(folder / "media"), folder / "rows.jsonl")


@pytest.fixture(scope="session")
def tiny(tmp_path_factory, rows_file, family) -> Path:
    """Random tiny VLM whose tokenizer knows the rows' words."""
    return build_tiny_vlm(
        tmp_path_factory.mktemp("tiny"),
        rows_file.read_text().splitlines(),
        family=family,
        hidden=64,
        layers=2,
    )
