"""A contact sheet of every made world, with the boxes of its answers.

python -m data_recipes.synthetic.preview OUT.png --difficulty 0.5 --seed 0
"""

from __future__ import annotations

import argparse
import tempfile
import textwrap
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from data_recipes.records import Format
from data_recipes.synthetic.worlds import FORMATS
from rewards.frames import convert
from vlm.media import load_image, load_video
from vlm.rows import Row

WIDTH, HEIGHT, TEXT = 460, 340, 76  # of a picture, and of the text under it, in pixels
MARK = (230, 0, 230)


def sheet(difficulty: float, seed: int) -> Image.Image:
    """One row of pictures per world: its kinds of question in turn."""
    with tempfile.TemporaryDirectory() as folder:
        rows = [_rows(world, Path(folder), difficulty, seed) for world in FORMATS]
        columns = max(map(len, rows))
        image = Image.new("RGB", (columns * WIDTH, len(rows) * (HEIGHT + TEXT)), "white")
        for y, examples in enumerate(rows):
            for x, row in enumerate(examples):
                image.paste(_card(row), (x * WIDTH, y * (HEIGHT + TEXT)))
    return image


def _rows(world: Format, folder: Path, difficulty: float, seed: int) -> list[Row]:
    kinds = world.options.model_fields["kinds"].default
    options: Any = world.options(rows=len(kinds), difficulty=difficulty, seed=seed)  # type: ignore[call-arg]
    made = [row for record in world.read(folder, options) for row in world.convert(record, options)]
    return [row for row in made if isinstance(row, dict) and (row["images"] or row["videos"])]


def _card(row: Row) -> Image.Image:
    card = Image.new("RGB", (WIDTH, HEIGHT + TEXT), "white")
    picture = _filmstrip(row) if row["videos"] else _picture(row)
    picture.thumbnail((WIDTH - 8, HEIGHT - 8))
    card.paste(picture, (4, 4))
    question = row["prompt"][-1]["content"][-1]["text"].replace("\n", " ")
    text = f"{row['source']['dataset'].removeprefix('Onsight synthetic ')}, {row['kind']}: {question} -> {row['answer']}"
    ImageDraw.Draw(card).multiline_text(
        (6, HEIGHT), "\n".join(textwrap.wrap(text, 82)[:5]), fill="black", font=ImageFont.load_default(11)
    )
    return card


def _picture(row: Row) -> Image.Image:
    image = load_image(row["images"][0])
    boxes = row["answer"].get("boxes") or row.get("boxes") or []
    boxes = boxes + [row[name] for name in ("target_box",) if row.get(name)]
    if row["answer"].get("box"):
        boxes = [row["answer"]["box"]]
    frame = row["answer"].get("frame", "pixel")
    canvas = ImageDraw.Draw(image)
    for box in boxes:
        x1, y1, x2, y2 = convert(box, frame, "pixel", image.size)
        canvas.rectangle((x1 - 1, y1 - 1, x2, y2), outline=MARK, width=max(1, image.width // 400))
    if len(row["images"]) == 1:
        return image
    # The regions of a dialogue stand over the image's corner, as they are shown.
    image.thumbnail((WIDTH * 2, HEIGHT * 2))
    x = image.width
    for path in reversed(row["images"][1:]):
        region = load_image(path)
        region.thumbnail((230, 230))
        x -= region.width + 6
        image.paste(region, (x, image.height - region.height - 6))
        ImageDraw.Draw(image).rectangle(
            (x - 1, image.height - region.height - 7, x + region.width, image.height - 6), outline=MARK
        )
    return image


def _filmstrip(row: Row) -> Image.Image:
    """Twelve frames with their times; marked where the answer's spans hold."""
    video = load_video(row["videos"][0], fps=4.0, max_frames=4096)
    count = len(video.frames)
    picked = [round(i * (count - 1) / 11) for i in range(12)]
    high, wide = video.frames.shape[1:3]
    strip = Image.new("RGB", (4 * (wide + 6), 3 * (high + 6)), "white")
    for number, index in enumerate(picked):
        x, y = number % 4 * (wide + 6), number // 4 * (high + 6)
        frame = Image.fromarray(video.frames[index])
        time = index / video.fps
        ImageDraw.Draw(frame).text((3, 2), f"{time:g} s", fill="black", font=ImageFont.load_default(14))
        strip.paste(frame, (x + 3, y + 3))
        if any(start <= time < end for start, end in row["answer"]["spans"]):
            ImageDraw.Draw(strip).rectangle((x + 1, y + 1, x + wide + 4, y + high + 4), outline=MARK, width=2)
    return strip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--difficulty", type=float, default=0.5)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    sheet(args.difficulty, args.seed).save(args.out)
    print(args.out)


if __name__ == "__main__":
    main()
