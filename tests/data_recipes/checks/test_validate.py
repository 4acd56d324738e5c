"""Checks of a row before it is used: against its media, its frame, its video's length, its reward."""

from __future__ import annotations

import subprocess
import sys

import av
import numpy as np
import pytest
from PIL import Image

from data_recipes.checks import probes
from data_recipes.checks.validate import Validation, make_check
from data_recipes.records import Rejected
from rewards.errors import PluginError
from vlm.media import load_video

STAGES = {
    "summary": "I look.",
    "caption": "A cat.",
    "reasoning": "It sits left.",
    "conclusion": "[1, 2, 30, 40]",
}


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "a.png"
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (60, 100, 3), dtype=np.uint8)).save(path)
    return path


@pytest.fixture
def video(tmp_path):
    """12 s of 24 frames at 2 frames a second."""
    path = tmp_path / "a.mp4"
    rng = np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=2)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(24):
            frame = av.VideoFrame.from_ndarray(rng.integers(0, 255, (48, 64, 3), dtype=np.uint8))
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def row(task, answer, *, images=(), videos=(), **more):
    media = {
        "images": [str(i) for i in images],
        "videos": [v if isinstance(v, dict) else str(v) for v in videos],
    }
    return {"id": "r", "task": task, "prompt": [], "answer": answer, "trace": None, **media, **more}


def complaint(checked, **options):
    """What is wrong with a row; None if it is valid."""
    try:
        make_check(Validation(**options))(checked)
    except Rejected as error:
        return str(error)
    return None


# -------------------------------------------------------------------------------------------------------------- media


@pytest.mark.parametrize("decode", [True, False])
def test_good_rows_pass(image, video, decode):
    check = make_check(Validation(decode=decode))
    check(row("grounding", {"boxes": [[0, 0, 100, 60]], "frame": "pixel"}, images=[image]))
    check(row("detection", {"boxes": [], "frame": "pixel"}, images=[image]))
    check(row("pointing", {"box": [0, 0, 1000, 1000], "frame": "norm1000"}, images=[image]))
    check(row("temporal", {"spans": [[0, 4], [8.5, 12]]}, videos=[video], duration=12))
    check(row("math", {"value": "4,656"}))
    check(row("choice", {"letter": "B", "options": ["left", "right"]}))
    check(row("counting", None, trace=STAGES))
    check(row("chat", None, trace=[{"role": "assistant", "content": "Hello."}]))


def test_missing_and_broken_images_are_named(image, tmp_path):
    answer = {"boxes": [[0, 0, 100, 60]], "frame": "pixel"}
    missing = complaint(row("grounding", answer, images=[tmp_path / "b.png"]))
    assert missing == f"field 'images[0]': expected an image file, got no file {tmp_path / 'b.png'}"
    content = image.read_bytes()
    image.write_bytes(content[: len(content) // 2])
    broken = complaint(row("grounding", answer, images=[image]))
    assert broken.startswith(f"field 'images[0]': expected an image that decodes, got {image} (")
    assert complaint(row("grounding", answer, images=[image]), decode=False) is None  # its header is whole
    image.write_text("no image")
    assert "expected an image that decodes" in complaint(
        row("grounding", answer, images=[image]), decode=False
    )


def test_images_that_no_processor_takes_are_refused(tmp_path):
    Image.new("RGB", (900, 4)).save(tmp_path / "line.png")
    assert "aspect ratio of at most 200, got 900x4" in complaint(
        row("counting", {"value": 1}, images=[tmp_path / "line.png"])
    )


def test_bytes_are_media_too(image, video):
    content = {"bytes": image.read_bytes()}
    good = row("grounding", {"boxes": [[0, 0, 100, 60]], "frame": "pixel"})
    assert complaint(good | {"images": [content]}) is None
    assert "got 10 bytes" in complaint(good | {"images": [{"bytes": b"0123456789"}]})
    clip = {"bytes": video.read_bytes()}
    assert complaint(row("temporal", {"spans": [[0, 12]]}) | {"videos": [clip]}) is None


@pytest.mark.parametrize("decode", [True, False])
def test_a_video_that_breaks_off_is_refused(video, tmp_path, decode):
    whole = tmp_path / "whole.mp4"  # with its index in front
    with av.open(str(video)) as source, av.open(str(whole), "w", options={"movflags": "faststart"}) as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 2 // 3])
    wrong = complaint(row("temporal", {"spans": [[0, 3]]}, videos=[cut]), decode=decode)
    assert wrong.startswith("field 'videos[0]': expected")
    cut.write_bytes(b"no video")
    assert "expected a video that decodes" in complaint(row("temporal", {"spans": [[0, 3]]}, videos=[cut]))


def test_lengths_are_those_that_the_model_is_shown(video, shared_data):
    for path in (video, shared_data / "tvg_videos" / "v_rBMQFpHspmo.mp4"):
        shown = load_video(path, fps=2.0, max_frames=4096)
        for decode in (True, False):
            # an even number of frames
            assert probes.video_length(str(path), decode=decode) == pytest.approx(shown.duration, abs=1.01)


# ------------------------------------------------------------------------------------------------------------- places


@pytest.mark.parametrize(
    ("frame", "box", "inside"),
    [
        ("pixel", [0, 0, 100, 60], True),
        ("pixel", [0, 0, 100.01, 60], True),  # rounding of the annotation
        ("pixel", [0, 0, 101, 60], False),
        ("pixel", [-1, 0, 50, 60], False),
        ("resized", [0, 0, 112, 56], True),
        ("resized", [0, 0, 100, 60], False),
        ("norm1000", [0, 0, 1000, 1000], True),
        ("norm1000", [0, 0, 1001, 1000], False),
        ("norm1", [0.2, 0.2, 1, 1], True),
        ("norm1", [0.2, 0.2, 1.1, 1], False),
    ],
)
@pytest.mark.parametrize("task", ["grounding", "pointing"])
def test_boxes_lie_inside_the_image_in_their_frame(image, task, frame, box, inside):
    wrong = complaint(row(task, {"boxes": [box], "frame": frame}, images=[image]))
    assert (wrong is None) == inside
    if wrong:
        assert wrong.startswith("field 'answer.boxes': expected boxes inside the image of")
        assert f"(frame {frame})" in wrong


@pytest.mark.parametrize(
    "box", [[30, 2, 30, 40], [30, 2, 20, 40], [1, 2, 3], [1, 2, float("nan"), 4], [1, 2, True, 4], "1 2 3 4"]
)
def test_boxes_that_are_none_are_refused_by_the_reward(image, box):
    assert complaint(row("grounding", {"boxes": [box], "frame": "pixel"}, images=[image])).startswith(
        "field 'answer.boxes': expected"
    )


def test_sizes_frames_and_images_must_agree(image):
    answer = {"boxes": [[1, 2, 30, 40]], "frame": "pixel"}
    assert "field 'image_size': expected the file's [100, 60], got [60, 100]" in complaint(
        row("grounding", answer, images=[image], image_size=[60, 100])
    )
    assert complaint(row("grounding", answer, images=[image], image_size=[100, 60])) is None
    assert "field 'answer.frame': expected one of pixel" in complaint(
        row("grounding", answer | {"frame": "pixels"}, images=[image])
    )
    assert "field 'images': expected image 0, which 'boxes' lies in, got 0 images" in complaint(
        row("grounding", answer)
    )
    assert "expected image 1" in complaint(row("grounding", answer | {"image": 1}, images=[image]))


def test_points_lie_inside_too(image):
    rewards = {"rewards": {"pointing": "point_distance"}}
    assert (
        complaint(row("pointing", {"point": [100, 60], "frame": "pixel"}, images=[image]), **rewards) is None
    )
    wrong = complaint(row("pointing", {"point": [100, 61], "frame": "pixel"}, images=[image]), **rewards)
    assert wrong.startswith(
        "field 'answer.point': expected a point inside the image of 100 x 60 (frame pixel)"
    )


# -------------------------------------------------------------------------------------------------------------- times


@pytest.mark.parametrize(
    ("spans", "right"),
    [
        ([[0, 12]], True),
        ([[11, 12.9]], True),
        ([[11, 13.1]], False),
        ([[12, 12.5]], False),
        ([[0, 3], [5, 20]], False),
    ],
)
def test_spans_lie_inside_the_video_with_a_tolerance(video, spans, right):
    wrong = complaint(row("temporal", {"spans": spans}, videos=[video]))
    assert (wrong is None) == right
    if wrong:
        assert wrong.startswith(
            "field 'answer.spans': expected spans inside the video of 12.00 s (tolerance 1 s)"
        )
    assert complaint(row("temporal", {"spans": [[11, 12.9]]}, videos=[video]), span_tolerance=0.5) is not None


def test_spans_and_clips_that_are_none_are_refused(video):
    assert "0 <= start < end" in complaint(row("temporal", {"spans": [[5, 4]]}, videos=[video]))
    assert "field 'videos': expected video 0" in complaint(row("temporal", {"spans": [[1, 4]]}))
    clip = {"path": str(video), "start": 4, "end": 8}
    assert complaint(row("temporal", {"spans": [[1, 4]]}, videos=[clip])) is None
    assert "inside the video of 4.00 s" in complaint(row("temporal", {"spans": [[1, 6]]}, videos=[clip]))
    clip["end"] = 20
    assert "expected 0 <= start < end <= 12.00 s" in complaint(
        row("temporal", {"spans": [[1, 4]]}, videos=[clip])
    )


def test_another_cut_of_the_video_is_noticed(video):
    wrong = complaint(row("temporal", {"spans": [[1, 4]]}, videos=[video], duration=60))
    assert wrong == "field 'duration': expected the video's 12.00 s within 1 s, got 60 s: another cut?"


# --------------------------------------------------------------------------------------------------- answers and traces


@pytest.mark.parametrize(
    ("task", "answer", "field"),
    [
        ("counting", {"value": "three"}, "answer"),
        ("choice", {"letter": "C", "options": ["left", "right"]}, "answer"),
        ("grounding", {"boxes": [[1, 2, 30, 40], [5, 5, 9, 9]], "frame": "pixel"}, "answer.boxes"),
        ("grounding", {"value": 3}, "answer"),
        ("math", {}, "answer"),
    ],
)
def test_answers_that_the_reward_cannot_read_are_refused(image, task, answer, field):
    wrong = complaint(row(task, answer, images=[image]))
    assert wrong.startswith(f"field '{field}")


def test_the_rewards_of_the_run_can_be_named(image, tmp_path):
    two = row("grounding", {"boxes": [[1, 2, 30, 40], [5, 5, 9, 9]], "frame": "pixel"}, images=[image])
    assert complaint(two, rewards={"grounding": "box_set"}) is None
    own = tmp_path / "own.py"
    own.write_text("def f(completion, answer, level, **row):\n    return 1.0\n")
    wrong = complaint(row("mine", {"x": 1}), rewards={"mine": [f"{own}:f"]})
    assert "needs a column 'level'" in wrong
    assert complaint(row("mine", {"x": 1}, level=3), rewards={"mine": f"{own}:f"}) is None
    with pytest.raises(PluginError, match="did you mean 'giou'"):
        make_check(Validation(rewards={"grounding": "gious"}))


def test_a_task_without_reward_must_be_declared():
    unknown = row("puzzle", {"value": 1})
    assert "field 'task': expected one with a reward" in complaint(unknown)
    assert complaint(unknown, rewards={"puzzle": None}) is None


def test_rows_have_an_answer_or_a_trace():
    assert (
        complaint(row("math", None))
        == "field 'answer': expected an answer, a trace, a document or a pair of responses, got none of them"
    )
    assert (
        complaint(row("math", None, trace=STAGES), need_answer=True)
        == "field 'answer': expected an answer, got null"
    )


def test_traces_follow_the_grammar():
    good = {"value": 3}
    assert complaint(row("counting", good, trace=STAGES)) is None
    tag = complaint(row("counting", good, trace=STAGES | {"caption": "A <CONCLUSION>3</CONCLUSION>"}))
    assert tag.startswith("field 'trace': ")
    assert "'<CONCLUSION>'" in tag
    assert complaint(row("counting", good, trace=STAGES | {"reasoning": " "})) == (
        "field 'trace.reasoning': expected text, got an empty stage"
    )


def test_traces_of_messages_begin_and_end_with_the_assistant():
    said, seen = {"role": "assistant", "content": "I look."}, {"role": "user", "content": "A crop."}
    assert complaint(row("chat", None, trace=[said, seen, said])) is None
    for trace in ([said, seen], [seen, said], [seen]):
        assert "field 'trace': expected messages that begin and end" in complaint(
            row("chat", None, trace=trace)
        )


def test_validation_needs_no_torch():
    code = "import sys, data_recipes.checks.validate as v; v.make_check(v.Validation()); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
