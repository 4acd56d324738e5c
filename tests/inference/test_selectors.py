"""Which answer each selector prefers."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from inference.selectors import (
    best_index,
    by_reward,
    conclusion_of,
    majority,
    majority_index,
    mean_logprob,
    normalised,
    selector,
)
from inference.types import choose
from rewards.config import RewardsConfig
from rewards.errors import PluginError
from rewards.router import Router
from rewards.stages import STAGES, THINK, render

ROW: dict[str, Any] = {"id": "r", "task": "math", "prompt": [], "answer": {"value": "4656"}}


def candidate(text: str = "", logprobs: tuple[float, ...] = (), mask: tuple[int, ...] | None = None) -> Any:
    """What a selector reads of a rollout."""
    mask = (1,) * len(logprobs) if mask is None else mask
    return SimpleNamespace(text=text, logprobs=logprobs, loss_mask=mask, completion_ids=(0,) * len(logprobs))


def staged(conclusion: str) -> str:
    return render({"summary": "s", "caption": "c", "reasoning": "r", "conclusion": conclusion})


@pytest.mark.parametrize(
    ("scores", "best"),
    [([1, 3, 2], 1), ([2, 2, 1], 0), ([None, -1.0], 1), ([None, None], 0), ([-1, 0.0, None], 1)],
)
def test_the_highest_score_wins_and_the_first_of_equals(scores, best):
    assert best_index(scores) == best


@pytest.mark.parametrize(
    ("conclusions", "winner"),
    [
        (["3", "4", "4"], 1),
        (["3", "4"], 0),
        (["7", "4,656", "4656.0", "$4656$"], 1),
        ([None, None, "b", "a"], 2),
        ([None, "", None], 0),
        (["3", "4", "4", "3"], 0),
        (["The answer is B.", "A", "b"], 0),
        (["A cat", "a  cat.", "dog", "dog", "a cat"], 0),
        ([r"So \boxed{12}", "11", "12"], 0),
    ],
)
def test_majority_counts_normalised_conclusions_and_takes_the_first_of_the_winners(conclusions, winner):
    assert majority_index(conclusions) == winner


def test_normalised_keeps_apart_what_differs():
    forms = ["3", "3 %", "-3", "0.3", "A", "three", "2/4", "0.5"]
    assert len({normalised(text) for text in forms}) == len(forms)


def test_majority_reads_the_conclusion_alone_and_broken_answers_have_no_vote():
    answers = [
        candidate("3"),
        candidate("3"),
        candidate(staged("5")),
        candidate(staged("5 ")),
        candidate("3"),
    ]
    assert majority(ROW, "", answers) == 2
    assert majority(ROW, "", answers, names=None) == 0
    assert conclusion_of("<think>t</think><answer>9</answer>", THINK) == "9"
    assert conclusion_of("<think>t</think><answer>9</answer>", STAGES) is None


def test_mean_logprob_is_per_token_and_of_sampled_tokens_alone():
    long, short = candidate(logprobs=(-0.5,) * 10), candidate(logprobs=(-1.0, -1.0))
    assert mean_logprob(ROW, "", [short, long]) == 1
    observed = candidate(logprobs=(-0.9, 0.0, 0.0), mask=(1, 0, 0))
    assert mean_logprob(ROW, "", [observed, long]) == 1
    assert mean_logprob(ROW, "", [candidate(), short]) == 1


def test_a_reward_plugin_chooses_through_the_router(tmp_path):
    plugin = tmp_path / "mine.py"
    plugin.write_text("def brief(completion, answer, **row):\n    return 1 / (1 + len(completion))\n")
    answers = [
        candidate(staged("465 of them")),
        candidate("4656"),
        candidate(staged("4,656")),
        candidate(staged("1")),
    ]
    with Router(RewardsConfig.model_validate({"tasks": {"math": "math"}})) as router:
        assert by_reward(router)(ROW, "", answers) == 2
    brief = {"function": f"{plugin}:brief", "isolate": False}
    with Router(RewardsConfig.model_validate({"tasks": {"math": brief}})) as router:
        assert selector("reward", STAGES, router)(ROW, "", answers) == 3


def test_a_function_of_ones_own_is_a_selector_and_its_index_is_checked(tmp_path):
    file = tmp_path / "judge.py"
    file.write_text("def last(row, prefix, candidates):\n    return len(candidates) - 1\n")
    with Router(RewardsConfig.model_validate({"tasks": {"math": "math"}})) as router:
        judge = selector(f"{file}:last", STAGES, router)
        with pytest.raises(PluginError, match="nowhere"):
            selector("nowhere", STAGES, router)
    assert choose(judge, ROW, "", [candidate(), candidate(), candidate()]) == 2
    for wrong in (3, -1, None, True, 0.0):
        with pytest.raises(ValueError, match="row 'r': expected a selector's index from 0 to 1"):
            choose(lambda *_, wrong=wrong: wrong, ROW, "", [candidate(), candidate()])
