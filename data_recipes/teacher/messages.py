"""Rows as chat messages of an OpenAI-compatible endpoint: text, images as data URLs, videos as sampled frames."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from core.rows import Row
from data_recipes.teacher.endpoint import Endpoint, clean
from rewards.functions.choice import LETTERS, options_of

Part = dict[str, Any]
Message = dict[str, Any]

_SENT_AS_THEY_ARE = {b"\x89PNG\r\n\x1a\n": "png", b"\xff\xd8\xff": "jpeg"}


def text_of(content: Any) -> str:
    """The text of a message's content, parts joined by line breaks, media left out."""
    if isinstance(content, str):
        return content
    return "\n".join(part["text"] for part in content if part["type"] == "text")


def question_of(row: Row) -> str:
    """The text of the row's last user message."""
    return next(
        (text_of(message["content"]) for message in reversed(row["prompt"]) if message["role"] == "user"), ""
    )


def has_media(row: Row) -> bool:
    return bool(row.get("images") or row.get("videos"))


def plain_answer(row: Row) -> str | None:
    """The one assistant message that some data sets have in place of a trace, as text; None if the trace is another."""
    trace = row.get("trace")
    if isinstance(trace, list) and len(trace) == 1 and trace[0]["role"] == "assistant":
        content = trace[0]["content"]
        if isinstance(content, str) or all(part["type"] == "text" for part in content):
            return text_of(content).strip() or None
    return None


def gold_text(row: Row) -> str | None:
    """The true answer as a teacher or judge is told it; None if the row has none."""
    answer = row.get("answer")
    if not answer:
        return plain_answer(row)
    for name in ("value", "letter"):
        value = answer.get(name)
        if isinstance(value, int | float | str) and not isinstance(value, bool):
            option = _option(str(value), row)
            return f"{value}. {option}" if option else str(value)
    if len(answer) == 1:
        (value,) = answer.values()
        return json.dumps(value, ensure_ascii=False, default=str)
    return json.dumps(answer, ensure_ascii=False, default=str)


def prompt_messages(row: Row, endpoint: Endpoint, *, with_media: bool = True) -> list[Message]:
    """The row's prompt as the endpoint takes it; without media, their places are empty. Raises MediaError."""
    media = _media(row, endpoint) if with_media else {}
    return [
        {"role": message["role"], "content": _content(message["content"], media)} for message in row["prompt"]
    ]


def conversation(row: Row, endpoint: Endpoint) -> list[Message]:
    """The row's prompt and its dialogue, if its trace is one, as the endpoint takes them. Raises MediaError."""
    media = _media(row, endpoint)
    turns = row["trace"] if isinstance(row.get("trace"), list) else []
    return [
        {"role": message["role"], "content": _content(message["content"], media)}
        for message in [*row["prompt"], *turns]
    ]


def message_of(message: Mapping[str, Any], images: Sequence[Any], endpoint: Endpoint) -> Message:
    """A message as the endpoint takes it. images: of its placeholders, decoded or as in a row."""
    parts = iter([[_image_part(image_url(image, endpoint.max_pixels))] for image in images])
    return {"role": message["role"], "content": _content(message["content"], {"image": parts})}


def prompt_parts(row: Row, endpoint: Endpoint) -> list[Part]:
    """The row's prompt as parts of one message, for showing it to a teacher; roles are named where there are several."""
    media = _media(row, endpoint)
    several = len(row["prompt"]) > 1
    parts: list[Part] = []
    for message in row["prompt"]:
        if several:
            parts.append(text_part(f"[{message['role']}]"))
        content = _content(message["content"], media)
        parts += [text_part(content)] if isinstance(content, str) else content
    return parts


def media_parts(row: Row, endpoint: Endpoint) -> list[Part]:
    """The row's images, then its videos, without its text. Raises MediaError."""
    return [part for parts in _media(row, endpoint).values() for medium in parts for part in medium]


def media_fields(row: Row, endpoint: Endpoint) -> dict[str, Any]:
    """Fields of the request beside the messages that the row's media need: the frame rate of videos, for vLLM."""
    if endpoint.videos != "video" or not row.get("videos"):
        return {}
    rates = {video.fps for video in _videos(row, endpoint)}
    if len(rates) > 1:
        raise ValueError(
            f"row {row['id']!r}: expected videos of one frame rate in a request, got {sorted(rates)}"
        )
    return {"media_io_kwargs": {"video": {"num_frames": -1, "fps": rates.pop()}}}


def text_part(text: str) -> Part:
    return {"type": "text", "text": clean(text)}


def image_url(source: Any, max_pixels: int | None = None) -> str:
    """A data URL of an image: PNG and JPEG files as they are, others, and those that viewers turn or put on a ground, as
    PNG; shrunk if larger than max_pixels.

    Raises vlm.media.MediaError.
    """
    from vlm.media import load_image, stored_as_shown

    content: Any = source.get("bytes") or source.get("path") if isinstance(source, Mapping) else source
    if isinstance(content, str | Path) and Path(content).is_file():
        content = Path(content).read_bytes()
    start = content[:8] if isinstance(content, bytes) else b""
    kind = next((kind for magic, kind in _SENT_AS_THEY_ARE.items() if start.startswith(magic)), None)
    if kind is not None and not stored_as_shown(source):
        kind = None
    if kind is None or max_pixels is not None:
        image = load_image(source)
        small = _shrunk(image, max_pixels)
        if kind is None or small.size != image.size:
            content, kind = _encoded(small, "PNG"), "png"
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _option(value: str, row: Row) -> str | None:
    options = options_of(row.get("answer"), row)
    letter = value.strip().upper()
    if options and len(letter) == 1 and letter in LETTERS[: len(options)]:
        return options[LETTERS.index(letter)]
    return None


def _content(content: Any, media: Mapping[str, Iterator[list[Part]]]) -> str | list[Part]:
    """A message's content; placeholders are replaced by the next of `media` of their kind, or left out."""
    if isinstance(content, str):
        return clean(content)
    parts: list[Part] = []
    for part in content:
        if part["type"] == "text":
            parts.append(text_part(part["text"]))
        elif part["type"] in media:
            parts += next(media[part["type"]])
    if all(part["type"] == "text" for part in parts):
        return "\n".join(part["text"] for part in parts)
    return parts


def _media(row: Row, endpoint: Endpoint) -> dict[str, Iterator[list[Part]]]:
    images = [[_image_part(image_url(image, endpoint.max_pixels))] for image in row.get("images") or ()]
    videos = [_video_parts(video, endpoint) for video in _videos(row, endpoint)]
    return {"image": iter(images), "video": iter(videos)}


def _videos(row: Row, endpoint: Endpoint) -> Sequence[Any]:
    if not row.get("videos"):
        return ()
    from vlm.media import load_video

    return [
        load_video(video, fps=endpoint.video_fps, max_frames=endpoint.max_frames) for video in row["videos"]
    ]


def _image_part(url: str) -> Part:
    return {"type": "image_url", "image_url": {"url": url}}


def _video_parts(video: Any, endpoint: Endpoint) -> list[Part]:
    frames = [_jpeg(frame, endpoint.max_pixels) for frame in video.frames]
    if endpoint.videos == "video":
        return [{"type": "video_url", "video_url": {"url": f"data:video/jpeg;base64,{','.join(frames)}"}}]
    parts = [text_part(f"Frames of a video of {video.duration:.1f} seconds, each with its time:")]
    for i, frame in enumerate(frames):
        parts += [text_part(f"{i / video.fps:.1f} s"), _image_part(f"data:image/jpeg;base64,{frame}")]
    return parts


def _jpeg(frame: Any, max_pixels: int | None) -> str:
    from PIL import Image

    return base64.b64encode(
        _encoded(_shrunk(Image.fromarray(frame), max_pixels), "JPEG", quality=95)
    ).decode()


def _shrunk(image: Any, max_pixels: int | None) -> Any:
    if max_pixels is None or image.width * image.height <= max_pixels:
        return image
    scale = (max_pixels / (image.width * image.height)) ** 0.5
    return image.resize((max(1, int(image.width * scale)), max(1, int(image.height * scale))))


def _encoded(image: Any, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()
