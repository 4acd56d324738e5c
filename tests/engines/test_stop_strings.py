"""Stop strings: both engines cut at the same token, and what is cut can be gone on with as if it had not been."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from engines.rollout import Request, Sampling
from engines.tokens import stop_length, stop_token_ids, stop_watch
from vlm.inputs import extend

from .conftest import perturb, trainer_logprobs, weights


def by_trying(tokenizer, ids, stop) -> int | None:
    """The rule, word for word."""
    for count in range(1, len(ids) + 1):
        if any(text in tokenizer.decode(list(ids[:count]), skip_special_tokens=True) for text in stop):
            return count
    return None


def watched(tokenizer, ids, stop) -> int | None:
    watch = stop_watch(tokenizer, stop)
    return next((n for n in range(1, len(ids) + 1) if watch([ids[:n]]) == [True]), None)


def test_the_rule_holds_for_random_tokens_broken_characters_and_special_tokens(processor):
    tokenizer = processor.tokenizer
    generator = torch.Generator().manual_seed(0)
    found = 0
    for stop in (("e",), ("red c", "12"), ("é",), ("re", "cle", " 😀"), (" the",)):
        for _ in range(30):
            ids = torch.randint(len(tokenizer), (40,), generator=generator).tolist()
            at = int(torch.randint(40, (1,), generator=generator))
            ids[at:at] = tokenizer(
                f" red circles 12 é 😀 the<|im_start|>{stop[0]}", add_special_tokens=False
            ).input_ids
            expected = by_trying(tokenizer, ids, stop)
            assert stop_length(tokenizer, ids, stop) == expected
            assert watched(tokenizer, ids, stop) == expected
            found += expected is not None
    assert found == 150
    ids = tokenizer("How many", add_special_tokens=False).input_ids
    assert stop_length(tokenizer, ids, ("red",)) is None


def test_a_token_that_reaches_over_the_stop_text_is_kept_whole(processor):
    tokenizer = processor.tokenizer
    ids = tokenizer("How many red circles", add_special_tokens=False).input_ids
    kept = stop_length(tokenizer, ids, ("ma",))
    assert tokenizer.decode(ids[:kept]) == "How many"


def test_a_stopped_completion_is_the_beginning_of_the_unstopped_one(
    engine, policy, processor, requests_of_all_kinds
):
    engine.sync(weights(policy), engine.version + 1)
    for request in requests_of_all_kinds:
        alone = [replace(request, n=1)]
        samplings = (Sampling(max_tokens=24, seed=seed) for seed in range(100))
        tried = ((sampling, *engine.generate(alone, sampling)) for sampling in samplings)
        sampling, long = next(one for one in tried if len(one[1].completion_ids) >= 16)
        words = processor.tokenizer.decode(long.completion_ids[8:16], skip_special_tokens=True).split(
            "\ufffd"
        )
        stop = ("never", max(words, key=len)[-3:])
        [short] = engine.generate(alone, replace(sampling, stop=stop))
        kept = by_trying(processor.tokenizer, long.completion_ids, stop)
        assert kept is not None
        assert short.completion_ids == long.completion_ids[:kept]
        assert short.logprobs == pytest.approx(long.logprobs[:kept], abs=1e-4)
        assert short.text == processor.tokenizer.decode(short.completion_ids, skip_special_tokens=True)
        assert stop[1] in short.text
        assert short.finish == "stop"


def test_going_on_behind_a_completions_beginning_is_the_completion(engine, policy, requests_of_all_kinds):
    perturb(policy.parameters())
    engine.sync(weights(policy), engine.version + 1)
    whole = engine.generate(requests_of_all_kinds, Sampling(temperature=0, max_tokens=20))
    begun = [Request({"id": r.row_id}, extend(r.prompt, r.completion_ids[:5])) for r in whole]
    for long, rest in zip(whole, engine.generate(begun, Sampling(temperature=0, max_tokens=15)), strict=True):
        assert long.completion_ids[:5] + rest.completion_ids == long.completion_ids
        assert rest.logprobs == pytest.approx(long.logprobs[5:], abs=1e-4)


def test_sampled_completions_stop_where_the_rule_says_with_the_policys_logprobs(
    engine, policy, processor, model_path, requests_of_all_kinds
):
    engine.sync(weights(policy), engine.version + 1)
    stop, ends = ("e", "1", "o b"), set(stop_token_ids(processor, model_path))
    requests = [replace(r, n=12) for r in requests_of_all_kinds]
    rollouts = engine.generate(requests, Sampling(max_tokens=32, seed=4, stop=stop))
    stopped = 0
    for rollout in rollouts:
        kept = by_trying(processor.tokenizer, rollout.completion_ids, stop)
        assert kept in (None, len(rollout.completion_ids))
        ended = kept is not None or rollout.completion_ids[-1] in ends
        assert rollout.finish == ("stop" if ended else "length")
        assert ended or len(rollout.completion_ids) == 32
        stopped += kept is not None
    assert stopped > 10
    for rollout in rollouts[::12]:
        gap = torch.tensor(rollout.logprobs) - trainer_logprobs(policy, processor, rollout)
        assert gap.abs().max() < 1e-4


@pytest.mark.parametrize("stop", ["</SUMMARY>", ("a", "")])
def test_stop_texts_that_would_stop_everything_are_refused(stop):
    with pytest.raises(ValueError, match="stop: expected a tuple of texts"):
        Sampling(stop=stop)
