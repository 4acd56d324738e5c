"""Searches that run together: in slices or whole, joined and dropped on the way."""

from __future__ import annotations

from functools import partial

import pytest

from engines.rollout import Request, Sampling
from inference.best_of_n import best_of_n, greedy
from inference.judges import mean_logprob
from inference.rounds import Rounds
from inference.stage_beam import stage_beam
from inference.types import Generate
from rewards.stages import STAGES


def finish(rounds):
    found = {}
    while len(rounds):
        found.update(rounds.round())
    return found


@pytest.mark.parametrize("slice_tokens", [1, 3, 7])
def test_slices_make_the_same_completions_as_one_piece(bench, slice_tokens):
    """Greedy: stop texts across slices, limits and log-probs are those of one piece."""
    whole = [answer.rollout for answer in bench.answers(greedy)]
    staged = bench.answers(partial(stage_beam, judge=mean_logprob, candidates=1), temperature=0.0)
    rounds = Rounds(bench.engine, slice_tokens)
    for method in (greedy, partial(stage_beam, judge=mean_logprob, candidates=1)):
        for question in bench.questions(temperature=0.0):
            rounds.start(question, method(question))
    found = [answer.rollout for _, answer in sorted(finish(rounds).items())]
    for mine, other in zip(found, whole + [answer.rollout for answer in staged], strict=True):
        assert (mine.completion_ids, mine.finish, mine.text) == (
            other.completion_ids,
            other.finish,
            other.text,
        )
        assert mine.logprobs == pytest.approx(other.logprobs, abs=1e-4)


def test_a_search_joins_between_the_slices_of_others_and_the_text_so_far_is_told(bench):
    said = []
    first, second = bench.questions(partial=said.append)[0], bench.questions()[1]
    rounds = Rounds(bench.engine, 8)
    slow = rounds.start(first, greedy(first))
    rounds.round()
    quick = rounds.start(second, greedy(second))
    found = finish(rounds)
    assert set(found) == {slow, quick}
    assert len(said) >= 3
    assert all(found[slow].rollout.text.startswith(text) for text in said)
    assert said[-1] == found[slow].rollout.text


def test_a_dropped_search_makes_no_further_calls(bench, monkeypatch):
    rounds = Rounds(bench.engine, 4)
    questions = bench.questions()[:2]
    numbers = [rounds.start(q, best_of_n(q, mean_logprob, candidates=2)) for q in questions]
    rounds.round()
    rounds.stop(numbers[0])
    asked = []
    generate = bench.engine.generate
    monkeypatch.setattr(bench.engine, "generate", lambda r, s: asked.extend(r) or generate(r, s))
    assert list(finish(rounds)) == [numbers[1]]
    assert {request.row_id for request in asked} == {questions[1].row["id"]}


def test_an_error_of_one_search_leaves_the_others_alone(bench):
    def broken(question):
        yield [Generate(Request(question.row, question.prompt), Sampling(max_tokens=2))]
        raise RuntimeError("mine")

    good, bad = bench.questions()[:2]
    rounds = Rounds(bench.engine)
    one, other = rounds.start(good, greedy(good)), rounds.start(bad, broken(bad))
    found = finish(rounds)
    assert isinstance(found[other], RuntimeError)
    assert found[one].rollout.finish == "stop"


def test_searches_with_other_limits_share_a_batch_and_keep_their_own(bench, monkeypatch):
    calls = []
    generate = bench.engine.generate
    monkeypatch.setattr(bench.engine, "generate", lambda r, s: calls.append(s) or generate(r, s))
    rounds = Rounds(bench.engine)
    for most, question in zip((3, 9, 60), bench.questions(), strict=False):
        question.max_tokens = most
        rounds.start(question, greedy(question))
    lengths = [len(answer.rollout.completion_ids) for _, answer in sorted(finish(rounds).items())]
    assert lengths[:2] == [3, 9]
    assert 9 < lengths[2] <= 60
    assert [call.max_tokens for call in calls] == [60]


def test_all_questions_go_through_a_stage_in_one_batch(bench, monkeypatch):
    calls = []
    generate = bench.engine.generate
    monkeypatch.setattr(bench.engine, "generate", lambda r, s: calls.append(len(r)) or generate(r, s))
    bench.answers(partial(stage_beam, judge=mean_logprob, candidates=2))
    assert len(calls) == len(STAGES)
    assert calls[0] == len(bench.rows)
