"""Images changed at random with the boxes of their rows: the boxes hold what they held, and every run sees the same images."""

from __future__ import annotations

import shutil
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from pydantic import ValidationError
from torchvision.transforms import v2

from core.rows import Row, read_rows, write_rows
from sft.augmentation.augmenter import Augmenter, described
from sft.config import AugmentConfig
from sft.data import TraceError, encode_example
from sft.loading import Encoder, Steps
from sft.packing import shared
from sft.run import augmented
from tests.sft.test_loop import assert_same_weights, metrics, train
from vlm.load import load_processor, pixel_limits

BOX = [60, 20, 90, 45]
STAGES = ("summary", "caption", "reasoning", "conclusion")


def make(folder: Path, name: str, question: str, box: list[int] | None = BOX, **more) -> Row:
    """A row about an image of 120 x 80 pixels, dark but for one box."""
    path = folder / f"{name}.png"
    image = Image.new("RGB", (120, 80), (20, 30, 60))
    if box:
        ImageDraw.Draw(image).rectangle((box[0], box[1], box[2] - 1, box[3] - 1), fill=(250, 240, 250))
    image.save(path)
    said = f"It is at {box}." if box else "It is there."
    row = {
        "id": name,
        "task": "grounding" if box else "chat",
        "prompt": [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question}]}],
        "images": [str(path)],
        "videos": [],
        "answer": {"boxes": [box], "frame": "pixel"} if box else None,
        "trace": dict.fromkeys(STAGES, said),
        "source": "test",
    }
    return row | more


@pytest.fixture(scope="module")
def rows(tmp_path_factory) -> list[Row]:
    folder = tmp_path_factory.mktemp("media")
    first = make(folder, "a", "Where is the dog?")
    return [
        first,
        first | {"id": "again", "prompt": make(folder, "again", "Where is the cat?")["prompt"]},
        make(folder, "sided", "Where is the dog on the left?"),
        make(folder, "coloured", "Where is the white dog?"),
        make(folder, "nowhere", "What animal is that?", box=None),
        make(folder, "counted", "How many dogs are there?", task="counting"),
    ]


@pytest.fixture(scope="module")
def processor(tiny):
    return load_processor(tiny, min_pixels=28 * 28, max_pixels=28 * 28 * 16)


def augmenter(rows, seed=0, **config) -> Augmenter:
    limits = {"min_pixels": 784, "max_pixels": 28 * 28 * 16, "factor": 28}
    return Augmenter(rows, AugmentConfig(refused="skip", **config), seed, limits)


def bright_box(image: Image.Image) -> list[int]:
    ys, xs = (np.asarray(image).min(axis=-1) > 130).nonzero()
    return [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]


@pytest.mark.parametrize(
    "config", [{"flip": 0.5}, {"crop": 1.0}, {"flip": 0.5, "crop": 0.7, "crop_scale": (0.3, 0.9)}]
)
def test_the_boxes_hold_what_they_held(rows, config):
    changes = augmenter(rows, **config)
    seen = Counter()
    for epoch in range(30):
        new = changes(rows[0], 0, epoch)
        seen.update([new.done])
        image = new.row["images"][0] if new.done else Image.open(rows[0]["images"][0])
        (box,) = new.row["answer"]["boxes"]
        assert image.size == (120, 80) and np.abs(np.subtract(bright_box(image), box)).max() <= 1
        assert new.row["trace"] == dict.fromkeys(STAGES, f"It is at {box}.")
        assert new.row["prompt"] == rows[0]["prompt"] and new.row.keys() == rows[0].keys()
    assert len(seen) >= 2


def test_flips_and_jitter_are_the_librarys_own(rows):
    image = Image.open(rows[0]["images"][0])
    flip = augmenter(rows, flip=1.0)(rows[0], 0, 0).row["images"][0]
    assert np.array_equal(flip, v2.functional.horizontal_flip(image))
    jitter = augmenter(rows, jitter=1.0, hue=0.0, contrast=0.0, saturation=0.0, brightness=0.5)
    factors = []
    for epoch in range(8):
        changed = np.asarray(jitter(rows[0], 0, epoch).row["images"][0], float)
        factors.append(changed[0, 0, 2] / 60)
        wanted = v2.functional.adjust_brightness(image, factors[-1])
        assert np.abs(changed - np.asarray(wanted, float)).max() <= 3  # the factor is read from 8 bits
    assert len(set(factors)) > 4 and min(factors) >= 0.49 and max(factors) <= 1.51


def test_all_images_of_a_row_change_alike(rows, tmp_path):
    call = '<grounding>{"bbox_2d": [0.5, 0.25, 0.75, 0.5], "source": "original_image"}</grounding>'
    crop = tmp_path / "crop.png"
    Image.open(rows[0]["images"][0]).crop((60, 20, 80, 40)).save(crop)
    turns = [
        {"role": "assistant", "content": f"<think>I look there.</think>{call}"},
        {"role": "user", "content": [{"type": "text", "text": "The region on the left:"}, {"type": "image"}]},
        {"role": "assistant", "content": "<answer>dog</answer>"},
    ]
    row = rows[4] | {"trace": turns, "images": [rows[0]["images"][0], str(crop)]}
    new = augmenter([row], flip=1.0, crop=1.0)(row, 0, 0)
    assert new.done == ("flip",)  # a crop would part the regions from the image they are of
    assert '"bbox_2d": [0.25, 0.25, 0.50, 0.50]' in new.row["trace"][0]["content"]
    for old, changed in zip(row["images"], new.row["images"], strict=True):
        assert np.array_equal(np.asarray(changed)[:, ::-1], Image.open(old))


def test_what_is_drawn_depends_on_seed_epoch_and_row_alone(rows):
    def drawn(changes, epochs=range(12), index=0):
        return [changes(rows[index], index, epoch).done for epoch in epochs]

    config = {"flip": 0.5, "crop": 0.5, "jitter": 0.5}
    first = drawn(augmenter(rows, **config))
    torch.manual_seed(5)
    state = torch.random.get_rng_state()
    assert drawn(augmenter(rows, **config)) == first and torch.equal(torch.random.get_rng_state(), state)
    assert drawn(augmenter(rows, **config), range(11, -1, -1)) == first[::-1]
    assert (
        drawn(augmenter(rows, seed=1, **config)) != first
        and drawn(augmenter(rows, **config), index=3) != first
    )
    assert drawn(augmenter(rows, **config), index=1) == first  # about the same image
    assert len(set(first)) > 5


def test_a_crop_that_would_drop_the_target_is_not_taken_and_counted(rows, tmp_path):
    wide = make(tmp_path, "wide", "Where is the dog?", box=[0, 0, 120, 79])
    changes = augmenter([wide], crop=1.0, crop_scale=(0.2, 0.6))
    new = changes(wide, 0, 0)
    assert new.row is wide and not new.done and new.counts == ("not_cropped",)


def test_refusals_are_listed_by_change_reason_and_row(rows):
    said = described(augmenter(rows, flip=0.5, crop=0.25, jitter=1.0))
    assert said.splitlines() == [
        "augment: flip 0.5, crop 0.25, jitter 1, of 6 rows with images",
        "  crop refused for 1 rows, a place in the image: 'sided' (left)",
        "  crop refused for 1 rows, no box or point that says what must stay in view: 'nowhere'",
        "  crop refused for 1 rows, a count: 'counted' (task counting)",
        "  flip refused for 1 rows, a side: 'sided' (left)",
        "  jitter refused for 1 rows, a colour: 'coloured' (white)",
    ]


def test_rows_with_videos_and_with_boxes_in_one_of_several_images_are_refused(rows):
    video = rows[0] | {"id": "video", "videos": ["a.mp4"]}
    images = [{"type": "image"}, {"type": "image"}, {"type": "text", "text": "Where is the dog?"}]
    several = rows[0] | {
        "id": "several",
        "images": rows[0]["images"] * 2,
        "prompt": [{"role": "user", "content": images}],
    }
    refused = augmenter([video, several], flip=1.0, crop=1.0).refused
    assert {(change, why): [name for name, _ in found] for (change, why), found in refused.items()} == {
        ("flip", "videos"): ["video"],
        ("crop", "videos"): ["video"],
        ("flip", "several images, and coordinates in one of them"): ["several"],
        ("crop", "several images"): ["several"],
    }


def test_rows_share_what_was_changed_alike_and_nothing_else(processor, rows):
    """Rows 0 and 1 are about one image; a flip is allowed for both, until one of them says where its left is."""
    encoder = Encoder(processor, rows, max_frames=8, cache=True)
    other = rows[1] | {"trace": dict.fromkeys(STAGES, "It is on the left.")}
    for second, prefixes in ((rows[1], 1), (other, 2)):
        pair = [rows[0], second]
        changes = augmenter(pair, flip=1.0)
        examples = [encoder.augmented(i, changes(row, i, 0)) for i, row in enumerate(pair)]
        assert len(shared(examples)) == prefixes


def test_changed_rows_pass_the_cache_by(processor, rows):
    encoder = Encoder(processor, rows, max_frames=8, cache=True)
    changes = augmenter(rows, flip=0.5)
    plain = encode_example(processor, rows[0], max_frames=8).sequence
    for epoch in range(8):
        new = changes(rows[0], 0, epoch)
        got = encoder.augmented(0, new).sequence
        wanted = encode_example(processor, new.row, max_frames=8).sequence
        assert torch.equal(got.pixel_values, wanted.pixel_values) and torch.equal(
            got.input_ids, wanted.input_ids
        )
        assert torch.equal(got.pixel_values, plain.pixel_values) == (not new.done)


def test_every_share_of_a_step_sees_the_same_images(processor, rows):
    changes = augmenter(rows, flip=0.5, crop=0.5, jitter=0.5)
    encoder = Encoder(processor, rows, max_frames=8)

    def steps(*indices):
        augment = partial(augmented, changes, rows, 1)
        return Steps(encoder, lambda step: list(indices), 10_000, None, augment=augment)

    whole, parts = steps(0, 2, 4), [steps(0), steps(2, 4)]
    for step in range(4):
        assert whole[step].augmented == sum((part[step].augmented for part in parts), Counter())
        shares = [batch for part in parts for batch in part[step].batches]
        pixels = torch.cat([share.packed.inputs["pixel_values"] for share in shares])
        assert torch.equal(
            rows_sorted(whole[step].batches[0].packed.inputs["pixel_values"]), rows_sorted(pixels)
        )


def rows_sorted(pixels: torch.Tensor) -> torch.Tensor:
    return torch.stack(sorted(pixels, key=lambda patch: patch.tolist()))


RUN = {"steps": 6, "rows_per_step": 4, "save_every": 3, "log_every": 2, "data__cache_rows": True}
AUGMENT = {"flip": 0.5, "crop": 0.5, "jitter": 0.5, "refused": "skip"}


def test_a_resumed_run_sees_the_images_of_an_unbroken_one(tiny, rows, tmp_path, capfd):
    """6 rows in steps of 4: the run goes on in the second epoch, between two logs."""
    file = write_rows(rows, tmp_path / "rows.jsonl")
    changes = RUN | {"data__augment": AUGMENT, "data__eval_rows": str(file), "eval_every": 3}
    whole = train(tiny, file, tmp_path / "whole", **changes)
    assert "jitter refused for 1 rows, a colour: 'coloured' (white)" in "".join(capfd.readouterr())
    ignored = shutil.ignore_patterns("checkpoint-6", "final", "finished.json")
    shutil.copytree(whole.parent, tmp_path / "half", ignore=ignored)
    half = train(tiny, file, tmp_path / "half", resume="auto", **changes)
    assert_same_weights(whole, half)
    lines = [[line for line in metrics(run.parent) if "loss" in line] for run in (whole, half)]
    for one, other in zip(*lines, strict=True):
        assert {k: v for k, v in one.items() if k != "tokens_per_second"} == {
            k: v for k, v in other.items() if k != "tokens_per_second"
        }
    counts = Counter()
    for line in lines[0]:
        counts.update(
            {name: line[f"augment/{name}"] for name in ("flipped", "cropped", "jittered", "not_cropped")}
        )
    assert counts["flipped"] and counts["cropped"] and counts["jittered"]
    plain = train(tiny, file, tmp_path / "plain", **RUN)
    with pytest.raises(AssertionError):
        assert_same_weights(whole, plain)


def test_refused_rows_are_an_error_unless_they_may_be_skipped(tiny, rows, tmp_path):
    file = write_rows(rows, tmp_path / "rows.jsonl")
    with pytest.raises(
        TraceError, match=r"augment\.refused: skip.*\n.*\n  flip refused for 1 rows, a side: 'sided' \(left\)"
    ):
        train(tiny, file, tmp_path / "run", data__augment={"flip": 0.5})
    allowed = write_rows(read_rows(file)[:2], tmp_path / "allowed.jsonl")
    assert train(tiny, allowed, tmp_path / "other", steps=1, data__augment={"flip": 0.5})


def test_a_config_that_changes_nothing_or_no_image_is_refused():
    for wrong in (
        {},
        {"flip": 1.5},
        {"crop": 1, "crop_scale": [0.0, 1]},
        {"crop": 1, "crop_ratio": [2, 1]},
        {"horizontal_flip": 1},
    ):
        with pytest.raises(ValidationError):
            AugmentConfig.model_validate(wrong)


def test_limits_are_those_of_the_models_processor(processor):
    assert pixel_limits(processor)["max_pixels"] == 28 * 28 * 16
