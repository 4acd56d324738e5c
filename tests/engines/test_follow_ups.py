"""Follow-ups of finished rollouts on both engines: they join the running batch, sample from the same policy, and cost what is
new in them."""

from __future__ import annotations

import random
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from engines.rollout import Request, Sampling
from engines.tokens import suppress_, suppressed_token_ids
from environments.episodes import Episodes
from environments.types import Done, Observation
from rl.checks import logprob_gap
from vlm.inputs import collate, encode, encode_ids, extend, joined, reply_ids

from .conftest import perturb, weights


class Look:
    """Shows an image after every turn, as many times as the row says; what the policy writes does not matter."""

    def __init__(self, stop: tuple[str, ...] = (), delays: random.Random | None = None):
        self.stop = stop
        self._delays = delays

    def reset(self, row):
        return {"row": row, "turns": 0}

    def respond(self, state, text):
        if self._delays:
            time.sleep(self._delays.random() * 0.05)
        state["turns"] += 1
        if state["turns"] >= state["row"]["turns"]:
            return Done()
        rng = np.random.default_rng([state["row"]["seed"], state["turns"]])
        width, height = rng.choice([28, 56, 84], 2)
        image = Image.fromarray(rng.integers(0, 255, (height, width, 3), dtype=np.uint8))
        return Observation((f"Look {state['turns']}", image, "Where is it?"))

    def close(self):
        pass


LETTERS = tuple("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,?!:;<>|/-_ ")
"""Nearly every token ends a turn, so turns are short and end by stopping."""


def requests(processor, turns, n=1) -> list[Request]:
    made = []
    for i, count in enumerate(turns):
        pixels = np.random.default_rng(i).integers(0, 255, (56, 84, 3), dtype=np.uint8)
        content = [{"type": "image"}, {"type": "text", "text": "How many red circles are there?"}]
        prompt = encode(processor, [{"role": "user", "content": content}], [Image.fromarray(pixels)])
        made.append(Request({"id": f"r{i}", "turns": count, "seed": i}, prompt, n))
    return made


def gap(rollouts, policy, processor):
    """Over every sampled token of every turn, by one plain forward over each whole episode."""
    suppressed = torch.tensor(suppressed_token_ids(processor, policy.config.text_config.vocab_size))
    engine, trainer = [], []
    for rollout in rollouts:
        sequence = rollout.sequence or extend(rollout.prompt, rollout.completion_ids)
        with torch.no_grad():
            logits = policy(**collate([sequence], pad_id=0)).logits[0, len(rollout.prompt) - 1 : -1]
        ids = torch.tensor(rollout.completion_ids)[:, None]
        logprobs = suppress_(logits, suppressed).log_softmax(-1).gather(-1, ids)[:, 0]
        mask = torch.tensor(rollout.loss_mask, dtype=torch.bool)
        engine.append(torch.tensor(rollout.logprobs)[mask])
        trainer.append(logprobs[mask])
    return logprob_gap(torch.cat(engine), torch.cat(trainer))


@pytest.mark.every_family
def test_every_token_of_every_turn_is_sampled_from_the_policy_also_behind_images(engine, policy, processor):
    perturb(policy.parameters())
    engine.sync(weights(policy), engine.version + 1)
    episodes = Episodes(Look(LETTERS[::3]), processor)
    rollouts = episodes.generate(
        engine, requests(processor, [1, 2, 3, 4], n=3), Sampling(max_tokens=12, seed=1)
    )
    assert [r.row_id for r in rollouts] == ["r0"] * 3 + ["r1"] * 3 + ["r2"] * 3 + ["r3"] * 3
    assert max(len(r.turns) for r in rollouts) == 4 and sum(r.sequence is not None for r in rollouts) >= 6
    measured = gap(rollouts, policy, processor)
    assert measured.mean < 1e-5 and measured.max < 1e-4


def test_the_order_in_which_observations_arrive_changes_no_token(engine, policy, processor):
    engine.sync(weights(policy), engine.version + 1)
    made, sampling = requests(processor, [3, 1, 2, 3], n=2), Sampling(max_tokens=6, seed=3)
    results = []
    for delays in (None, random.Random(1), random.Random(2)):
        episodes = Episodes(Look(LETTERS, delays), processor)
        results.append([r.completion_ids for r in episodes.generate(engine, made, sampling)])
    assert results[0] == results[1] == results[2]


def follow_up(processor, rollout, row) -> Request:
    ids = reply_ids(processor, {"role": "user", "content": "Where is it?"})
    prompt = joined(extend(rollout.prompt, rollout.completion_ids), encode_ids(processor, ids))
    return Request(row, prompt)


def test_a_follow_up_waits_for_nobody_elses(engine, policy, processor):
    """The first episode's second turn is not ready until the second episode has played three."""
    engine.sync(weights(policy), engine.version + 1)
    first, second = requests(processor, [1, 1])
    held: Future[Request | None] = Future()
    ready, finished = [], []

    def answer(place, rollout):
        finished.append(place)
        if place == 0 and finished.count(0) == 1:
            ready.append(follow_up(processor, rollout, first.row))
            return held
        if place == 1 and finished.count(1) < 4:
            return follow_up(processor, rollout, second.row)
        if place == 1:
            held.set_result(ready[0])
        return None

    rollouts = engine.generate([first, second], Sampling(max_tokens=4, seed=1), answer)
    assert sorted(finished[:2]) == [0, 1] and finished[2:] == [1, 1, 1, 0]
    assert len(rollouts[1].prompt) > len(second.prompt)


def test_each_image_is_encoded_once_and_each_token_computed_once(engine, policy, processor, monkeypatch):
    """Up to a block of the KV cache in vLLM, which is shared in whole blocks."""
    engine.sync(weights(policy), engine.version + 1)
    vllm = not hasattr(engine, "_model")
    patches, tokens, preprocessed = [], [], []

    def watch(model):
        tower = model.visual if vllm else model.model.visual
        decoder = model.language_model.model if vllm else model.model.language_model
        kwargs = {"with_kwargs": True}
        return [
            tower.register_forward_pre_hook(
                lambda m, a, k: patches.append(len(a[0] if a else k["x"])), **kwargs
            ),
            decoder.layers[0].register_forward_pre_hook(
                lambda m, a, k: tokens.append(
                    (a[1] if vllm and len(a) > 1 else k.get("hidden_states", a[0] if a else None))
                    .shape[:-1]
                    .numel()
                ),
                **kwargs,
            ),
        ]

    if vllm:
        preprocess = engine._llm._preprocess_cmpl_one
        monkeypatch.setattr(
            engine._llm,
            "_preprocess_cmpl_one",
            lambda prompt: (
                preprocessed.append(len(prompt.get("multi_modal_data", {}).get("image", ())))
                or preprocess(prompt)
            ),
        )
        hooks = engine._llm.apply_model(lambda model: watch(model))[0]
    else:
        hooks = watch(engine._model)
    turns = 5
    try:
        episodes = Episodes(Look(LETTERS), processor)
        (rollout,) = episodes.generate(engine, requests(processor, [turns]), Sampling(max_tokens=8, seed=2))
    finally:
        for hook in hooks:
            hook.remove()
    assert len(rollout.turns) == turns and len(rollout.sequence.images) == turns
    assert sum(patches) == len(rollout.sequence.pixel_values)
    whole, block = len(rollout.sequence), 32 if vllm else 0
    assert whole - 1 <= sum(tokens) <= whole + turns * (block + 1)
    assert not vllm or sum(preprocessed) == turns


def test_a_follow_up_that_does_not_go_on_from_its_rollout_is_a_prompt_like_any_other(
    engine, policy, processor
):
    engine.sync(weights(policy), engine.version + 1)
    first, other = requests(processor, [1, 1])
    plain = engine.generate([replace(other, n=1)], Sampling(temperature=0, max_tokens=8))
    answers = iter([other, None])
    greedy = Sampling(temperature=0, max_tokens=8)
    (rollout,) = engine.generate([first], greedy, lambda place, rollout: next(answers))
    assert rollout.completion_ids == plain[0].completion_ids


def test_what_computing_a_follow_up_raises_ends_the_call_and_leaves_nothing_behind(engine, policy, processor):
    engine.sync(weights(policy), engine.version + 1)
    made, sampling = requests(processor, [1, 1, 1]), Sampling(max_tokens=6, seed=4)
    expected = [r.completion_ids for r in engine.generate(made, sampling)]

    def broken():
        raise RuntimeError("no observation")

    with ThreadPoolExecutor(1) as pool:
        with pytest.raises(RuntimeError, match="no observation"):
            engine.generate(made, sampling, lambda place, rollout: pool.submit(broken))
        with pytest.raises(ValueError, match="expected a follow-up of n = 1, got n = 2"):
            engine.generate(made, sampling, lambda place, rollout: replace(made[0], n=2))
    assert [r.completion_ids for r in engine.generate(made, sampling)] == expected


def test_more_episodes_than_run_at_once(transformers_engine, policy, processor, monkeypatch):
    transformers_engine.sync(weights(policy), transformers_engine.version + 1)
    made, sampling = requests(processor, [3, 1, 2, 2], n=3), Sampling(max_tokens=6, seed=5)
    all_at_once = Episodes(Look(LETTERS), processor).generate(transformers_engine, made, sampling)
    few = transformers_engine.config.model_copy(update={"max_num_seqs": 2})
    monkeypatch.setattr(transformers_engine, "config", few)
    one_by_one = Episodes(Look(LETTERS), processor).generate(transformers_engine, made, sampling)
    assert [r.completion_ids for r in one_by_one] == [r.completion_ids for r in all_at_once]
