"""Routing by task, weights, components, the grammar, and what rows and functions are told."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from core.metrics import values
from rewards.config import RewardsConfig
from rewards.errors import RewardDataError
from rewards.router import Router, Score
from rewards.stages import render

FUNCTIONS = f"{Path(__file__).parent / 'plugin_functions.py'}:"


def config(functions: Any, **more: Any) -> RewardsConfig:
    tasks = functions if isinstance(functions, dict) else {"math": functions}
    return RewardsConfig.model_validate({"grammar": "none", "tasks": tasks, **more})


def named(name: str, **more: Any) -> dict[str, Any]:
    # In process unless a test is about workers: starting one takes a good part of a second.
    return {"function": FUNCTIONS + name, "isolate": False, **more}


def row(number: int = 0, task: str = "math", **more: Any) -> dict[str, Any]:
    prompt = [{"role": "user", "content": [{"type": "text", "text": "How many?"}]}]
    return {
        "id": f"r{number}",
        "task": task,
        "prompt": prompt,
        "answer": {"value": number},
        "number": number,
        **more,
    }


def staged(conclusion: str) -> str:
    return render({"summary": "s", "caption": "c", "reasoning": "r", "conclusion": conclusion})


@pytest.mark.parametrize(
    "name", ["says_answer", "trl_says_answer", "async_says_answer", "async_trl_says_answer"]
)
@pytest.mark.parametrize("isolate", [True, False])
def test_every_form_of_function_scores_the_same(name: str, isolate: bool) -> None:
    with Router(config([named(name, isolate=isolate)])) as router:
        scores = router.score([row(1), row(2), row(3)], ["1", "x", "3"])
    assert [score.reward for score in scores] == [1.0, 0.0, 1.0]
    assert scores[0] == Score(1.0, {name: 1.0}, True)


def test_reward_is_the_weighted_sum_and_weight_zero_is_only_logged() -> None:
    functions = [
        named("says_answer", weight=0.75),
        named("trl_says_answer", weight=0.25, component="again"),
        named("full_text_length", weight=0, component="length"),
    ]
    with Router(config(functions)) as router:
        (score,) = router.score([row(1)], ["1"])
    assert score.reward == 1.0
    assert score.components == {"says_answer": 1.0, "again": 1.0, "length": 0.001}


def test_a_failing_function_of_weight_zero_does_not_cost_the_reward() -> None:
    functions = [named("says_answer"), named("misbehaves", weight=0)]
    with Router(config(functions)) as router:
        (score,) = router.score([row(1) | {"answer": {"value": "raise"}}], ["raise"])
    assert score.reward == 1.0
    assert score.components["misbehaves"] is None


def test_none_means_does_not_apply() -> None:
    with Router(config([named("only_even")])) as router:
        even, odd = router.score([row(2), row(3)], ["", ""])
    assert even.reward == 1.0
    assert (odd.reward, odd.components, odd.reason) == (
        None,
        {"only_even": None},
        "no reward function applies",
    )
    with Router(config([named("only_even", weight=0.5), named("says_answer", weight=0.5)])) as router:
        (odd,) = router.score([row(3)], ["3"])
    assert odd.reward == 0.5  # None adds nothing, as in TRL


def test_tasks_are_routed_to_their_own_functions_in_one_call() -> None:
    tasks = {"math": named("says_answer"), "count": [named("only_even")]}
    with Router(config(tasks)) as router:
        scores = router.score([row(2, "count"), row(5), row(4, "count")], ["", "5", ""])
    assert [list(score.components) for score in scores] == [["only_even"], ["says_answer"], ["only_even"]]
    assert [score.reward for score in scores] == [1.0, 1.0, 1.0]


def test_functions_read_the_conclusion_alone_under_the_grammar() -> None:
    with Router(config([named("says_answer")], grammar="stages")) as router:
        good, broken = router.score([row(7), row(7)], [staged("7"), "7"])
    assert (good.reward, good.in_grammar, good.reason) == (1.0, True, None)
    assert (broken.reward, broken.components, broken.in_grammar) == (0.0, {"says_answer": 0.0}, False)
    assert broken.reason is not None and broken.reason.startswith("missing")


def test_the_function_is_not_called_for_a_text_that_breaks_the_grammar() -> None:
    with Router(config([named("misbehaves")], grammar="stages")) as router:
        (score,) = router.score([row()], ["raise"])
        assert router.pop_metrics() == {}
    assert score.reward == 0.0


@pytest.mark.parametrize("function", [named("full_text_length"), named("misbehaves", text="full")])
def test_functions_that_judge_form_read_the_whole_text(function: dict[str, Any]) -> None:
    with Router(config([function], grammar="stages")) as router:
        broken, good = router.score([row(), row()], ["x" * 500, staged("y")])
    assert broken.reward == (0.5 if "length" in function["function"] else 1.0)
    assert not broken.in_grammar
    assert good.reward == (len(staged("y")) / 1000 if "length" in function["function"] else 1.0)


def test_think_grammar_gives_the_answer_block() -> None:
    with Router(config([named("says_answer")], grammar="think")) as router:
        good, broken = router.score([row(7), row(7)], ["<think>six?</think><answer>7</answer>", staged("7")])
    assert (good.reward, broken.reward) == (1.0, 0.0)


def test_all_columns_reach_a_batch_function_and_what_it_logs_is_kept() -> None:
    with Router(config([named("columns_seen")])) as router:
        rows = [row(1, level="easy"), row(2)]
        first, second = router.score(rows, ["a", "b"], completion_ids=[[1, 2, 3], [4]])
        assert values(router.pop_metrics()) == {"columns_seen/rows": 2.0, "columns_seen/length": 2.0}
        assert router.pop_metrics() == {}
    assert first.extra == {
        "columns_seen/columns": "answer,group_ids,id,level,number,task,trainer_state",
        "columns_seen/length": 3,
    }
    assert second.extra["columns_seen/length"] == 1


def test_configured_arguments_reach_the_function() -> None:
    with Router(config([named("with_threshold", threshold=0.9)])) as router:
        scores = router.score([row(), row()], ["0.95", "0.6"])
    assert [score.reward for score in scores] == [1.0, 0.0]
    with Router(config([named("with_threshold", kwargs={"threshold": 0.2})])) as router:
        assert router.score([row()], ["0.3"])[0].reward == 1.0


def test_a_declared_range_is_mapped_onto_zero_to_one() -> None:
    with Router(config([named("misbehaves", value_range=[-1, 1])])) as router:
        scores = router.score([row()] * 3, ["minus", "x", "two"])
    assert [score.reward for score in scores] == [0.25, 1.0, None]


def test_whole_groups_come_in_one_call_each() -> None:
    with Router(config([named("best_of_group")])) as router:
        assert router.needs_groups
        rows = [row(1), row(2), row(1), row(2)]
        scores = router.score(rows, ["aa", "b", "a", "bbb"], group_ids=["1", "2", "1", "2"])
        assert [score.reward for score in scores] == [1.0, 0.0, 0.0, 1.0]
        with pytest.raises(ValueError, match="needs whole groups"):
            router.score(rows, ["aa", "b", "a", "bbb"])


def test_a_class_keeps_its_state_between_calls() -> None:
    with Router(config([named("Counting", start=10)], workers=1)) as router:
        router.score([row(), row()], ["", ""])
        (score,) = router.score([row()], [""])
    assert score.extra == {"Counting/calls": 13}


def test_scores_from_many_threads_are_right() -> None:
    with Router(
        config([named("says_answer"), named("trl_says_answer", component="batch", weight=0)])
    ) as router:
        found: dict[int, list[Score]] = {}

        def work(thread: int) -> None:
            rows = [row(100 * thread + i) for i in range(40)]
            texts = [str(r["number"] if r["number"] % 3 else "no") for r in rows]
            found[thread] = router.score(rows, texts)

        threads = [threading.Thread(target=work, args=(thread,)) for thread in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for thread in range(8):
        expected = [float((100 * thread + i) % 3 != 0) for i in range(40)]
        assert [score.reward for score in found[thread]] == expected
        assert [score.components["batch"] for score in found[thread]] == expected


def test_a_task_without_a_reward_is_an_error_that_names_the_row() -> None:
    with Router(config([named("says_answer")])) as router:
        with pytest.raises(
            RewardDataError, match=r"row 'r4': task 'chat' has no reward; configured tasks: math"
        ):
            router.check_rows([row(1), row(4, "chat")])
        with pytest.raises(RewardDataError, match="row 'r4'"):
            router.score([row(4, "chat")], [""])


@pytest.mark.parametrize("isolate", [True, False])
def test_an_unreadable_answer_is_an_error_that_names_the_row(isolate: bool) -> None:
    with Router(config([named("says_answer", isolate=isolate)])) as router:
        router.check_rows([row(1), row(2)])
        with pytest.raises(
            RewardDataError, match=r"row 'r2': task 'math', reward 'says_answer': field 'answer.value'"
        ):
            router.check_rows([row(1), row(2, answer={"boxes": []})])


def test_a_missing_column_is_an_error_that_names_it() -> None:
    with Router(config([named("only_even")])) as router:
        bad = row(2)
        del bad["number"]
        with pytest.raises(RewardDataError, match="needs a column 'number'"):
            router.check_rows([bad])
        (score,) = router.score([bad], [""])
    assert score.reward is None and "number" in str(score.reason)


def test_built_ins_by_their_short_names() -> None:
    boxes = {"boxes": [[0, 0, 10, 10]], "frame": "pixel"}
    functions = {"math": ["math", {"function": "stage_format", "weight": 0}], "grounding": "giou"}
    rows = [
        row(1, answer={"value": "1/2"}),
        row(2, answer={"value": "x+1"}),
        row(3, "grounding", answer=boxes),
        row(4),
    ]
    texts = [staged(r"\boxed{\frac{2}{4}}"), staged("1+x"), staged("[0, 0, 10, 10]"), "no grammar"]
    with Router(config(functions, grammar="stages")) as router:
        router.check_rows(rows)
        scores = router.score(rows, texts)
        with pytest.raises(RewardDataError, match="row 'r9': task 'grounding', reward 'giou'"):
            router.check_rows([row(9, "grounding", answer={"boxes": [[5, 5, 1, 1]], "frame": "pixel"})])
    assert [score.reward for score in scores] == [1.0, 1.0, 1.0, 0.0]
    assert [score.components.get("stage_format") for score in scores] == [1.0, 1.0, None, 0.0]


def test_lengths_must_agree() -> None:
    with (
        Router(config([named("says_answer")])) as router,
        pytest.raises(ValueError, match="completions: expected 1"),
    ):
        router.score([row()], [])


def test_results_from_several_threads_are_combined_as_if_scored_at_once() -> None:
    rows = [row(i) for i in range(24)]
    texts = ["raise" if i % 4 == 3 else str(i) for i in range(24)]
    rows = [r | {"answer": {"value": "raise"}} if i % 4 == 3 else r for i, r in enumerate(rows)]
    functions = [named("says_answer"), named("misbehaves", weight=0), named("trl_says_answer", component="b")]
    limits = {"failure_min": 2, "max_failure_rate": 0.25}  # six of 24 fail; in some pieces all do
    with Router(config(functions, **limits)) as router:
        at_once, metrics = router.score(rows, texts), router.pop_metrics()
    pieces = [list(range(3, 24, 4)), *[[i for i in range(24) if i % 4 == k] for k in range(3)]]
    with Router(config(functions, **limits)) as router, ThreadPoolExecutor(4) as threads:
        called = threads.map(
            lambda piece: router.run_functions([rows[i] for i in piece], [texts[i] for i in piece]), pieces
        )
        by_place = {i: one for piece, some in zip(pieces, called, strict=True) for i, one in zip(piece, some)}
        assert router.combine([by_place[i] for i in range(24)]) == at_once
        assert router.pop_metrics() == metrics
