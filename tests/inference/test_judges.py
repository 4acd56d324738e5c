"""Which answer each judge prefers, and how conclusions are read."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from engines.rollout import Rollout
from inference.conclusions import best_index, conclusion_of, majority_index, normalised, shown
from inference.judges import by_reward, by_selector, majority, mean_logprob
from inference.rounds import run_searches
from inference.types import Branch, Question
from rewards.config import RewardsConfig
from rewards.router import Router
from rewards.stages import STAGES, THINK, render

ROW: dict[str, Any] = {"id": "r", "task": "math", "prompt": [], "answer": {"value": "4656"}}


def question(names: Any = STAGES) -> Question:
    return Question(ROW, prompt=None, processor=None, names=names, max_tokens=100)  # type: ignore[arg-type]


def branch(text: str = "", logprobs: tuple[float, ...] = (), mask: tuple[int, ...] | None = None) -> Branch:
    ids = (0,) * len(logprobs)
    mask = (1,) * len(logprobs) if mask is None else mask
    last = Rollout("r", None, ids, mask, logprobs, text, 0, "stop")  # type: ignore[arg-type]
    return Branch(question(), ids, logprobs, text, "", last, finish="stop")


def preferred(judge: Any, branches: list[Branch], names: Any = STAGES) -> int:
    """Index of the candidate with the highest score; calls for scores are answered as a driver does."""
    one = question(names)

    def search():
        return (yield from judge(one, "answer", branches))

    [scores] = run_searches(SimpleNamespace(), [(one, search())])
    return best_index(scores)


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
    answers = [branch("3"), branch("3"), branch(staged("5")), branch(staged("5 ")), branch("3")]
    assert preferred(majority, answers) == 2
    assert preferred(majority, answers, names=None) == 0
    assert conclusion_of("<think>t</think><answer>9</answer>", THINK) == "9"
    assert conclusion_of("<think>t</think><answer>9</answer>", STAGES) is None


def test_mean_logprob_is_per_token_and_of_sampled_tokens_alone():
    long, short = branch(logprobs=(-0.5,) * 10), branch(logprobs=(-1.0, -1.0))
    assert preferred(mean_logprob, [short, long]) == 1
    observed = branch(logprobs=(-0.9, 0.0, 0.0), mask=(1, 0, 0))
    assert preferred(mean_logprob, [observed, long]) == 1
    assert preferred(mean_logprob, [branch(), short]) == 1


def test_a_reward_plugin_chooses_through_the_router_and_what_it_read_is_counted(tmp_path):
    plugin = tmp_path / "mine.py"
    plugin.write_text("def brief(completion, answer, **row):\n    return 1 / (1 + len(completion))\n")
    texts = [staged("465 of them"), "4656", staged("4,656"), staged("1")]
    answers = [branch(text, logprobs=(-1.0,) * 5) for text in texts]
    with Router(RewardsConfig.model_validate({"tasks": {"math": "math"}})) as router:
        assert preferred(by_reward(router.score), answers) == 2
    brief = {"function": f"{plugin}:brief", "isolate": False}
    with Router(RewardsConfig.model_validate({"tasks": {"math": brief}})) as router:
        assert preferred(by_reward(router.score), answers) == 3


def test_scores_of_many_searches_are_asked_for_in_one_call():
    calls = []

    def score(rows, texts, ids, groups):
        calls.append((len(rows), sorted(set(groups))))
        return [SimpleNamespace(reward=float(len(text))) for text in texts]

    questions = [question() for _ in range(3)]
    judge = by_reward(score)
    answers = [[branch("a"), branch("bb", logprobs=(-1.0, -1.0))] for _ in questions]
    searches = [(one, judge(one, "answer", some)) for one, some in zip(questions, answers, strict=True)]
    assert run_searches(SimpleNamespace(), searches) == [[1.0, 2.0]] * 3
    assert calls == [(6, ["r"])]
    assert [one.spent.tokens_judged for one in questions] == [2, 2, 2]


def test_a_function_of_ones_own_judges_by_index_or_scores_and_its_result_is_checked():
    answers = [branch("a"), branch("b"), branch("c")]
    assert preferred(by_selector(lambda row, prefix, some: len(some) - 1), answers) == 2
    assert preferred(by_selector(lambda row, prefix, some: [0.5, None, 0.25]), answers) == 0
    for wrong in (3, -1, None, True, 0.0, [1.0, 2.0], ["a", "b", "c"], [1.0, float("nan"), 0.0], "abc"):
        with pytest.raises(ValueError, match="row 'r': expected a selector's index from 0 to 2, or a list"):
            preferred(by_selector(lambda *_, wrong=wrong: wrong), answers)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (staged(" 5 "), "5"),
        ("<SUMMARY>s</SUMMARY><CAPTION>c</CAPTION><REASONING>r</REASONING><CONCLUSION>it is 5", "it is 5"),
        ("<SUMMARY>s</SUMMARY><CAPTION>c</CAPTION><REASONING>so 5", "so 5"),
        ("<CONCLUSION>5</CONCLUSION> and more", "5"),
        ("just text", "just text"),
        ("<SUMMARY>", "<SUMMARY>"),
        ("", ""),
    ],
)
def test_something_of_every_answer_can_be_shown(text, expected):
    assert shown(text, STAGES) == expected
    assert shown(text, None) == text.strip()
