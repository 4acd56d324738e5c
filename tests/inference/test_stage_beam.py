"""Stage-level beam search with a model that writes the grammar: what survives, what is counted, where it ends."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engines.rollout import Request, Sampling
from inference.best_of_n import best_of_n, sample
from inference.selectors import mean_logprob
from inference.stage_beam import stage_beam, well_formed
from rewards.stages import STAGES, parse, render
from vlm.inputs import extend

SAMPLING = Sampling(temperature=1.0, max_tokens=60, seed=5)
TEXT = render({"summary": "s", "caption": "c", "reasoning": "r", "conclusion": "o"})


def search(bench, select=mean_logprob, n=3, sampling=SAMPLING):
    return stage_beam(bench.engine, bench.processor.tokenizer, bench.requests(n), select, sampling=sampling)


class Judge:
    """Takes the last candidate, and remembers what it was asked."""

    def __init__(self):
        self.asked = []

    def __call__(self, row, prefix, candidates):
        self.asked.append((row["id"], prefix, candidates))
        return len(candidates) - 1


def test_the_judge_is_asked_stage_by_stage_and_its_choices_make_the_answer(bench):
    judge = Judge()
    answers = {answer.rollout.row_id: answer.rollout for answer in search(bench, judge)}
    for row_id, prefix, candidates in judge.asked:
        assert 2 <= len(candidates) <= 3  # a lone sound candidate needs no judge
        best, answer = candidates[-1], answers[row_id]
        begun = len(best.prompt) - len(answer.prompt)
        assert best.prompt.input_ids[len(answer.prompt) :].tolist() == list(answer.completion_ids[:begun])
        assert answer.text.startswith(prefix + best.text)
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


def test_tokens_of_losing_candidates_are_counted(bench, monkeypatch):
    made = []
    generate = bench.engine.generate
    monkeypatch.setattr(bench.engine, "generate", lambda *a: made.extend(new := generate(*a)) or new)
    answers = search(bench)
    assert sum(answer.generated for answer in answers) == sum(len(r.completion_ids) for r in made)
    assert len(made) == 3 * sum(len(answer.chosen) for answer in answers)


def test_a_seed_reproduces_the_search(bench):
    ids = [
        [a.rollout.completion_ids for a in search(bench, sampling=replace(SAMPLING, seed=s))]
        for s in (1, 1, 2)
    ]
    assert ids[0] == ids[1] != ids[2]


@pytest.mark.parametrize("most", [1, 9, 14])
def test_the_limit_is_for_the_whole_answer(bench, most):
    whole = search(bench, n=1)
    for answer, full in zip(
        search(bench, n=1, sampling=replace(SAMPLING, max_tokens=most)), whole, strict=True
    ):
        assert len(answer.rollout.completion_ids) <= most < len(full.rollout.completion_ids)
        assert answer.rollout.finish == "length"


def test_the_models_context_is_a_limit_too(bench, monkeypatch):
    room = max(len(prompt) for prompt in bench.prompts) + 8
    config = bench.engine.config.model_copy(update={"max_model_len": room})
    monkeypatch.setattr(bench.engine, "config", config)
    for answer in search(bench):
        assert len(answer.rollout.prompt) + len(answer.rollout.completion_ids) <= room
        assert answer.rollout.finish == "length"


def test_a_candidate_that_keeps_the_grammar_goes_before_one_that_does_not(bench):
    """At a high temperature most candidates break it; the judge is shown sound ones alone where there is one."""
    judge = Judge()
    answers = search(bench, judge, n=6, sampling=replace(SAMPLING, temperature=1.6, max_tokens=90))
    shown = []
    for _, prefix, candidates in judge.asked:
        stage = 1 if not prefix else next((k + 1 for k in (1, 2, 3) if well_formed(prefix, k)), None)
        if stage:  # else the answer is broken already
            shown.append([well_formed(prefix + c.text, stage) for c in candidates])
    assert any(all(sound) and len(sound) < 6 for sound in shown)
    assert all(all(sound) or not any(sound) for sound in shown)
    assert all(answer.rollout.finish in ("stop", "length") for answer in answers)


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
    assert well_formed(text, count) == sound


def test_a_real_vocabularys_tokens_that_reach_into_the_next_stage_are_sound(shared_data):
    from transformers import AutoTokenizer

    from engines.tokens import stop_length

    tokenizer = AutoTokenizer.from_pretrained(shared_data / "qwen_tokenizer")
    ids = tokenizer(TEXT, add_special_tokens=False).input_ids
    over, begin = 0, 0
    for count, stage in enumerate(STAGES, 1):
        begin += stop_length(tokenizer, ids[begin:], (f"</{stage}>",))
        text = tokenizer.decode(ids[:begin])
        assert well_formed(text, count)
        over += not text.endswith(f"</{stage}>")
    assert begin == len(ids)
    assert over == 3  # `><` is one token


def test_searches_that_make_no_sense_are_refused(bench):
    with pytest.raises(ValueError, match="temperature 0 gives the same candidate"):
        search(bench, sampling=Sampling(temperature=0))
    with pytest.raises(ValueError, match="sets its own stop strings"):
        search(bench, sampling=replace(SAMPLING, stop=("x",)))
    with pytest.raises(ValueError, match="temperature 0 gives the same answer"):
        sample(bench.engine, bench.requests(2), Sampling(temperature=0))


def test_best_of_n_chooses_among_whole_answers_of_each_row(bench):
    judge = Judge()
    answers = best_of_n(bench.engine, bench.requests(4), judge, sampling=SAMPLING)
    for row, answer, (row_id, prefix, candidates) in zip(bench.rows, answers, judge.asked, strict=True):
        assert (row_id, prefix, len(candidates)) == (row["id"], "", 4)
        assert answer.rollout is candidates[3]
        assert answer.rollout.row_id == row["id"]
        assert answer.chosen == (3,)
        assert answer.generated == sum(len(c.completion_ids) for c in candidates)
