"""Functions written for EasyR1 and verl, with the exact signatures of those projects, score here as they did there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rewards.config import RewardsConfig
from rewards.errors import PluginError
from rewards.router import Router

EASYR1_BATCH = """
import re
from typing import Any

REWARD_NAME = "math"
REWARD_TYPE = "batch"

def accuracy_reward(response: str, ground_truth: str) -> float:
    found = re.search(r"boxed\\{(.*?)\\}", response)
    return 1.0 if found and found.group(1) == ground_truth else 0.0

def compute_score(reward_inputs: list[dict[str, Any]], format_weight: float = 0.1) -> list[dict[str, float]]:
    if not isinstance(reward_inputs, list):
        raise ValueError("Please use `reward_type=batch` for this reward function.")
    scores = []
    for reward_input in reward_inputs:
        assert set(reward_input) == {"response", "response_length", "ground_truth"}
        accuracy = accuracy_reward(reward_input["response"], reward_input["ground_truth"])
        form = float(reward_input["response_length"] <= 3)
        overall = (1 - format_weight) * accuracy + format_weight * form
        scores.append({"overall": overall, "format": form, "accuracy": accuracy})
    return scores
"""
EASYR1_SEQUENTIAL = """
from typing import Any

REWARD_NAME = "r1v"
REWARD_TYPE = "sequential"

def compute_score(reward_input: dict[str, Any], format_weight: float = 0.5) -> dict[str, float]:
    if not isinstance(reward_input, dict):
        raise ValueError("Please use `reward_type=sequential` for this reward function.")
    accuracy = float(reward_input["response"] == reward_input["ground_truth"])
    return {"overall": (1 - format_weight) * accuracy, "format": 0.0, "accuracy": accuracy}
"""
VERL = """
def compute_score(data_source, solution_str, ground_truth, extra_info=None):
    if data_source != "openai/gsm8k":
        raise NotImplementedError(f"Reward function is not implemented for {data_source=}")
    score = 1.0 if solution_str == ground_truth else 0.0
    return score if extra_info["split"] == "test" else {"score": score, "acc": bool(score), "pred": solution_str}
"""
VERL_BATCH = """
def compute_score(data_sources, solution_strs, ground_truths, extra_infos):
    return [float(solution == truth) for solution, truth in zip(solution_strs, ground_truths, strict=True)]
"""
VERL_SIGNED = """
def compute_score(solution_str, ground_truth, strict_box_verify=False, data_source=None, extra_info=None, **kwargs):
    correct = solution_str == ground_truth
    return {"score": 1.0 if correct else -1.0, "acc": correct, "pred": solution_str}
"""


def scores(folder: Path, source: str, rows: list[dict[str, Any]], texts: list[str], **function: Any) -> Any:
    file = folder / "reward_function.py"
    file.write_text(source)
    functions = [{"function": f"{file}:compute_score", "component": "theirs", **function}]
    config = RewardsConfig.model_validate({"grammar": "none", "tasks": {"math": functions}})
    with Router(config) as router:
        router.check_rows(rows)
        return router.score(rows, texts, completion_ids=[[0] * len(text.split()) for text in texts])


def row(value: Any = "4", **more: Any) -> dict[str, Any]:
    return {"id": "r", "task": "math", "prompt": [], "answer": {"value": value}, **more}


def test_easyr1_batch_function(tmp_path: Path) -> None:
    found = scores(
        tmp_path, EASYR1_BATCH, [row(), row(), row()], [r"it is \boxed{4}", r"\boxed{5}", r"a b c \boxed{4}"]
    )
    assert [round(score.reward, 6) for score in found] == [1.0, 0.1, 0.9]
    assert found[2].extra == {"theirs/format": 0.0, "theirs/accuracy": 1.0}


def test_easyr1_keyword_arguments(tmp_path: Path) -> None:
    (found,) = scores(tmp_path, EASYR1_BATCH, [row()], [r"a b c \boxed{4}"], format_weight=0.5)
    assert found.reward == 0.5
    with pytest.raises(PluginError, match="has no argument 'format_wait'; did you mean 'format_weight'"):
        scores(tmp_path, EASYR1_BATCH, [row()], ["4"], format_wait=0.5)


def test_easyr1_sequential_function(tmp_path: Path) -> None:
    found = scores(tmp_path, EASYR1_SEQUENTIAL, [row(), row()], ["4", "5"])
    assert [score.reward for score in found] == [0.5, 0.0]


def test_verl_function_with_its_own_columns(tmp_path: Path) -> None:
    columns = {"data_source": "openai/gsm8k", "reward_model": {"style": "rule", "ground_truth": "72"}}
    train = row("ignored", **columns, extra_info={"split": "train", "index": 0})
    test = row("ignored", **columns, extra_info={"split": "test", "index": 1})
    found = scores(tmp_path, VERL, [train, test, train], ["72", "72", "71"])
    assert [score.reward for score in found] == [1.0, 1.0, 0.0]
    assert found[0].extra == {"theirs/acc": True, "theirs/pred": "72"}


def test_verl_function_on_our_rows(tmp_path: Path) -> None:
    ours = row("72", source="openai/gsm8k", split="test")
    assert [score.reward for score in scores(tmp_path, VERL, [ours], ["72"])] == [1.0]


def test_verl_batch_function(tmp_path: Path) -> None:
    found = scores(tmp_path, VERL_BATCH, [row("1"), row("2")], ["1", "x"])
    assert [score.reward for score in found] == [1.0, 0.0]


def test_verl_function_that_returns_minus_one_for_wrong_declares_its_range(tmp_path: Path) -> None:
    found = scores(tmp_path, VERL_SIGNED, [row(), row()], ["4", "5"], value_range=[-1, 1])
    assert [score.reward for score in found] == [1.0, 0.0]
    found = scores(tmp_path, VERL_SIGNED, [row(), row()], ["4", "5"])
    assert [score.reward for score in found] == [1.0, None]
    assert "expected a value in [0, 1], got float -1.0" in found[1].reason


def test_a_typed_answer_reaches_foreign_functions_whole(tmp_path: Path) -> None:
    source = "def compute_score(data_source, solution_str, ground_truth, extra_info=None):\n"
    source += "    return float(ground_truth == {'boxes': [[1, 2, 3, 4]], 'frame': 'pixel'} and extra_info['id'] == 'r')\n"
    typed = row() | {"answer": {"boxes": [[1, 2, 3, 4]], "frame": "pixel"}}
    assert scores(tmp_path, source, [typed], [""])[0].reward == 1.0


def test_a_missing_key_is_said(tmp_path: Path) -> None:
    source = 'def compute_score(reward_inputs):\n    return [{"accuracy": 1.0} for _ in reward_inputs]\n'
    (found,) = scores(tmp_path, source, [row()], ["4"])
    assert found.reward is None
    assert "expected a key 'overall' in the result, got ['accuracy']" in found.reason
