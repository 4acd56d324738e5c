"""Beams by stage and sentence with a model that writes the grammar: what survives, what is counted, where it ends."""

from __future__ import annotations

from functools import partial

import pytest

from engines.rollout import Request, Sampling
from inference.best_of_n import best_of_n, greedy
from inference.branches import begins_well, well_formed
from inference.judges import mean_logprob
from inference.stage_beam import sentence_beam, stage_beam
from inference.types import Budget
from rewards.stages import STAGES, THINK, parse, render
from vlm.inputs import extend

TEXT = render({"summary": "s", "caption": "c", "reasoning": "r", "conclusion": "o"})


class Judge:
    """Takes the last candidate, and remembers what it was asked."""

    def __init__(self):
        self.asked = []

    def __call__(self, question, stage, candidates):
        yield from ()
        self.asked.append((question.row["id"], stage, candidates))
        return [float(i) for i in range(len(candidates))]


def search(bench, judge=mean_logprob, n=3, **changes):
    return bench.answers(partial(stage_beam, judge=judge, candidates=n), **changes)


def test_the_judge_is_asked_stage_by_stage_and_its_choices_make_the_answer(bench):
    judge = Judge()
    answers = {answer.rollout.row_id: answer.rollout for answer in search(bench, judge)}
    for row_id, stage, candidates in judge.asked:
        assert 2 <= len(candidates) <= 3  # a lone sound candidate needs no judge
        best, answer = candidates[-1].last, answers[row_id]
        begun = len(best.prompt) - len(answer.prompt)
        assert best.prompt.input_ids[len(answer.prompt) :].tolist() == list(answer.completion_ids[:begun])
        assert answer.text.startswith(candidates[-1].text)
        assert f"</{stage}>" in candidates[-1].piece
        assert answer.completion_ids[begun:][: len(best.completion_ids)] == best.completion_ids
        assert answer.logprobs[begun:][: len(best.logprobs)] == best.logprobs
    assert len(judge.asked) > 2 * len(bench.rows)
    assert sum(parse(answer.text).stages is not None for answer in answers.values()) >= len(answers) - 1


def test_an_answer_is_one_completion_of_its_prompt_with_the_engines_logprobs(bench):
    for answer in search(bench):
        rollout = answer.rollout
        assert rollout.text == bench.processor.tokenizer.decode(
            rollout.completion_ids, skip_special_tokens=True
        )
        assert rollout.finish == "stop"
        assert len(rollout.logprobs) == len(rollout.completion_ids) <= 60
    rollout = answer.rollout
    for at in (0, 7, len(rollout.completion_ids) - 1):
        # greedy log-probs of the same prefix bound the sampled ones
        request = Request({"id": "x"}, extend(rollout.prompt, rollout.completion_ids[:at]))
        [step] = bench.engine.generate([request], Sampling(temperature=0, max_tokens=1))
        if step.completion_ids[0] == rollout.completion_ids[at]:
            assert step.logprobs[0] == pytest.approx(rollout.logprobs[at], abs=1e-4)
        else:
            assert step.logprobs[0] > rollout.logprobs[at]


@pytest.mark.parametrize("method", [stage_beam, sentence_beam, best_of_n])
def test_the_account_holds_every_token_and_the_tree_every_candidate(bench, monkeypatch, method):
    made = []
    generate = bench.engine.generate
    monkeypatch.setattr(bench.engine, "generate", lambda *a: made.extend(new := generate(*a)) or new)
    answers = bench.answers(partial(method, judge=mean_logprob, candidates=3))
    sampled = sum(len(r.completion_ids) for r in made)
    assert sum(answer.spent.tokens_generated for answer in answers) == sampled
    assert sum(node.tokens for answer in answers for node in answer.tree) == sampled
    for answer in answers:
        assert len(answer.tree) == 3 * answer.spent.engine_calls
        path = [answer.tree[i] for i in answer.chosen]
        assert "".join(node.text for node in path) == answer.rollout.text
        assert [node.parent for node in path] == [None, *answer.chosen[:-1]]
        assert all(node.kept for node in path)
        assert answer.spent.tokens_judged == answer.spent.coin_tosses == 0


def test_a_seed_reproduces_the_search(bench):
    ids = [[a.rollout.completion_ids for a in search(bench, seed=seed)] for seed in (1, 1, 2)]
    assert ids[0] == ids[1] != ids[2]


@pytest.mark.parametrize("most", [1, 9, 14])
def test_the_limit_is_for_the_whole_answer(bench, most):
    whole = search(bench, n=1)
    for answer, full in zip(search(bench, n=1, max_tokens=most), whole, strict=True):
        assert len(answer.rollout.completion_ids) <= most < len(full.rollout.completion_ids)
        assert answer.rollout.finish == "length"


def test_a_candidate_that_keeps_the_grammar_goes_before_one_that_does_not(bench):
    """At a high temperature most candidates break it; the judge is shown sound ones alone where there is one."""
    judge = Judge()
    answers = search(bench, judge, n=6, temperature=1.6, max_tokens=90)
    shown = [
        [well_formed(c.text, STAGES.index(stage) + 1, STAGES) for c in candidates]
        for _, stage, candidates in judge.asked
    ]
    assert any(all(sound) and len(sound) < 6 for sound in shown)
    assert all(all(sound) or not any(sound) for sound in shown)
    assert all(answer.rollout.finish in ("stop", "length") for answer in answers)


def test_sentences_end_at_full_stops_and_the_answer_at_its_last_closing_tag(bench):
    judge = Judge()
    answers = bench.answers(partial(sentence_beam, judge=judge, candidates=2))
    for _, stage, candidates in judge.asked:
        assert stage == "sentence"
        assert all("." in c.piece or c.finish for c in candidates)
    assert sum(parse(answer.rollout.text).stages is not None for answer in answers) >= len(answers) - 1
    assert (
        sum(len(answer.chosen) >= 3 for answer in answers) >= len(answers) - 1
    )  # "Add.", "No image.", the rest


def test_without_a_grammar_sentences_go_on_to_the_models_own_end(bench):
    for answer in bench.answers(partial(sentence_beam, judge=mean_logprob, candidates=2), names=None):
        assert answer.rollout.finish == "stop"
        assert answer.rollout.completion_ids[-1] == bench.processor.tokenizer.eos_token_id


def test_a_spent_budget_ends_the_branching_not_the_answer(bench):
    for budget in (Budget(engine_calls=1), Budget(tokens=1), Budget(seconds=1e-9)):
        judge = Judge()
        for answer in search(bench, judge, budget=budget):
            first = 1 if budget.seconds else 3
            assert [node.stage for node in answer.tree] == ["SUMMARY"] * first + list(STAGES[1:])
            assert answer.rollout.finish == "stop"
        assert not judge.asked


def test_greedy_is_what_the_engine_finds_most_likely(bench):
    requests = [Request(row, prompt) for row, prompt in zip(bench.rows, bench.prompts, strict=True)]
    expected = bench.engine.generate(requests, Sampling(0.0, 60))
    assert [a.rollout.completion_ids for a in bench.answers(greedy)] == [r.completion_ids for r in expected]


@pytest.mark.parametrize(
    ("text", "count", "sound"),
    [
        (TEXT, 4, True),
        (TEXT + "\n", 4, True),
        (TEXT + "<", 4, False),
        (TEXT + "x", 4, False),
        ("<SUMMARY>s</SUMMARY>", 1, True),
        (" <SUMMARY>s</SUMMARY>\n<", 1, True),
        ("<SUMMARY>s</SUMMARY><CAPT", 1, True),
        ("<SUMMARY>s</SUMMARY></", 1, False),
        ("<SUMMARY>s</SUMMARY>", 2, False),
        ("<SUMMARY>s", 1, False),
        ("x<SUMMARY>s</SUMMARY>", 1, False),
        ("<SUMMARY>s<CAPTION></SUMMARY>", 1, False),
        ("<SUMMARY>s</SUMMARY><SUMMARY>s</SUMMARY>", 1, False),
        ("<CAPTION>s</CAPTION>", 1, False),
        ("", 1, False),
    ],
)
def test_well_formed_is_the_grammar_up_to_a_stage(text, count, sound):
    assert well_formed(text, count, STAGES) == sound


def test_every_beginning_of_a_sound_answer_begins_well():
    for length in range(len(TEXT) + 1):
        assert begins_well(TEXT[:length], STAGES), TEXT[:length]
    assert begins_well("<think>1. x</think>\n<answer>3", THINK)


@pytest.mark.parametrize(
    "text",
    [
        "x",
        "<CAPTION>c",
        "<SUMMARY>s<CAPTION>",
        "<SUMMARY>s</CAPTION>",
        "<SUMMARY>s</SUMMARY>x",
        "<SUMMARY>s</SUMMARY><REASONING>",
        "<SUMMARY>s</SUMMARY><CAPTION>c<SUMMARY>",
        TEXT + "x",
    ],
)
def test_what_no_continuation_can_mend_does_not_begin_well(text):
    assert not begins_well(text, STAGES)


def test_a_real_vocabularys_tokens_that_reach_into_the_next_stage_are_sound(shared_data):
    from transformers import AutoTokenizer

    from engines.tokens import stop_length

    tokenizer = AutoTokenizer.from_pretrained(shared_data / "qwen_tokenizer")
    ids = tokenizer(TEXT, add_special_tokens=False).input_ids
    over, begin = 0, 0
    for count, stage in enumerate(STAGES, 1):
        begin += stop_length(tokenizer, ids[begin:], (f"</{stage}>",))
        text = tokenizer.decode(ids[:begin])
        assert well_formed(text, count, STAGES)
        over += not text.endswith(f"</{stage}>")
    assert begin == len(ids)
    assert over == 3  # `><` is one token


def test_searches_that_make_no_sense_are_refused(bench):
    for method in (stage_beam, sentence_beam, best_of_n):
        with pytest.raises(ValueError, match="temperature 0 gives the same candidate"):
            bench.answers(partial(method, judge=mean_logprob, candidates=2), temperature=0.0)


def test_best_of_n_chooses_among_whole_answers_of_each_row(bench):
    judge = Judge()
    answers = bench.answers(partial(best_of_n, judge=judge, candidates=4), names=None)
    for row, answer, (row_id, stage, candidates) in zip(bench.rows, answers, judge.asked, strict=True):
        assert (row_id, stage, len(candidates)) == (row["id"], "answer", 4)
        assert answer.rollout.completion_ids == candidates[3].ids
        assert answer.chosen == (3,)
        assert answer.spent.tokens_generated == sum(len(c.ids) for c in candidates)
