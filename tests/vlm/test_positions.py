"""M-RoPE positions: Qwen2.5-VL's published examples, and vLLM's own function on random prompts."""

from __future__ import annotations

import random

import pytest

from vlm.positions import mrope_positions

IMAGE, VIDEO = 900, 901


def positions(ids, **kwargs):
    settings = {"image_token_id": IMAGE, "video_token_id": VIDEO, "tokens_per_second": 2}
    return mrope_positions(ids, **(settings | kwargs)).tolist()


def test_text_counts_up_on_all_three_axes():
    assert positions([5, 6, 7]) == [[0, 1, 2]] * 3


def test_an_image_is_one_instant_and_text_continues_after_its_largest_side():
    ids = [1] + [IMAGE] * 6 + [2]
    assert positions(ids, image_grids=[(1, 4, 6)]) == [
        [0, 1, 1, 1, 1, 1, 1, 4],
        [0, 1, 1, 1, 2, 2, 2, 4],
        [0, 1, 2, 3, 1, 2, 3, 4],
    ]


def test_video_time_runs_by_seconds_not_by_whole_ones():
    ids = [VIDEO] * 3 + [2]
    assert positions(ids, video_grids=[(3, 2, 2)], seconds_per_grid=[0.5])[0] == [0, 1, 2, 3]
    assert positions(ids, video_grids=[(3, 2, 2)], seconds_per_grid=[1.0])[0] == [0, 2, 4, 5]
    assert positions(ids, video_grids=[(3, 2, 2)], seconds_per_grid=[0.8])[0] == [0, 1, 3, 4]


def test_equals_vllms_function_on_random_prompts():
    torch = pytest.importorskip("torch")
    model = pytest.importorskip("vllm.model_executor.models.qwen2_5_vl").Qwen2_5_VLForConditionalGeneration
    rng = random.Random(0)

    class Prompt:  # the two methods of vLLM's model that compute positions need nothing else of it
        iter_mm_grid_thw = model.iter_mm_grid_thw

        class config:
            class vision_config:
                spatial_merge_size = 2
                tokens_per_second = 2

    class Field:
        def __init__(self, data):
            self.data = data

    class Feature:
        def __init__(self, modality, offset, data):
            self.modality, self.data = modality, data
            self.mm_position = type("Position", (), {"offset": offset})

    for _ in range(50):
        ids, features, images, videos, seconds = [], [], [], [], []
        for _ in range(rng.randint(1, 4)):
            ids += [1] * rng.randint(0, 5)
            grid = (rng.randint(1, 4), 2 * rng.randint(1, 4), 2 * rng.randint(1, 4))
            if rng.random() < 0.5:
                grid = (1, *grid[1:])
                images.append(grid)
                data = {"image_grid_thw": Field(torch.tensor(grid))}
                features.append(Feature("image", len(ids), data))
                ids += [IMAGE] * (grid[1] * grid[2] // 4)
            else:
                videos.append(grid)
                seconds.append(float(torch.tensor(rng.choice([0.5, 1.0, 0.7, 1.3]))))
                data = {
                    "video_grid_thw": Field(torch.tensor(grid)),
                    "second_per_grid_ts": Field(torch.tensor(seconds[-1])),
                }
                features.append(Feature("video", len(ids), data))
                ids += [VIDEO] * (grid[0] * grid[1] * grid[2] // 4)
            ids += [1]  # media are always followed by <|vision_end|>
        expected, _ = model.get_mrope_input_positions(Prompt(), ids, features)
        ours = positions(ids, image_grids=images, video_grids=videos, seconds_per_grid=seconds)
        assert ours == expected.tolist()


def test_placeholders_and_media_must_match():
    with pytest.raises(ValueError, match="more media placeholders than media"):
        positions([IMAGE])
    with pytest.raises(ValueError, match="fewer media placeholders than media"):
        positions([1], image_grids=[(1, 2, 2)])
    with pytest.raises(ValueError, match=r"needs 4 placeholders in a row at token 1"):
        positions([1, IMAGE, IMAGE, 2], image_grids=[(1, 4, 4)])
