"""A contact sheet: rows as the model gets them, with the boxes, points and spans of their answers drawn in.

Images are opened and resized as for the model, so that a box in a wrong frame, or on a photograph that was turned, lies
visibly beside its object. Of a video, frames are shown as they are sampled, with their times.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image, ImageDraw, ImageFont, ImageOps

from core.rows import Row
from rewards.functions.grounding import gold_boxes
from rewards.functions.temporal import gold_spans
from rewards.geometry.frames import convert, frames_of, sizes_of, smart_resize
from rewards.geometry.overlap import Box, Point
from rewards.reading.gold import numbers
from vlm.media import MediaError, load_image, load_video

WIDTH, HEIGHT, TEXT = 460, 340, 76  # of a picture, and of the text under it, in pixels
COLUMNS, FRAMES, FRAMES_ACROSS = 4, 12, 4
OF_ACTIONS = ("start_box", "end_box")
MARK, GROUND = (230, 0, 230), (225, 225, 225)


def contact_sheet(
    rows: Sequence[Row], limits: Mapping[str, int] | None = None, columns: int = COLUMNS
) -> Image.Image:
    """One card per row, in lines of `columns`. limits: the model's, by name as `smart_resize` takes them (`vlm.load.pixel_limits`); None:
    Qwen2.5-VL's own."""
    cards = [card(row, limits) for row in rows]
    columns = min(columns, len(cards)) or 1
    high = -(-len(cards) // columns) or 1
    sheet = Image.new("RGB", (columns * WIDTH, high * (HEIGHT + TEXT)), "white")
    for i, one in enumerate(cards):
        sheet.paste(one, (i % columns * WIDTH, i // columns * (HEIGHT + TEXT)))
    return sheet


def card(row: Row, limits: Mapping[str, int] | None = None) -> Image.Image:
    """A row's pictures over its id, sizes, question and answer; what cannot be shown or drawn is said instead."""
    made = Image.new("RGB", (WIDTH, HEIGHT + TEXT), "white")
    try:
        picture, note = _film_strip(row) if row["videos"] else _pictures(row, limits or {})
    except (MediaError, ValueError) as error:
        picture, note = None, f"not shown: {error}"
    if picture is not None:
        made.paste(ImageOps.contain(picture, (WIDTH - 8, HEIGHT - 8)), (4, 4))
    text = f"{row['id']} ({row['task']}), {note}: {_question(row)} -> {row.get('answer')}"
    lines = textwrap.wrap(text.replace("\n", " "), 82)[:5]
    ImageDraw.Draw(made).multiline_text(
        (6, HEIGHT), "\n".join(lines), fill="black", font=ImageFont.load_default(11)
    )
    return made


def marks(row: Row, size: tuple[int, int]) -> tuple[list[Box], list[Point]]:
    """Boxes and points of a row's answer, in pixels of its image shown at `size` (width, height)."""
    answer = row.get("answer") or {}
    if not any(answer.get(name) is not None for name in ("boxes", "box", "point", *OF_ACTIONS)):
        return [], []
    _, frame = frames_of(answer, row)
    original, made_for = sizes_of(answer, row)

    def shown(values: Sequence[float]) -> Any:
        share = convert(values, frame, "norm1", original, made_for)
        return tuple(value * size[i % 2] for i, value in enumerate(share))

    has_box = any(answer.get(name) is not None for name in ("boxes", "box"))
    boxes = [shown(box) for box in gold_boxes(answer)] if has_box else []
    boxes += [shown(numbers(answer[n], 4, f"answer.{n}")) for n in OF_ACTIONS if answer.get(n) is not None]
    points = [shown(numbers(answer["point"], 2, "answer.point"))] if answer.get("point") is not None else []
    return boxes, points


def _pictures(row: Row, limits: Mapping[str, int]) -> tuple[Image.Image | None, str]:
    """The row's images side by side, each resized as for the model; marks on the one that the answer is about."""
    about = int((row.get("answer") or {}).get("image") or 0)
    shown, sizes = [], []
    for i, source in enumerate(row["images"]):
        image = load_image(source)
        height, width = smart_resize(image.height, image.width, **limits)
        seen = image.resize((width, height), Image.Resampling.BICUBIC)
        if i == about:
            _draw(seen, *marks(row, seen.size))
        shown.append(seen)
        sizes.append(f"{image.width}x{image.height} as {width}x{height}")
    if not shown:
        return None, "text alone"
    strip = Image.new("RGB", (sum(s.width + 6 for s in shown) - 6, max(s.height for s in shown)), GROUND)
    x = 0
    for seen in shown:
        strip.paste(seen, (x, 0))
        x += seen.width + 6
    return strip, ", ".join(sizes)


def _draw(image: Image.Image, boxes: Sequence[Box], points: Sequence[Point]) -> None:
    canvas, line = ImageDraw.Draw(image), max(2, image.width // 200)
    for x1, y1, x2, y2 in boxes:
        canvas.rectangle((x1 - 1, y1 - 1, x2, y2), outline=MARK, width=line)
    radius = max(3, max(image.size) // 60)
    for x, y in points:
        canvas.ellipse((x - radius, y - radius, x + radius, y + radius), outline=MARK, width=line)
        canvas.line((x - 2 * radius, y, x + 2 * radius, y), fill=MARK, width=line)
        canvas.line((x, y - 2 * radius, x, y + 2 * radius), fill=MARK, width=line)


def _film_strip(row: Row) -> tuple[Image.Image, str]:
    """Frames of the row's first video with their times, framed where a span of the answer holds."""
    video = load_video(row["videos"][0])
    answer = row.get("answer") or {}
    has_spans = answer.get("spans") is not None or answer.get("span") is not None
    spans = gold_spans(answer) if has_spans else []
    count, (high, wide) = len(video.frames), video.frames.shape[1:3]
    picked = sorted({round(i * (count - 1) / (FRAMES - 1)) for i in range(FRAMES)})
    rows_of_frames = -(-len(picked) // FRAMES_ACROSS)
    strip = Image.new("RGB", (FRAMES_ACROSS * (wide + 6), rows_of_frames * (high + 6)), "white")
    for number, index in enumerate(picked):
        x, y = number % FRAMES_ACROSS * (wide + 6), number // FRAMES_ACROSS * (high + 6)
        time = index / video.fps
        frame = Image.fromarray(video.frames[index])
        ImageDraw.Draw(frame).text(
            (3, 2),
            f"{time:g} s",
            fill="white",
            stroke_fill="black",
            stroke_width=2,
            font=ImageFont.load_default(14),
        )
        strip.paste(frame, (x + 3, y + 3))
        if any(start <= time < end for start, end in spans):
            ImageDraw.Draw(strip).rectangle((x + 1, y + 1, x + wide + 4, y + high + 4), outline=MARK, width=2)
    return strip, f"{count} frames of {wide}x{high}, {video.duration:g} s"


def _question(row: Row) -> str:
    content = row.get("document") or next(m["content"] for m in reversed(row["prompt"]))
    if isinstance(content, str):
        return content
    return " ".join(part["text"] for part in content if part["type"] == "text")
