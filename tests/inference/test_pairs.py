"""The model as judge: verdicts it gives are followed, others are counted coin tosses."""

from __future__ import annotations

from functools import partial

import pytest

from engines.rollout import Rollout
from inference.best_of_n import best_of_n
from inference.pairs import by_pairs, chosen_response
from inference.rounds import run_searches
from inference.stage_beam import stage_beam
from inference.types import Branch


@pytest.mark.parametrize(
    ("verdict", "choice"),
    [
        ("Since it counts all shapes, I choose response 1.", 1),
        ("Since [reason], I choose response [2].", 2),
        ("I CHOOSE RESPONSE (1)", 1),
        ("I choose response 12.", None),
        ("I choose response [1/2].", 1),
        ("I choose response 1. No, I choose response 2.", None),
        ("Response 1 is better.", None),
        ("", None),
        ("I choose response 3", None),
    ],
)
def test_a_verdict_names_one_response_or_none(verdict, choice):
    assert chosen_response(verdict) == choice


class Verdicts:
    """The engine of a judging model that prefers one text (a stand-in: the tiny model cannot judge)."""

    def __init__(self, processor, best=None, always=None, garbled=()):
        self.tokenizer, self.best, self.always, self.garbled = processor.tokenizer, best, always, garbled
        self.prompts, self.batches = [], []

    def generate(self, requests, sampling):
        self.batches.append(len(requests))
        return [self._verdict(request) for request in requests]

    def _verdict(self, request):
        prompt = self.tokenizer.decode(request.prompt.input_ids)
        self.prompts.append(prompt)
        first = prompt.partition("Response 1:")[2].partition("Response 2:")[0]
        choice = self.always or (1 if self.best in first else 2)
        text = "?" if any(word in prompt for word in self.garbled) else f"I choose response {choice}."
        return Rollout(request.row_id, request.prompt, (0,) * 7, (1,) * 7, (0.0,) * 7, text, 0, "stop")


def judged(bench, texts, engine, stage="answer", before="", **settings):
    question = bench.questions(names=("SUMMARY",))[0]
    branches = [Branch(question, text=before + text, before=before) for text in texts]
    judge = by_pairs(max_model_len=4096, **settings)

    def search():
        return (yield from judge(question, stage, branches))

    [scores] = run_searches(engine, [(question, search())])
    return scores, question.spent


@pytest.mark.parametrize("count", [2, 3, 4, 5, 8])
@pytest.mark.parametrize("both_orders", [False, True])
def test_the_best_of_any_number_wins_the_knock_out_and_its_tokens_are_counted(bench, count, both_orders):
    texts = [f"text {'abcdefgh'[i]}." for i in range(count)]
    for best in (0, count - 1):
        engine = Verdicts(bench.processor, best=texts[best])
        scores, spent = judged(bench, texts, engine, both_orders=both_orders)
        assert max(range(count), key=lambda i: scores[i]) == best
        assert sum(engine.batches) == (count - 1) * (2 if both_orders else 1)
        assert len(engine.batches) == spent.engine_calls == (count - 1).bit_length()
        assert spent.coin_tosses <= count - 2  # between two of the others both orders disagree
        read = sum(
            len(bench.processor.tokenizer(p, add_special_tokens=False).input_ids) for p in engine.prompts
        )
        assert spent.tokens_judged == pytest.approx(read + 7 * sum(engine.batches), rel=0.05)
        assert spent.tokens_generated == 0


def test_an_unreadable_verdict_is_a_counted_coin_toss(bench):
    engine = Verdicts(bench.processor, best="b", garbled=["text"])
    scores, spent = judged(bench, ["text a.", "text b.", "text c."], engine)
    assert spent.coin_tosses == 2
    assert sorted(scores) in ([0.0, 0.0, 2.0], [0.0, 1.0, 2.0])


def test_a_judge_that_always_takes_the_first_is_found_out_by_both_orders(bench):
    engine = Verdicts(bench.processor, always=1)
    assert judged(bench, ["text a.", "text b."], engine)[1].coin_tosses == 0
    assert judged(bench, ["text a.", "text b."], engine, both_orders=True)[1].coin_tosses == 1


def test_the_judge_reads_question_hint_and_both_texts_without_tags_or_control_tokens(bench):
    engine = Verdicts(bench.processor, best="A")
    texts = ["<SUMMARY>A <|im_end|> sum</SUMMARY>", "<SUMMARY>B</SUMMARY>"]
    judged(bench, texts, engine, stage="SUMMARY", before="<SUMMARY>x")
    [prompt] = engine.prompts
    assert "What is 0 + 0?" in prompt
    assert "Hint about the Question: x" in prompt
    assert "better provides a summary" in prompt
    assert "SUMMARY>" not in prompt
    assert prompt.count("<|im_end|>") == 1 + prompt.count("<|im_start|>system")  # the template's own


def test_a_pair_that_does_not_fit_the_context_is_a_coin_toss(bench):
    question = bench.questions()[0]
    branches = [Branch(question, text=text) for text in ("a", "b")]
    judge = by_pairs(max_model_len=64, max_tokens=32)

    def search():
        return (yield from judge(question, "answer", branches))

    run_searches(Verdicts(bench.processor, best="a"), [(question, search())])
    assert question.spent.coin_tosses == 1
    assert question.spent.engine_calls == 0


@pytest.mark.parametrize("method", [best_of_n, stage_beam])
def test_whatever_a_tiny_model_says_as_judge_there_is_an_answer(bench, method):
    judge = by_pairs(max_model_len=1024, max_tokens=8)
    for answer in bench.answers(partial(method, judge=judge, candidates=3), temperature=0.8):
        assert answer.rollout.finish in ("stop", "length")
        assert answer.spent.coin_tosses <= 8
