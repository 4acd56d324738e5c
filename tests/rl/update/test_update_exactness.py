"""The packed update equals the padded one: loss, log-probs and every parameter's gradient."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from engines.rollout import Rollout
from rl.advantages import group_advantages, scored_tokens
from rl.update.packing import completion, pack
from rl.update.policy_gradient import policy_gradient
from tests.groups import group_of
from vlm.inputs import collate, encode_ids, extend, joined, reply_ids
from vlm.lora import LoraSettings, add_lora
from vlm.parts import set_trainable

TEMPERATURE = 0.8
CASES = ["text", "image", "images", "video", "observations", "one_rollout", "one_token", "mixed"]


def trained_tokens(groups) -> int:
    return sum(sum(r.loss_mask) for g in groups for r in g.rollouts)


def packed_update(model, groups, total, suppressed, *, max_tokens=10_000, attention=None, **options):
    model.zero_grad()
    loss, log_probs = 0.0, {}
    for batch in pack(groups, max_tokens=max_tokens):
        out = policy_gradient(
            model,
            batch,
            total_tokens=total,
            temperature=TEMPERATURE,
            suppressed_ids=suppressed,
            attention=attention,
            **options,
        )
        out.loss.backward()
        loss += float(out.loss.detach())
        log_probs |= {id(r): lp for r, lp in zip(batch.rollouts, out.logprobs, strict=True)}
    gradients = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    return loss, gradients, [log_probs[id(r)] for g in groups for r in g.rollouts]


@pytest.mark.every_family
@pytest.mark.parametrize("attention", ["merged", "explicit"])
@pytest.mark.parametrize("case", CASES)
def test_loss_log_probs_and_gradients_equal_the_padded_ones(lab, padded, same_gradients, case, attention):
    model, groups = lab.model(), lab.groups(case)
    total = trained_tokens(groups) + 11  # tokens of zero-signal groups, not computed
    loss, expected, log_probs = padded(model, groups, total, lab.suppressed)
    our_loss, ours, our_log_probs = packed_update(model, groups, total, lab.suppressed, attention=attention)
    assert our_loss == pytest.approx(loss, rel=1e-5)
    for a, b in zip(our_log_probs, log_probs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)
    same_gradients(ours, expected, 1e-5)


def episode(lab, prompt, turns, seed, finish="stop"):
    """`turns` turns of random tokens, an observed image of its own size between each two."""
    draw = random.Random(seed)
    sequence, mask = prompt, []
    for turn in range(turns):
        ids = [draw.randrange(10, 300) for _ in range(draw.randrange(2, 7))]
        sequence, mask = extend(sequence, ids), mask + [1] * len(ids)
        if turn + 1 < turns:
            width, height = draw.choice([(56, 84), (84, 56), (56, 56)])
            image = Image.effect_noise((width, height), 90 + seed).convert("RGB")
            content = [{"type": "text", "text": "Look"}, {"type": "image"}, {"type": "text", "text": "again"}]
            reply = encode_ids(
                lab.processor, reply_ids(lab.processor, {"role": "user", "content": content}), [image]
            )
            sequence, mask = joined(sequence, reply), mask + [0] * len(reply)
    ids = tuple(sequence.input_ids[len(prompt) :].tolist())
    return Rollout("row", prompt, ids, tuple(mask), (0.0,) * len(ids), "", 0, finish, sequence=sequence)


@pytest.mark.every_family
def test_a_group_of_episodes_with_uneven_turns_and_one_over_its_budget(lab, padded, same_gradients):
    """The reference computes Mini-o3's objective by hand: mean and standard deviation over the seven that were completed, the
    loss over their tokens alone."""
    model, prompt = (
        lab.model(),
        lab.prompt("Look closer.", [Image.effect_noise((84, 56), 100).convert("RGB")]),
    )
    turns, rewards = [1, 4, 2, 3, 5, 1, 2, 4], [1.0, 0.0, 1.0, 0.5, 0.0, 0.0, 1.0, 0.0]
    rollouts = [
        episode(lab, prompt, n, seed, "over_turn" if seed == 4 else "stop") for seed, n in enumerate(turns)
    ]
    group = group_of(rollouts, rewards=rewards)
    (with_advantages,) = group_advantages([group], over_turn="completed")
    total = scored_tokens(group, "completed")

    done = [i for i in range(8) if i != 4]
    kept = np.array([rewards[i] for i in done])
    by_hand = (kept - kept.mean()) / kept.std(ddof=1)
    reference = group_of([rollouts[i] for i in done], tuple(by_hand))
    tokens = sum(sum(rollouts[i].loss_mask) for i in done)
    loss, expected, _ = padded(model, [reference], tokens, lab.suppressed)
    assert total == tokens

    for max_tokens in (10_000, 300):
        model.zero_grad()
        ours = 0.0
        for batch in pack([with_advantages], max_tokens=max_tokens):
            options = {"temperature": TEMPERATURE, "suppressed_ids": lab.suppressed}
            out = policy_gradient(model, batch, total_tokens=total, **options)
            out.loss.backward()
            ours += float(out.loss.detach())
        assert ours == pytest.approx(loss, rel=1e-5)
        same_gradients({n: p.grad for n, p in model.named_parameters() if p.grad is not None}, expected, 1e-5)


@pytest.mark.parametrize("max_tokens", [40, 75, 150])
def test_the_result_does_not_depend_on_the_token_budget(lab, same_gradients, max_tokens):
    """Groups are split (their prompts repeated), mixed and reordered; budgets below a single sequence too."""
    model, groups = lab.model(), lab.groups("mixed")
    total = trained_tokens(groups)
    loss, whole, log_probs = packed_update(model, groups, total, lab.suppressed)
    split_loss, split, split_log_probs = packed_update(
        model, groups[::-1], total, lab.suppressed, max_tokens=max_tokens
    )
    assert len(pack(groups, max_tokens=max_tokens)) > 2
    assert split_loss == pytest.approx(loss, rel=1e-5)
    same_gradients(split, whole, 1e-5)
    by_length = sorted(map(float, (x.sum() for x in log_probs)))
    assert sorted(float(x.sum()) for x in split_log_probs) == pytest.approx(by_length, rel=1e-5)


@pytest.mark.every_family
def test_gradient_checkpointing_changes_nothing(lab, padded, same_gradients):
    model, groups = lab.model().train(), lab.groups("mixed")
    total = trained_tokens(groups)
    _, expected, _ = padded(model, groups, total, lab.suppressed)
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    _, ours, _ = packed_update(model, groups, total, lab.suppressed, max_tokens=200)
    same_gradients(ours, expected, 1e-5)


@pytest.mark.every_family
@pytest.mark.parametrize("checkpointing", [False, True])
def test_lora_adapters_get_the_padded_gradient(lab, padded, same_gradients, checkpointing):
    model = add_lora(lab.model(), LoraSettings(r=4, targets="all")).train()
    set_trainable(model, "all", quiet=True)
    torch.manual_seed(1)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:  # zero at first: the gradient of lora_A would be zero too
            torch.nn.init.normal_(parameter, std=0.1)
    groups = lab.groups("image") + lab.groups("observations")
    total = trained_tokens(groups)
    _, expected, _ = padded(model, groups, total, lab.suppressed)
    if checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        model.enable_input_require_grads()
    _, ours, _ = packed_update(model, groups, total, lab.suppressed)
    assert any("lora_A" in name for name in ours)
    same_gradients(ours, expected, 1e-5)


@pytest.mark.every_family
def test_untied_heads_and_a_frozen_vision_tower(lab, padded, same_gradients):
    model = lab.model()
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
    set_trainable(model, "language", quiet=True)
    groups = lab.groups("image")
    _, expected, _ = padded(model, groups, 50, lab.suppressed)
    _, ours, _ = packed_update(model, groups, 50, lab.suppressed)
    assert "lm_head.weight" in ours and not any("visual" in name for name in ours)
    same_gradients(ours, expected, 1e-5)


def test_bfloat16_is_as_near_to_float32_as_the_padded_form(lab, padded):
    groups = lab.groups("images")
    total = trained_tokens(groups)
    _, exact, _ = padded(lab.model(), groups, total, lab.suppressed)
    half = lab.model().bfloat16()
    _, ours, _ = packed_update(half, groups, total, lab.suppressed)
    _, theirs, _ = padded(half, groups, total, lab.suppressed)

    def error(gradients):
        difference = sum((gradients[n].float() - g).square().sum() for n, g in exact.items())
        return float(torch.sqrt(difference / sum(g.square().sum() for g in exact.values())))

    assert error(ours) < max(1.2 * error(theirs), 0.02)


def test_rollouts_without_signal_or_trained_tokens_are_not_computed(lab):
    (group,) = lab.groups("image")
    zeroed = replace(group, advantages=(0.0, *group.advantages[1:]))
    (batch,) = pack([zeroed], max_tokens=10_000)
    assert {id(r) for r in batch.rollouts} == {id(r) for r in group.rollouts[1:]}


def test_entropy_is_the_mean_over_trained_tokens(lab):
    model, groups = lab.model(), lab.groups("one_token")
    (batch,) = pack(groups, max_tokens=10_000)
    out = policy_gradient(model, batch, total_tokens=8, temperature=0.5)
    entropies = []
    for rollout in batch.rollouts:
        inputs = collate([extend(rollout.prompt, rollout.completion_ids)], pad_id=0)
        logits = model(**inputs).logits[0, len(rollout.prompt) - 1 : -1] / 0.5
        entropies.append(torch.distributions.Categorical(logits=logits).entropy().detach())
    assert out.tokens == 8
    assert out.entropy == pytest.approx(float(torch.cat(entropies).mean()), rel=1e-5)


def test_calls_that_are_not_packed_go_on_as_before(lab):
    model, groups = lab.model(), lab.groups("text")
    inputs = collate([extend(r.prompt, r.completion_ids) for r in groups[0].rollouts], pad_id=0)
    before = model(**inputs).logits
    policy_gradient(model, pack(groups, max_tokens=10_000)[0], total_tokens=1)
    torch.testing.assert_close(model(**inputs).logits, before)
    prompt = collate([groups[0].rollouts[0].prompt], pad_id=0)
    assert (
        model.generate(**prompt, max_new_tokens=3, do_sample=False).shape[1]
        == prompt["input_ids"].shape[1] + 3
    )
    forwards = model.forward, model.lm_head.forward
    policy_gradient(model, pack(groups, max_tokens=10_000)[0], total_tokens=1)
    assert forwards == (model.forward, model.lm_head.forward)


def test_a_suppressed_token_in_a_rollout_is_an_error(lab):
    (group,) = lab.groups("text")
    token = group.rollouts[0].completion_ids[0]
    with pytest.raises(ValueError, match="never sampled"):
        policy_gradient(
            lab.model(), pack([group], max_tokens=10_000)[0], total_tokens=1, suppressed_ids=[token]
        )


def test_a_sequence_that_is_not_prompt_and_completion_is_an_error(lab):
    rollout = lab.groups("observations")[0].rollouts[1]
    wrong = replace(rollout, sequence=replace(rollout.sequence, input_ids=rollout.sequence.input_ids[:-1]))
    with pytest.raises(ValueError, match="followed by the completion's"):
        completion(wrong)
