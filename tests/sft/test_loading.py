"""Steps of rows: what the cache keeps, what workers hand over."""

from __future__ import annotations

import pytest
import torch

from core.rows import read_rows
from sft.data import encode_example
from sft.loading import Encoder, Steps
from vlm.load import load_processor


@pytest.fixture(scope="module")
def processor(tiny):
    return load_processor(tiny)


def test_cached_rows_are_the_same_and_small(processor, rows_file):
    rows = read_rows(rows_file)
    encoder = Encoder(processor, rows, max_frames=256, cache=True)
    for _ in range(2):  # filling, then reading
        for i, row in enumerate(rows):
            plain, cached = encode_example(processor, row), encoder(i)
            assert torch.equal(plain.sequence.input_ids, cached.sequence.input_ids)
            assert torch.equal(plain.sequence.position_ids, cached.sequence.position_ids)
            for name in ("pixel_values", "pixel_values_videos", "image_grid_thw", "video_grid_thw"):
                one, two = getattr(plain.sequence, name), getattr(cached.sequence, name)
                assert (one is None and two is None) or torch.equal(one, two)
            assert torch.equal(plain.stage_ids, cached.stage_ids) and plain.media == cached.media
    assert encoder._cache[0].sequence.pixel_values.dtype == torch.uint8


def from_each_half(step: int) -> list[int]:
    return [step, step + 4]


@pytest.mark.parametrize("workers", [0, 2])
def test_steps_come_in_order_and_leave_the_random_numbers_as_they_are(processor, rows_file, workers):
    encoder = Encoder(processor, read_rows(rows_file), max_frames=256)
    steps = Steps(encoder, from_each_half, 1000, None)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    read = list(steps.read(range(2, 5), workers))
    assert torch.equal(before, torch.get_rng_state())
    for step, rows in zip(range(2, 5), read, strict=True):
        examples = [encode_example(processor, encoder.rows[i]) for i in (step, step + 4)]
        assert rows.targets == sum(int((e.stage_ids > 0).sum()) for e in examples)
        assert rows.tokens == rows.computed == sum(map(len, examples)) and len(rows.batches) == 1
