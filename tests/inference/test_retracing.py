"""Retracing: when it goes back, how often, what it keeps, and that it always answers."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import partial

import pytest

from inference.retracing import PRESETS, PUBLISHED_THRESHOLD, calibrated, retracing, threshold
from inference.types import Budget
from rewards.stages import STAGES, THINK, parse

PAPER, CODE = PRESETS["paper"], PRESETS["code"]


def rated(scores):
    """A judge that scores reasonings by `scores`, in the order in which it sees them, and all else by 0."""
    rest = iter(scores)

    def judge(question, stage, candidates):
        yield from ()
        return [next(rest) if stage == "REASONING" else 0.0 for _ in candidates]

    return judge


def search(bench, settings, scores, **changes):
    """The answer to the first question, whose reasonings get these scores."""
    from inference.rounds import run_searches

    question = bench.questions(temperature=0.4, **changes)[0]  # cool enough to keep the grammar
    [answer] = run_searches(bench.engine, [(question, retracing(question, rated(scores), settings=settings))])
    return answer


def stages_of(answer):
    return Counter(node.stage for node in answer.tree)


def test_the_published_constants():
    assert pytest.approx(-0.243, abs=5e-4) == PUBLISHED_THRESHOLD
    assert threshold(0.0, 1.0) == pytest.approx(0.2533, abs=5e-5)
    assert (PAPER.candidates, PAPER.keep, PAPER.retraces, PAPER.passing) == (4, 2, 3, 1)
    assert (CODE.candidates, CODE.keep, CODE.retraces, CODE.passing, CODE.conclusions) == (4, 2, 4, 2, 3)


@pytest.mark.parametrize(("settings", "passes"), [(PAPER, 4), (CODE, 5)])
def test_where_nothing_passes_it_goes_back_c_times_and_answers_with_the_best_of_all_passes(
    bench, settings, passes
):
    scores = [-9.0] * (4 * passes)
    scores[5] = -1.0  # of the second pass, still below the threshold
    answer = search(bench, settings, scores)
    assert answer.spent.retraces == passes - 1
    assert stages_of(answer) == {
        "SUMMARY": 1, "CAPTION": 4 * passes, "REASONING": 4 * passes, "CONCLUSION": settings.conclusions,
    }  # fmt: skip
    assert [answer.tree[i].stage for i in answer.chosen] == list(STAGES)
    reasonings = [node for node in answer.tree if node.stage == "REASONING"]
    concluded = {node.parent for node in answer.tree if node.stage == "CONCLUSION"}
    assert answer.tree.index(reasonings[5]) in concluded
    assert parse(answer.rollout.text).stages is not None


@pytest.mark.parametrize(
    ("settings", "scores", "retraces"),
    [
        (PAPER, [1.0, -9, -9, -9], 0),
        (CODE, [1.0, -9, -9, -9, 1.0, -9, -9, -9], 1),  # two so far, of two passes
        (CODE, [1.0, 1.0, -9, -9], 0),
        (PAPER, [-9, -9, -9, -9, -9, 0.0, -9, -9], 1),
        (PAPER, [None, None, None, None, None, 5.0, None, None], 1),
    ],
)
def test_it_stops_going_back_when_enough_reasonings_pass(bench, settings, scores, retraces):
    assert search(bench, settings, scores).spent.retraces == retraces


def test_two_captions_are_kept_and_each_is_continued_twice(bench):
    answer = search(bench, PAPER, [1.0] * 4)
    captions = [i for i, node in enumerate(answer.tree) if node.stage == "CAPTION" and node.kept]
    assert len(captions) == 2
    parents = Counter(node.parent for node in answer.tree if node.stage == "REASONING")
    assert parents == {captions[0]: 2, captions[1]: 2}


def test_a_spent_budget_ends_it_with_an_answer(bench):
    answer = search(bench, replace(PAPER, threshold=99.0), [0.0] * 99, budget=Budget(engine_calls=2))
    assert answer.spent.retraces == 0
    assert stages_of(answer) == {"SUMMARY": 1, "CAPTION": 4, "REASONING": 1, "CONCLUSION": 1}
    assert answer.rollout.finish == "stop"


@pytest.mark.parametrize("most", [2, 9, 14, 18])
def test_an_answer_that_is_cut_off_is_an_answer_too(bench, most):
    answer = search(bench, PAPER, [0.0] * 99, max_tokens=most)
    assert 0 < len(answer.rollout.completion_ids) <= most
    assert answer.rollout.finish == "length"


def test_with_two_stages_it_goes_back_to_the_first(bench):
    """The model does not write this grammar; the answer is what it wrote."""
    answer = search(bench, PAPER, [], names=THINK)
    assert set(stages_of(answer)) == {"think"}
    assert answer.rollout.text


def test_a_judges_scores_give_the_threshold_that_a_share_of_them_passes():
    found = calibrated([0.1, 0.3, 0.5, 0.7], 0.4)
    assert found["mean"] == pytest.approx(0.4)
    assert found["threshold"] == pytest.approx(0.4 + 0.2533 * found["std"], abs=1e-4)
    for wrong in ([], [1.0], [2.0, 2.0]):
        with pytest.raises(ValueError, match="at least two different scores"):
            calibrated(wrong, 0.4)


def test_one_candidate_at_temperature_0_is_refused(bench):
    with pytest.raises(ValueError, match="temperature 0"):
        bench.answers(partial(retracing, judge=rated([]), settings=PAPER), temperature=0.0)
