"""One converter between the frames of coordinates; round trips on real traces of Qwen3-VL and MiMo-VL."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from rewards.config import RewardsConfig, check_pixel_limits
from rewards.errors import PluginError
from rewards.functions.grounding import box_set_reward, giou_reward, read_boxes
from rewards.geometry.frames import FRAMES, check_frames, convert, sizes_of, smart_resize, with_model_limits
from tests.rewards.strategies import boxes, fuzz


def resized(width: int, height: int, **limits: int) -> tuple[float, float]:
    h, w = smart_resize(height, width, **limits)
    return float(w), float(h)


@given(
    box=boxes(),
    width=st.integers(28, 4000),
    height=st.integers(28, 4000),
    source=st.sampled_from(FRAMES),
    target=st.sampled_from(FRAMES),
)
@fuzz
def test_there_and_back_is_where_it_was(box: Any, width: int, height: int, source: str, target: str) -> None:
    sizes = (float(width), float(height)), resized(width, height)
    there = convert(box, source, target, *sizes)
    assert convert(there, target, source, *sizes) == pytest.approx(box, rel=1e-12)


def test_the_whole_image_is_the_whole_image_in_every_frame() -> None:
    sizes = (540.0, 599.0), (532.0, 588.0)
    whole = {
        "pixel": (0, 0, 540, 599),
        "resized": (0, 0, 532, 588),
        "norm1000": (0, 0, 1000, 1000),
        "norm1": (0, 0, 1, 1),
    }
    for source in FRAMES:
        for target in FRAMES:
            assert convert(whole[source], source, target, *sizes) == pytest.approx(whole[target])


@given(height=st.integers(1, 3000), width=st.integers(1, 3000), factor=st.sampled_from([28, 32]))
@fuzz
def test_smart_resize_equals_that_of_transformers(height: int, width: int, factor: int) -> None:
    from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize as reference

    limits = {"min_pixels": 4 * factor * factor, "max_pixels": 1280 * factor * factor}
    try:
        expected = reference(height, width, factor=factor, **limits)
    except ValueError:
        with pytest.raises(ValueError, match="aspect ratio"):
            smart_resize(height, width, factor=factor, **limits)
        return
    assert smart_resize(height, width, factor=factor, **limits) == expected


def test_mimo_boxes_of_the_resized_image_fit_the_original_and_come_back(shared_data: Path) -> None:
    trace = json.loads((shared_data / "cookbook_traces/mimo_grounding/trace.json").read_text())
    size, small = tuple(map(float, trace["image_size"])), tuple(map(float, trace["smart_resized"]))
    assert resized(*trace["image_size"]) == small
    predicted = read_boxes(trace["response"])
    assert len(predicted) == 13
    original = [convert(box, "resized", "pixel", size, small) for box in predicted]  # type: ignore[arg-type]
    assert all(0 <= x1 < x2 <= size[0] and 0 <= y1 < y2 <= size[1] for x1, y1, x2, y2 in original)
    for box, there in zip(predicted, original, strict=True):
        for frame in FRAMES:
            on = convert(there, "pixel", frame, size, small)  # type: ignore[arg-type]
            assert convert(on, frame, "resized", size, small) == pytest.approx(box, rel=1e-12)  # type: ignore[arg-type]
    # The whole path: a row whose truth is in pixels of the file, the model answering in the resized frame.
    answer = {"boxes": [list(box) for box in original], "frame": "pixel"}
    row = {"images": [str(shared_data / "cookbook_traces/mimo_grounding/dogs.jpeg")]}
    assert box_set_reward(trace["response"], answer, frame_out="resized", **row) == pytest.approx(1.0)
    assert box_set_reward(trace["response"], answer, **row) < 0.95


def test_qwen3_zoom_boxes_in_thousandths_give_the_crops_of_the_notebook(shared_data: Path) -> None:
    folder = shared_data / "cookbook_traces/hopinn"
    trace = json.loads((folder / "trace.json").read_text())
    with Image.open(folder / trace["image"]) as image:
        size = (float(image.width), float(image.height))
    texts = [
        part["text"] for part in trace["outputs"] if part["type"] == "text" and "bbox_2d" in part["text"]
    ]
    crops = [tuple(part["size"]) for part in trace["outputs"] if part["type"] == "image"]
    assert len(texts) == len(crops) == 4
    for text, crop in zip(texts, crops, strict=True):
        (box,) = read_boxes(text)
        pixels = convert(box, "norm1000", "pixel", size)
        assert convert(pixels, "pixel", "norm1000", size) == pytest.approx(box, rel=1e-12)
        width, height = round(pixels[2]) - round(pixels[0]), round(pixels[3]) - round(pixels[1])
        assert resized(width, height, factor=32, min_pixels=256 * 32 * 32, max_pixels=10**8) == crop


def test_a_models_frame_is_converted_to_the_truths(tmp_path: Path) -> None:
    Image.new("RGB", (200, 100)).save(tmp_path / "a.png")
    row = {"images": [str(tmp_path / "a.png")]}
    answer = {"boxes": [[20, 10, 40, 30]], "frame": "pixel"}
    assert giou_reward("[100, 100, 200, 300]", answer, frame_out="norm1000", **row) == 1.0
    assert giou_reward("[0.1, 0.1, 0.2, 0.3]", answer, frame_out="norm1", **row) == 1.0
    assert giou_reward("[20, 10, 40, 30]", answer, **row) == 1.0
    width, height = resized(200, 100)
    text = str([20 * width / 200, 10 * height / 100, 40 * width / 200, 30 * height / 100])
    assert giou_reward(text, answer, frame_out="resized", **row) > 0.999


def test_boxes_of_the_model_are_read_in_the_image_that_the_model_sees() -> None:
    """Whatever limits the truth was made for; where only the model's are known, they are the truth's too."""
    small = {"min_pixels": 28 * 28, "max_pixels": 28 * 28 * 8, "factor": 28}
    row = {"image_size": [300, 600], "frame_out": "resized"}
    (known,) = with_model_limits([row], small)
    seen, made_for = resized(300, 600, **small), resized(300, 600)
    assert seen != made_for
    pixel = {"boxes": [[30, 60, 150, 300]], "frame": "pixel"}

    def written(size: tuple[int, int]) -> str:
        return str([0.1 * size[0], 0.1 * size[1], 0.5 * size[0], 0.5 * size[1]])

    for answer in (pixel, {"boxes": [[0.1, 0.1, 0.5, 0.5]], "frame": "norm1"}):
        assert giou_reward(written(seen), answer, **known) > 0.999
        assert giou_reward(written(made_for), answer, **known) < 0.95
    truth = {
        "boxes": [[0.1 * made_for[0], 0.1 * made_for[1], 0.5 * made_for[0], 0.5 * made_for[1]]],
        "frame": "resized",
    }
    other = known | {"max_pixels": 28 * 28 * 1280}  # the limits that the truth was made for
    assert giou_reward(written(seen), truth, **other) > 0.999 > giou_reward(written(made_for), truth, **other)
    assert giou_reward(written(made_for), truth, **row) == 1.0  # no model is known
    same = {"boxes": [[0.1 * seen[0], 0.1 * seen[1], 0.5 * seen[0], 0.5 * seen[1]]], "frame": "resized"}
    assert giou_reward(written(seen), same, **known) == 1.0


def test_other_pixel_limits_than_the_models_are_refused() -> None:
    limits = {"min_pixels": 784, "max_pixels": 7840, "factor": 28}

    def config(**arguments: int) -> RewardsConfig:
        return RewardsConfig(tasks={"grounding": [{"function": "giou", **arguments}]})

    check_pixel_limits(config(), limits)
    check_pixel_limits(config(max_pixels=7840), limits)
    with pytest.raises(
        PluginError, match="rewards.tasks.grounding: giou's max_pixels is 9000, the model's 7840"
    ):
        check_pixel_limits(config(max_pixels=9000), limits)


def test_sizes_come_from_the_answer_the_row_or_the_file(tmp_path: Path) -> None:
    Image.new("RGB", (64, 32)).save(tmp_path / "a.png")
    Image.new("RGB", (300, 600)).save(tmp_path / "b.png")
    row: dict[str, Any] = {
        "images": [str(tmp_path / "a.png"), {"bytes": (tmp_path / "b.png").read_bytes(), "path": None}]
    }
    assert sizes_of({}, row)[0] == (64, 32)
    assert sizes_of({"image": 1}, row)[0] == (300, 600)
    assert sizes_of({}, {**row, "image_size": [10, 20]})[0] == (10, 20)
    assert sizes_of({"image_size": [7, 9]}, {**row, "image_size": [10, 20]})[0] == (7, 9)
    assert sizes_of({}, {**row, "resized_size": [56, 28]})[1] == (56, 28)
    assert sizes_of({"image": 1}, {**row, "max_pixels": 28 * 28 * 8})[1] == resized(
        300, 600, max_pixels=28 * 28 * 8
    )
    assert sizes_of({}, {}) == (None, None)


@pytest.mark.parametrize(
    ("answer", "row", "message"),
    [
        (
            {"frame": "pixels"},
            {},
            "answer.frame: expected one of pixel, resized, norm1000, norm1, got 'pixels'",
        ),
        ({"frame": "pixel"}, {"frame_out": "normalized"}, "frame_out: expected one of"),
        ({"frame": "pixel"}, {"frame_out": "norm1"}, "image_size: needed"),
        ({"frame": "pixel", "image_size": [0, 5]}, {"frame_out": "norm1"}, "image_size: expected a positive"),
        ({"frame": "pixel", "image": 3}, {"frame_out": "norm1", "images": []}, "image_size: needed"),
        ({"frame": "norm1"}, {"frame_out": "pixel", "images": ["no/such/file.png"]}, "cannot read the size"),
    ],
)
def test_frames_that_cannot_be_converted_are_found_when_data_is_loaded(
    answer: dict[str, Any], row: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        check_frames(answer, row, row.get("frame_out"))
