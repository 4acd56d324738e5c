"""Rows as messages of an endpoint."""

from __future__ import annotations

import base64
import io

import av
import numpy as np
import pytest
from PIL import Image

from data_recipes.teacher.endpoint import Endpoint
from data_recipes.teacher.messages import (
    gold_text,
    image_url,
    media_fields,
    prompt_messages,
    prompt_parts,
    question_of,
)
from vlm.media import MediaError

ENDPOINT = Endpoint(base_url="http://127.0.0.1:9/v1", model="big")


def picture(path, size=(40, 30), colour=(200, 10, 10)) -> str:
    Image.new("RGB", size, colour).save(path)
    return str(path)


@pytest.fixture
def clip(tmp_path) -> str:
    """Three seconds, four frames a second, growing brighter."""
    path = str(tmp_path / "clip.mp4")
    with av.open(path, "w") as container:
        stream = container.add_stream("mpeg4", rate=4)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for i in range(12):
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 20 * i, dtype=np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def decoded(url: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(url.split(",", 1)[1])))


def test_media_stand_in_reading_order(tmp_path):
    red, blue = picture(tmp_path / "a.png"), picture(tmp_path / "b.jpg", colour=(10, 10, 200))
    content = [
        {"type": "text", "text": "First"},
        {"type": "image"},
        {"type": "text", "text": "then"},
        {"type": "image"},
    ]
    prompt = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": content}]
    row = {"id": "r", "prompt": prompt, "images": [red, blue], "videos": []}
    system, user = prompt_messages(row, ENDPOINT)
    assert system == {"role": "system", "content": "Be brief."}
    assert [part["type"] for part in user["content"]] == ["text", "image_url", "text", "image_url"]
    first, second = (part["image_url"]["url"] for part in user["content"][1::2])
    assert first.startswith("data:image/png;") and second.startswith("data:image/jpeg;")
    assert decoded(first).getpixel((0, 0))[0] == 200 and decoded(second).getpixel((0, 0))[2] > 150
    assert prompt_messages(row, ENDPOINT, with_media=False)[1]["content"] == "First\nthen"
    shown = prompt_parts(row, ENDPOINT)
    assert [part.get("text") for part in shown] == [
        "[system]",
        "Be brief.",
        "[user]",
        "First",
        None,
        "then",
        None,
    ]


def test_files_are_sent_as_they_are_unless_too_large(tmp_path):
    path = picture(tmp_path / "a.png", (100, 50))
    content = (tmp_path / "a.png").read_bytes()
    assert base64.b64decode(image_url(path).split(",")[1]) == content
    assert image_url(content) == image_url({"bytes": content}) == image_url({"path": path}) == image_url(path)
    assert image_url(path, max_pixels=5000) == image_url(path)
    small = decoded(image_url(path, max_pixels=1250))
    assert small.size == (50, 25)


@pytest.mark.parametrize("name", ["a.bmp", "a.gif", "a.webp", "wrong.tiff"])
def test_other_formats_become_png(tmp_path, name):
    url = image_url(picture(tmp_path / name))
    assert url.startswith("data:image/png;") and decoded(url).size == (40, 30)


def test_an_image_that_does_not_decode_is_named(tmp_path):
    (tmp_path / "no.webp").write_bytes(b"RIFF nothing")
    with pytest.raises(MediaError, match=r"no\.webp"):
        image_url(str(tmp_path / "no.webp"))
    with pytest.raises(MediaError, match="gone"):
        image_url(str(tmp_path / "gone.png"))


def test_a_video_is_sent_as_frames_with_their_times(clip):
    content = [{"type": "video"}, {"type": "text", "text": "When?"}]
    row = {"id": "r", "prompt": [{"role": "user", "content": content}], "images": [], "videos": [clip]}
    (message,) = prompt_messages(row, ENDPOINT)
    texts = [part["text"] for part in message["content"] if part["type"] == "text"]
    assert texts == [
        "Frames of a video of 3.0 seconds, each with its time:",
        *(f"{t / 2:.1f} s" for t in range(6)),
        "When?",
    ]
    frames = [decoded(part["image_url"]["url"]) for part in message["content"] if part["type"] == "image_url"]
    brightness = [np.asarray(frame).mean() for frame in frames]
    assert len(frames) == 6 and brightness == sorted(brightness)
    assert media_fields(row, ENDPOINT) == {}
    few = ENDPOINT.model_copy(update={"max_frames": 2})
    assert sum(part["type"] == "image_url" for part in prompt_messages(row, few)[0]["content"]) == 2


def test_a_video_can_be_sent_whole_with_its_rate(clip):
    content = [{"type": "video"}, {"type": "text", "text": "When?"}]
    row = {"id": "r", "prompt": [{"role": "user", "content": content}], "images": [], "videos": [clip]}
    whole = ENDPOINT.model_copy(update={"videos": "video"})
    (message,) = prompt_messages(row, whole)
    url = message["content"][0]["video_url"]["url"]
    assert url.startswith("data:video/jpeg;base64,") and url.count(",") == 6
    assert media_fields(row, whole) == {"media_io_kwargs": {"video": {"num_frames": -1, "fps": 2.0}}}


@pytest.mark.parametrize(
    ("answer", "more", "text"),
    [
        ({"value": "4,656"}, {}, "4,656"),
        ({"value": 3}, {}, "3"),
        ({"letter": "B", "options": ["a cat", "a dog"]}, {}, "B. a dog"),
        ({"letter": "B"}, {"choices": ["a cat", "a dog"]}, "B. a dog"),
        ({"letter": "B"}, {}, "B"),
        ({"spans": [[1.0, 3.5]]}, {}, "[[1.0, 3.5]]"),
        ({"boxes": [[1, 2, 3, 4]], "frame": "pixel"}, {}, '{"boxes": [[1, 2, 3, 4]], "frame": "pixel"}'),
        (None, {"trace": [{"role": "assistant", "content": " A bus. "}]}, "A bus."),
        (None, {}, None),
    ],
)
def test_the_answer_as_a_teacher_is_told_it(answer, more, text):
    assert gold_text({"id": "r", "answer": answer, "trace": None} | more) == text


def test_text_that_no_file_can_hold_is_cleaned():
    row = {"id": "r", "prompt": [{"role": "user", "content": "a\ud800b"}], "images": [], "videos": []}
    assert prompt_messages(row, ENDPOINT) == [{"role": "user", "content": "a?b"}]
    assert question_of(row) == "a\ud800b"
