"""A cold start's dialogues and rollouts are one thing: the same calls are answered with the same tokens and images."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from data_recipes.synthetic.worlds import FORMATS
from engines.rollout import Request, Rollout
from environments.build import build_environment
from environments.config import EnvironmentConfig
from environments.dialogue import as_message, observed
from environments.episodes import Episodes, _Play
from sft.data import turn_ids
from vlm.inputs import encode
from vlm.media import load_image


@pytest.mark.parametrize("zooms", [1, 2])
def test_an_episode_that_plays_a_dialogue_is_the_dialogue_token_by_token(tmp_path, processor, zooms):
    world = next(one for one in FORMATS if one.name == "synthetic_search")
    options = world.options(
        width=600, height=600, max_pixels=28 * 28 * 16, signs=4, sign_px=150, zooms=zooms, rows=1
    )
    (row,) = [row for record in world.read(tmp_path, options) for row in world.convert(record, options)]
    images = [load_image(image) for image in row["images"]]
    request = Request(row, encode(processor, row["prompt"], images[:1]))
    config = EnvironmentConfig(tools=["zoom"])
    episodes = Episodes(build_environment(config, processor), processor)
    play = _Play(episodes, 100_000, 8, [request], None)
    for turn in row["trace"][::2]:
        text = turn["content"]
        ids = tuple(processor.tokenizer(text, add_special_tokens=False)["input_ids"])
        mask, logprobs = (1,) * len(ids), (0.0,) * len(ids)
        sampled = Rollout(row["id"], request.prompt, ids, mask, logprobs, text, 0, "stop")
        follow_up = play.advance(0, sampled)
        request = follow_up or request
    rollout = play.finished[0]
    episodes.close()
    expected, _ = turn_ids(processor, row)
    assert list(rollout.sequence.engine_ids) == expected[:-1]  # SFT's end token comes last
    assert [turn.error for turn in rollout.turns] == [None] * (zooms + 1)
    for seen, crop in zip(rollout.sequence.images[1:], images[1:], strict=True):
        assert seen.size == crop.size
        difference = np.asarray(seen, dtype=float) - np.asarray(crop, dtype=float)
        assert abs(difference).mean() < 6  # the file's crop was cut before JPEG


def test_observations_in_both_formats():
    image = Image.new("RGB", (28, 28))
    several = observed("grounding", 2, 3, ("At 1 s:", image, "At 2 s:", image))
    text = "".join(
        part["text"] if part["type"] == "text" else "[image]" for part in as_message(several)["content"]
    )
    assert text.startswith(
        "Action 2 gave:\nAt 1 s:\n(Observation 3):\n[image]\nAt 2 s:\n(Observation 4):\n[image]\nGo on thinking"
    )
    answer = observed("tool_call", 0, 1, ("6.0",))
    assert as_message(answer) == {
        "role": "user",
        "content": [{"type": "text", "text": "<tool_response>\n6.0\n</tool_response>"}],
    }
