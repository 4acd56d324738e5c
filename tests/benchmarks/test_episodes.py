"""The benchmark of episodes compares like with like."""

from __future__ import annotations

from argparse import Namespace

import pytest

from benchmarks.episodes import QUESTION, continuous_and_lock_step, cost_of_turns
from engines.build import build_engine
from engines.config import TransformersConfig
from vlm.load import load_processor
from vlm.tiny import build_tiny_vlm


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    model = build_tiny_vlm(tmp_path_factory.mktemp("tiny"), [QUESTION] * 20, hidden=64, layers=2)
    processor = load_processor(model)
    config = TransformersConfig(max_model_len=1024, images_per_prompt=24)
    return build_engine(config, model, processor, device="cpu"), processor


def settings(**more):
    return Namespace(
        **(
            {
                "episodes": 6,
                "turns": 3,
                "tokens": 6,
                "tool_seconds": 0.0,
                "repeats": 1,
                "side": 28,
                "cost_episodes": 1,
            }
            | more
        )
    )


def test_both_ways_sample_the_same_tokens_over_uneven_turns(lab):
    result = continuous_and_lock_step(*lab, settings())
    assert result["same_tokens"] and len(result["turns"]) > 1


def test_follow_ups_compute_what_is_new_and_prompts_everything(lab):
    cost = cost_of_turns(*lab, settings(tokens=4))
    assert cost["follow_ups"]["exponent_of_tokens"] < 1.1 < 1.5 < cost["prompts"]["exponent_of_tokens"]
