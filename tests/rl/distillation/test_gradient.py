"""The gradient of a teacher's advantages, packed, is that of plain padded forward passes, and that of the reverse KL."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from engines.rollout import Rollout
from engines.tokens import suppressed_token_ids
from rl.coefficients import Objective, counted, with_coefficients
from rl.distillation.checkpoint import CheckpointTeacher
from rl.distillation.config import CheckpointTeacherConfig
from rl.distillation.teacher import reverse_kl_metrics, teacher_advantages
from rl.update.packing import pack
from rl.update.policy_gradient import policy_gradient
from tests.groups import group_of
from tests.rl.distillation.plain import as_sampled, plain_logprobs
from vlm.families import DEFAULT_FAMILY
from vlm.inputs import collate, extend
from vlm.tiny import build_tiny_vlm

TEMPERATURE = 0.8


def build(lab, folder, *, temperature=TEMPERATURE, max_tokens=10_000):
    config = CheckpointTeacherConfig(path=str(folder), dtype="float32")
    return CheckpointTeacher(
        config, lab.processor, temperature=temperature, max_tokens=max_tokens, device=torch.device("cpu")
    )


def suppressed(lab) -> list[int]:
    """What the policy never samples: media placeholders, and rows of the head that no token uses."""
    return list(suppressed_token_ids(lab.processor, lab.model().config.text_config.vocab_size))


def gradients(model) -> dict[str, torch.Tensor]:
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def plain_teacher(lab, folder):
    return lab.processor.family.model_class().from_pretrained(folder, dtype=torch.float32)


@pytest.mark.parametrize("max_tokens", [10_000, 90])
@pytest.mark.parametrize(("rewards", "weight"), [(0.0, 1.0), (0.7, 0.3)], ids=["alone", "with rewards"])
def test_the_gradient_is_that_of_a_plain_forward(
    lab, teacher_folder, padded, same_gradients, rewards, weight, max_tokens
):
    """Texts, images, videos and turns; one group has rewards that are all equal, and still learns from the teacher."""
    model, teacher = lab.model(), plain_teacher(lab, teacher_folder)
    forbidden = suppressed(lab)
    options = {"suppressed": forbidden, "temperature": TEMPERATURE}
    groups = [as_sampled(group, model, **options) for group in lab.groups("mixed")]
    groups[0] = replace(groups[0], advantages=(None,) * len(groups[0].samples))

    factors, total = [], 0
    for group in groups:
        for rollout, advantage in zip(group.rollouts, group.advantages, strict=True):
            mask = torch.tensor(rollout.loss_mask)
            difference = plain_logprobs(teacher, rollout, **options) - torch.tensor(rollout.logprobs)
            factors.append((rewards * (advantage or 0.0) + weight * difference) * mask)
            total += int(mask.sum())
    ones = [replace(group, advantages=(1.0,) * len(group.samples)) for group in groups]
    loss, expected, _ = padded(model, ones, total, forbidden, weights=factors)

    asked = build(lab, teacher_folder, max_tokens=max_tokens).logprobs(groups)
    advantages = teacher_advantages(groups, asked)
    weighed, tokens = with_coefficients(
        groups, counted(groups), Objective(rewards=rewards, teacher=weight), advantages
    )
    assert tokens == total
    model.zero_grad()
    ours = 0.0
    for batch in pack(weighed, max_tokens=max_tokens):
        out = policy_gradient(
            model, batch, total_tokens=tokens, temperature=TEMPERATURE, suppressed_ids=forbidden
        )
        out.loss.backward()
        ours += float(out.loss.detach())
    assert ours == pytest.approx(loss, rel=1e-5)
    same_gradients(gradients(model), expected, 2e-5)

    kl = reverse_kl_metrics(groups, advantages)["reverse_kl/mean"].value
    by_hand = [
        torch.tensor(r.logprobs) - plain_logprobs(teacher, r, **options) for g in groups for r in g.rollouts
    ]
    assert kl == pytest.approx(float(torch.cat(by_hand).sum()) / total, rel=1e-4)


def test_the_expected_gradient_is_that_of_the_reverse_kl(lab, teacher_folder, same_gradients):
    """Over everything that a policy of three tokens can say, weighed by how likely it is: minus the gradient of
    KL(pi || pi_teacher), which is taken from the whole distribution."""
    model, teacher = lab.model(), plain_teacher(lab, teacher_folder)
    prompt, tokens = lab.groups("one_rollout")[0].rollouts[0].prompt, (2, 40, 41)
    others = [i for i in range(model.config.text_config.vocab_size) if i not in tokens]
    batch = collate([extend(prompt, (2,))], pad_id=0)

    def distribution(of):
        logits = of(**batch, use_cache=False).logits[0, len(prompt) - 1]
        return logits[list(tokens)].log_softmax(-1)

    own, theirs = distribution(model), distribution(teacher).detach()
    (own.exp() * (own - theirs)).sum().backward()
    expected = gradients(model)

    rollouts = [
        Rollout("row", prompt, (token,), (1,), (p,), "", 0, "stop")
        for token, p in zip(tokens, own.tolist(), strict=True)
    ]
    group = group_of(rollouts, rewards=[0.0] * 3)
    values = [tuple(plain_logprobs(teacher, r, suppressed=others) for r in rollouts)]
    (advantages,) = teacher_advantages([group], values)
    weighed = replace(
        group, coefficients=tuple(d * p.exp() for d, p in zip(advantages, own.detach(), strict=True))
    )
    model.zero_grad()
    for packed in pack([weighed], max_tokens=1000):
        policy_gradient(model, packed, total_tokens=1, suppressed_ids=others).loss.backward()
    same_gradients(gradients(model), expected, 2e-5)


def test_a_policy_that_is_its_own_teacher_has_nothing_to_learn(lab):
    groups = [
        as_sampled(group, lab.model(), suppressed=suppressed(lab), temperature=TEMPERATURE)
        for group in lab.groups("observations")
    ]
    for values in teacher_advantages(groups, build(lab, lab.folder).logprobs(groups)):
        assert all(float(v.abs().max()) < 1e-5 for v in values)


def test_a_rollout_without_a_sampled_token_is_not_asked_about(lab, teacher_folder):
    (group,) = lab.groups("one_rollout")
    silent = replace(group.rollouts[0], loss_mask=(0,) * len(group.rollouts[0].loss_mask))
    ((values,),) = build(lab, teacher_folder).logprobs([group_of([silent], [1.0])])
    assert torch.equal(values, torch.zeros(len(silent.loss_mask)))


def test_teachers_that_read_other_inputs_are_refused(lab, tmp_path):
    other = next(f for f in ("qwen3_vl", "qwen2_5_vl") if f != lab.processor.family.model_type)
    assert lab.processor.family.model_type == DEFAULT_FAMILY
    build_tiny_vlm(tmp_path / "family", ["a few words"], family=other, hidden=64, layers=1)
    with pytest.raises(ValueError, match=r"distillation.teacher.path: expected a checkpoint of the policy's"):
        build(lab, tmp_path / "family")
    build_tiny_vlm(tmp_path / "words", ["quite other words"] * 3, hidden=64, layers=1)
    with pytest.raises(ValueError, match="expected the policy's tokenizer, but "):
        build(lab, tmp_path / "words")
