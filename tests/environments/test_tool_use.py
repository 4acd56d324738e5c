"""The environment of tools: what calls show, how observations are numbered, and that nothing a policy writes can do harm."""

from __future__ import annotations

import json
import time
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from environments.build import load_tools, with_tools
from environments.config import EnvironmentConfig
from environments.dialogue import images_of
from environments.tool_use import ToolEnvironment
from environments.types import Done, Observation

from . import tools_of_a_user

FILE = tools_of_a_user.__file__
SPECIAL = ("<|im_start|>", "<|im_end|>", "<|image_pad|>")
RNG = np.random.default_rng(0)
PICTURE = Image.fromarray(RNG.integers(0, 255, (300, 400, 3), dtype=np.uint8))
BUILT_IN = ["zoom", "rotate", "frames", "image_zoom_in_tool"]


def environment(*tools, frame="norm1", pixels=(1, 10**9)):
    config = EnvironmentConfig(tools=[t if isinstance(t, dict) else {"tool": t} for t in tools], workers=1)
    return ToolEnvironment(
        load_tools(config),
        frame=frame,
        pixels=pixels,
        special=SPECIAL,
        seconds_per_call=10.0,
        late_call_ends=False,
    )


def zoom(box, source="original_image"):
    return f"<grounding>{json.dumps({'bbox_2d': box, 'source': source})}</grounding>"


def tool_call(name, **arguments):
    return f"<tool_call>{json.dumps({'name': name, 'arguments': arguments})}</tool_call>"


def row(**columns):
    return {"id": "r", "images": [PICTURE], **columns}


def shown_by(answer):
    assert isinstance(answer, Observation) and answer.error is None, answer
    return images_of(answer.content)


def same(a, b):
    return a.size == b.size and (np.asarray(a) == np.asarray(b)).all()


def test_zooms_are_crops_of_the_full_resolution_of_any_earlier_image():
    one = environment("zoom", pixels=(1, 5000))
    state = one.reset(row())
    (first,) = shown_by(one.respond(state, zoom([0.25, 0.5, 0.75, 1.0])))
    assert first.width * first.height <= 5100  # reduced as shown
    (second,) = shown_by(one.respond(state, zoom([0.5, 0.0, 0.75, 0.2], "observation_1")))
    assert same(second, PICTURE.crop((200, 150, 250, 180)))


@pytest.mark.parametrize(
    ("frame", "box"),
    [
        ("norm1", [0.25, 0.5, 0.75, 1.0]),
        ("norm1000", [250, 500, 750, 1000]),
        ("pixel", [100, 150, 300, 300]),
        ("resized", [98, 154, 294, 308]),  # 400 x 300 becomes 392 x 308
    ],
)
def test_boxes_are_read_in_the_declared_frame(frame, box):
    one = environment("zoom", frame=frame)
    limits = {"model_min_pixels": 784, "model_max_pixels": 10**6, "model_factor": 28}
    answer = one.respond(one.reset(row(**limits)), zoom(box))
    assert same(shown_by(answer)[0], PICTURE.crop((100, 150, 300, 300)))
    assert answer.details == {"source": "original_image", "box": [100, 150, 300, 300]}


def test_a_failed_call_shifts_no_observation():
    one = environment("zoom")
    state = one.reset(row())
    one.respond(state, zoom([0.0, 0.0, 0.5, 0.5]))
    failed = one.respond(state, zoom([0.5, 0.5, 0.2, 0.2]))
    assert failed.error and "Action 1 failed" in failed.content[0]
    third = one.respond(state, zoom([0.5, 0.5, 1.0, 1.0]))
    assert third.content[0] == "Action 2 gave this region (Observation 2):\n"
    (again,) = shown_by(one.respond(state, zoom([0, 0, 1, 1], "observation_2")))
    assert same(again, PICTURE.crop((200, 150, 400, 300)))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (zoom([0.2, 0.2, 0.2, 0.5]), "x1 < x2"),
        (zoom([0.2, 0.2, 0.2001, 0.5]), "at least one pixel"),
        (zoom([20, 20, 50, 50]), "far outside"),
        (zoom([1.1, 0.1, 1.3, 0.2]), "at least one pixel"),
        (zoom([True, 0, 1, 1]), "four numbers"),
        (zoom([0, 0, 1]), "four numbers"),
        (zoom("0 0 1 1"), "four numbers"),
        (zoom([0, 0, 1, 1], "observation_1"), "expected one of original_image, got 'observation_1'"),
        (zoom([0, 0, 1, 1], "/etc/passwd"), "expected one of original_image"),
        (zoom([0, 0, 1, 1], ["original_image"]), "something else than a name"),
        ("<grounding>{}</grounding>", "bbox_2d is missing"),
        (tool_call("zoom", bbox_2d=[0, 0, 1, 1], path="/etc/passwd"), "no argument 'path'"),
        (tool_call("open"), "unknown tool 'open'"),
        (tool_call("<|im_end|>"), "unknown tool '< |im_end|>'"),
        (tool_call("rotate", angle="left"), "argument angle"),
        (tool_call("frames", start=0, end=1), "nothing to look at"),
        ("<grounding>{0 0 1 1}</grounding>", "not JSON"),
    ],
)
def test_a_call_that_cannot_be_carried_out_is_an_observation_that_says_why(text, problem):
    one = environment(*BUILT_IN)
    answer = one.respond(one.reset(row()), text)
    assert isinstance(answer, Observation) and problem in answer.error
    assert problem in "".join(answer.content) and not images_of(answer.content)


def test_a_turn_without_a_call_ends_the_episode():
    one = environment("zoom")
    assert one.respond(one.reset(row()), "<think>47</think><answer>47</answer>") == Done()


def test_qwens_calls_are_answered_in_qwens_format():
    one = environment("zoom", "rotate")
    state = one.reset(row())
    answer = one.respond(state, tool_call("rotate", angle=90))
    assert answer.content[0] == "<tool_response>\n" and answer.content[1] == "observation_1:\n"
    assert same(shown_by(answer)[0], PICTURE.transpose(Image.Transpose.ROTATE_270))
    assert one.respond(state, tool_call("turn")).content[0].startswith("<tool_response>\nerror: ")


def test_deepeyes_zoom_in_pixels_of_the_image_as_shown():
    one = environment("image_zoom_in_tool", frame="resized")
    limits = {"model_min_pixels": 784, "model_max_pixels": 10**6, "model_factor": 28}
    call = tool_call("image_zoom_in_tool", bbox_2d=[98, 154, 294, 308], label="sign")
    answer = one.respond(one.reset(row(**limits)), call)
    assert same(shown_by(answer)[0], PICTURE.crop((100, 150, 300, 300)))


def test_turning_an_image_again_and_again_does_not_make_it_grow():
    one = environment("rotate", pixels=(1, 200_000))
    state = one.reset(row())
    for number in range(1, 6):
        source = f"observation_{number - 1}" if number > 1 else "original_image"
        one.respond(state, tool_call("rotate", angle=45, source=source))
    largest = state.images["observation_5"].full
    assert largest.width * largest.height <= 200_000


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    """Ten seconds at 8 frames per second; the brightness is the frame's number."""
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=8)
        stream.width, stream.height = 64, 48
        for i in range(80):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 2 * i, dtype=np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def test_frames_of_a_span_at_a_higher_rate_counted_from_the_part_that_the_row_shows(clip):
    one = environment("frames")
    state = one.reset({"id": "r", "videos": [{"path": str(clip), "start": 2.0, "end": 8.0}]})
    answer = one.respond(state, tool_call("frames", start=1.0, end=2.0, fps=4))
    values = [np.asarray(image).mean() / 2 for image in shown_by(answer)]
    np.testing.assert_allclose(values, [24, 26, 28, 30], atol=1.5)
    assert "At 1.25 s:" in "".join(part for part in answer.content if isinstance(part, str))
    for span in (
        {"start": 5.0, "end": 9.0, "fps": 1},
        {"start": 0, "end": 6, "fps": 30},
        {"start": 3, "end": 2},
    ):
        assert one.respond(state, tool_call("frames", **span)).error


@pytest.mark.slow
def test_tools_of_users_run_in_processes_that_can_be_killed():
    one = environment(
        *(f"{FILE}:{name}" for name in ("hang", "crash", "fail", "multiply", "mirrored", "control_tokens"))
    )
    one._seconds = 20.0
    try:
        state = one.reset(row())
        assert "3.0" in "".join(one.respond(state, tool_call("multiply", a=1.5)).content)
        (mirrored,) = shown_by(one.respond(state, tool_call("mirrored")))
        assert same(mirrored, PICTURE.transpose(Image.Transpose.FLIP_LEFT_RIGHT))
        assert "its process ended" in one.respond(state, tool_call("crash")).error
        answer = one.respond(state, tool_call("fail", message="<|im_end|>\n. no such sign."))
        assert answer.error == "RuntimeError: < |im_end|> . no such sign"
        assert "control token" in one.respond(state, tool_call("control_tokens")).error
        one._seconds = 0.2
        began = time.monotonic()
        assert one.respond(state, tool_call("hang", seconds=50)).error == "took longer than 0.2 s"
        assert time.monotonic() - began < 45
        one._late_call_ends = True
        assert one.respond(state, tool_call("hang", seconds=50)) == Done("seconds")
        one._seconds = 20.0
        assert "awake" in "".join(one.respond(state, tool_call("hang", seconds=0)).content)
    finally:
        one.close()


def test_prompts_describe_the_tools_where_asked_for():
    config = EnvironmentConfig(tools=["zoom"])
    rows = [
        {"id": "a", "prompt": [{"role": "user", "content": "?"}]},
        {"id": "b", "prompt": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "?"}]},
    ]
    first, second = with_tools(rows, config)
    assert '"name": "zoom"' in first["prompt"][0]["content"] and first["prompt"][1:] == rows[0]["prompt"]
    assert second["prompt"][0]["content"].startswith("Be brief.\n\n# Tools")
    assert with_tools(rows, EnvironmentConfig(tools=["zoom"], describe_tools=False)) == rows


numbers = st.floats() | st.integers() | st.booleans() | st.none() | st.text()
values = st.recursive(
    numbers, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=3)
)
boxes = st.lists(st.floats(-1, 2) | st.integers(-3, 3), min_size=4, max_size=4) | values
sources = st.sampled_from(
    ["original_image", "observation_1", "observation_2", "/etc/passwd", "..", "original_video"]
)
arguments = st.fixed_dictionaries(
    {},
    optional={
        "bbox_2d": boxes,
        "source": sources | values,
        "angle": values,
        "start": values,
        "end": values,
        "x": values,
    },
)
names = st.sampled_from([*BUILT_IN, "eval", "open", "__class__"]) | st.text()
turns = st.one_of(
    st.builds(lambda a: f"<grounding>{json.dumps(a)}</grounding>", arguments),
    st.builds(
        lambda n, a: f"<tool_call>{json.dumps({'name': n, 'arguments': a})}</tool_call>", names, arguments
    ),
    st.text(),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(turns, min_size=1, max_size=4))
def test_nothing_a_policy_writes_raises_or_leaves_its_images(texts):
    one = environment(*BUILT_IN, pixels=(1, 20_000))
    state = one.reset(row())
    for number, text in enumerate(texts, start=1):
        answer = one.respond(state, text)
        assert isinstance(answer, Done | Observation)
        if isinstance(answer, Observation):
            assert not any(
                token in part for part in answer.content if isinstance(part, str) for token in SPECIAL
            )
            json.dumps([answer.call, dict(answer.details)]).encode()
            if box := answer.details.get("box"):
                width, height = state.images[answer.details["source"]].full.size
                assert 0 <= box[0] < box[2] <= width and 0 <= box[1] < box[3] <= height
        assert len(state.images) <= 1 + number
