"""The estimator is the policy gradient: by enumeration on a policy small enough, and beside TRL's own loss."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from rl.advantages import Group, group_advantages
from rl.packing import pack
from rl.rollouts.types import Rollout
from rl.update import policy_gradient
from vlm.inputs import collate, extend

END, A, B = 2, 40, 41
COMPLETIONS = [(END,), *((x, y) for x in (A, B) for y in (END, A, B))]
"""All outcomes of a policy that may use three tokens and stops at END or after two."""
REWARDS = [0.2, 1.0, 0.0, 0.4, 0.1, 0.7, 0.9]


def flat(model) -> torch.Tensor:
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


class Enumerable:
    """The tiny VLM under a prompt with an image, able to say seven things."""

    def __init__(self, lab):
        self.model = lab.model()
        self.prompt = lab.groups("one_rollout")[0].rollouts[0].prompt
        vocabulary = self.model.config.text_config.vocab_size
        self.suppressed = [i for i in range(vocabulary) if i not in (END, A, B)]
        self.rollouts = [
            Rollout(f"y{i}", self.prompt, ids, (1,) * len(ids), (0.0,) * len(ids), "", 0, "stop")
            for i, ids in enumerate(COMPLETIONS)
        ]

    def true_gradient(self) -> tuple[torch.Tensor, list[float]]:
        """Gradient of the expected reward, and the probabilities, from full logits."""
        self.model.zero_grad()
        batch = collate([extend(self.prompt, ids) for ids in COMPLETIONS], pad_id=0)
        logits = self.model(**batch).logits
        logits[..., self.suppressed] = -torch.inf
        log_probs = logits.log_softmax(-1)
        start = len(self.prompt) - 1
        totals = torch.stack(
            [
                sum(log_probs[i, start + t, token] for t, token in enumerate(ids))
                for i, ids in enumerate(COMPLETIONS)
            ]
        )
        expected = (totals.exp() * torch.tensor(REWARDS)).sum()
        expected.backward()
        return flat(self.model), totals.exp().tolist()

    def gradient(self, weights: list[float]) -> torch.Tensor:
        """-(gradient of our loss) for rollouts with these total advantages; linear in them."""
        self.model.zero_grad()
        group = Group("t", tuple(self.rollouts), tuple(weights), tuple(weights))
        (batch,) = pack([group], max_tokens=10_000)
        out = policy_gradient(self.model, batch, total_tokens=1, suppressed_ids=self.suppressed)
        out.loss.backward()
        return -flat(self.model)

    def advantages_of(self, members: tuple[int, ...], estimator) -> list[float]:
        """Advantage that each of the seven completions gets in total when these were sampled as one group."""
        sampled = [Rollout("row", self.prompt, (END,), (1,), (0.0,), "", 0, "stop") for _ in members]
        rewards = [REWARDS[m] for m in members]
        groups, _ = group_advantages(sampled, rewards, ["t"] * len(members), estimator=estimator)
        totals = [0.0] * len(COMPLETIONS)
        for group in groups:
            for member, advantage in zip(members, group.advantages, strict=True):
                totals[member] += advantage
        return totals


def expected_advantages(problem, probabilities, size, estimator) -> np.ndarray:
    """Exact expectation over all groups of `size` independent samples, per rollout."""
    total = np.zeros(len(COMPLETIONS))
    for members in itertools.product(range(len(COMPLETIONS)), repeat=size):
        probability = np.prod([probabilities[m] for m in members])
        total += probability * np.array(problem.advantages_of(members, estimator))
    return total / size


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).norm() / b.norm())


def test_without_std_the_expected_gradient_is_the_true_one_times_g_minus_1_over_g(lab):
    problem = Enumerable(lab)
    true, probabilities = problem.true_gradient()
    assert sum(probabilities) == pytest.approx(1, abs=1e-5)
    for size in (2, 3):
        weights = expected_advantages(problem, probabilities, size, "no_std")
        ours = problem.gradient(weights.tolist())
        assert relative(ours, true * (size - 1) / size) < 1e-4


def test_sampled_batches_converge_to_the_true_gradient(lab):
    problem = Enumerable(lab)
    true, probabilities = problem.true_gradient()
    size, draw = 4, np.random.default_rng(0)
    normed = np.array(probabilities) / sum(probabilities)
    errors, total, done = [], np.zeros(len(COMPLETIONS)), 0
    for batches in (50, 5000):
        for _ in range(batches - done):
            members = tuple(draw.choice(len(COMPLETIONS), size, p=normed))
            total += np.array(problem.advantages_of(members, "no_std")) / size
        done = batches
        ours = problem.gradient((total / done * size / (size - 1)).tolist())
        errors.append(relative(ours, true))
    assert errors[1] < 0.06
    assert errors[1] < errors[0] / 3  # a hundred times the batches: about a tenth of the error


def test_the_group_std_changes_the_expected_gradient(lab):
    """Documented bias of the paper's form: not a multiple of the true gradient."""
    problem = Enumerable(lab)
    true, probabilities = problem.true_gradient()
    ours = problem.gradient(expected_advantages(problem, probabilities, 2, "group_std").tolist())
    cosine = float(torch.nn.functional.cosine_similarity(ours, true, dim=0))
    assert 0 < cosine < 0.999


@pytest.mark.slow
def test_gradient_equals_that_of_trls_loss_where_trl_is_right(lab, same_gradients):
    """Text, one and several images; token-normalised loss ("dapo"), no suppressed tokens, which TRL does not have."""
    pytest.importorskip("trl")
    from benchmarks.rivals import trl_inputs, trl_trainer

    model = lab.model()
    trainer = trl_trainer(model, lab.processor, temperature=0.8)
    for kind in ("text", "image", "images"):
        (group,) = lab.groups(kind)
        total = sum(len(r.completion_ids) for r in group.rollouts)
        model.zero_grad()
        loss = trainer._compute_loss(model, trl_inputs(group, model.config.image_token_id))
        loss.backward()
        expected = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
        model.zero_grad()
        (batch,) = pack([group], max_tokens=10_000)
        out = policy_gradient(model, batch, total_tokens=total, temperature=0.8)
        out.loss.backward()
        ours = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
        same_gradients(ours, expected, 1e-5)
