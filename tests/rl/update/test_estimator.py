"""The estimator is the policy gradient: by enumeration on a policy small enough, and beside TRL's own loss."""

from __future__ import annotations

import copy
import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from engines.rollout import Rollout
from rl.advantages import group_advantages
from rl.update.correction import Correction
from rl.update.packing import pack
from rl.update.policy_gradient import policy_gradient
from tests.groups import group_of
from vlm.inputs import collate, extend

END, A, B = 2, 40, 41
COMPLETIONS = [(END,), *((x, y) for x in (A, B) for y in (END, A, B))]
"""All outcomes of a policy that may use three tokens and stops at END or after two."""
REWARDS = [0.2, 1.0, 0.0, 0.4, 0.1, 0.7, 0.9]


def flat(model) -> torch.Tensor:
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


class Enumerable:
    """The tiny VLM under a prompt with an image, able to say seven things (or those given)."""

    def __init__(self, lab, completions=COMPLETIONS):
        self.model = lab.model()
        self.completions = completions
        self.prompt = lab.groups("one_rollout")[0].rollouts[0].prompt
        vocabulary = self.model.config.text_config.vocab_size
        self.suppressed = [i for i in range(vocabulary) if i not in (END, A, B)]
        self.rollouts = [
            Rollout(f"y{i}", self.prompt, ids, (1,) * len(ids), (0.0,) * len(ids), "", 0, "stop")
            for i, ids in enumerate(completions)
        ]

    def log_probs(self, model) -> list[list[torch.Tensor]]:
        """Of every token of every completion, from full logits."""
        batch = collate([extend(self.prompt, ids) for ids in self.completions], pad_id=0)
        logits = model(**batch).logits
        logits[..., self.suppressed] = -torch.inf
        log_probs = logits.log_softmax(-1)
        start = len(self.prompt) - 1
        return [
            [log_probs[i, start + t, token] for t, token in enumerate(ids)]
            for i, ids in enumerate(self.completions)
        ]

    def true_gradient(self) -> tuple[torch.Tensor, list[float]]:
        """Gradient of the expected reward, and the probabilities, from full logits."""
        self.model.zero_grad()
        totals = torch.stack([sum(tokens) for tokens in self.log_probs(self.model)])
        expected = (totals.exp() * torch.tensor(REWARDS[: len(totals)])).sum()
        expected.backward()
        return flat(self.model), totals.exp().tolist()

    def sampled_by_another(self, scale: float) -> list[float]:
        """Let the rollouts be those of an engine whose weights are off by `scale`; their probabilities there."""
        engine = copy.deepcopy(self.model)
        generator = torch.Generator().manual_seed(5)
        with torch.no_grad():
            for weight in engine.parameters():
                weight.add_(torch.randn(weight.shape, generator=generator) * scale)
            tokens = [[float(x) for x in xs] for xs in self.log_probs(engine)]
        self.rollouts = [replace(r, logprobs=tuple(x)) for r, x in zip(self.rollouts, tokens, strict=True)]
        return [float(np.exp(sum(x))) for x in tokens]

    def gradient(self, weights: list[float], correction: Correction | None = None) -> torch.Tensor:
        """-(gradient of our loss) for rollouts with these total advantages; linear in them."""
        self.model.zero_grad()
        group = group_of(self.rollouts, weights)
        (batch,) = pack([group], max_tokens=10_000)
        out = policy_gradient(
            self.model, batch, total_tokens=1, suppressed_ids=self.suppressed, correction=correction
        )
        out.loss.backward()
        return -flat(self.model)

    def advantages_of(self, members: tuple[int, ...], estimator) -> list[float]:
        """Advantage that each of the seven completions gets in total when these were sampled as one group."""
        sampled = [Rollout("row", self.prompt, (END,), (1,), (0.0,), "", 0, "stop") for _ in members]
        rewards = [REWARDS[m] for m in members]
        groups = group_advantages([group_of(sampled, rewards=rewards)], estimator=estimator)
        totals = [0.0] * len(self.completions)
        for group in groups:
            for member, advantage in zip(members, group.advantages, strict=True):
                totals[member] += advantage or 0.0
        return totals


def expected_advantages(problem, probabilities, size, estimator) -> np.ndarray:
    """Exact expectation over all groups of `size` independent samples, per rollout."""
    count = len(problem.completions)
    total = np.zeros(count)
    for members in itertools.product(range(count), repeat=size):
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


UNBOUNDED = 1e9
ONE_TOKEN = [(END,), (A,), (B,)]


@pytest.mark.parametrize(
    ("kind", "completions"), [("sequence", COMPLETIONS), ("sequence", ONE_TOKEN), ("token", ONE_TOKEN)]
)
def test_samples_of_another_engine_give_the_true_gradient_when_corrected_and_not_without(
    lab, kind, completions
):
    problem = Enumerable(lab, completions)
    true, _ = problem.true_gradient()
    sampled = problem.sampled_by_another(0.02)
    weights = expected_advantages(problem, sampled, 3, "no_std").tolist()
    plain, corrected = (problem.gradient(weights, c) for c in (None, Correction(kind, UNBOUNDED)))
    assert relative(plain, true * 2 / 3) > 0.05
    assert relative(corrected, true * 2 / 3) < 1e-4


def test_sampled_batches_of_another_engine_converge_to_the_true_gradient_when_corrected(lab):
    problem = Enumerable(lab)
    true, _ = problem.true_gradient()
    sampled = np.array(problem.sampled_by_another(0.02))
    size, draw, total = 4, np.random.default_rng(0), np.zeros(len(COMPLETIONS))
    for batches in range(1, 5001):
        members = tuple(draw.choice(len(COMPLETIONS), size, p=sampled / sampled.sum()))
        total += np.array(problem.advantages_of(members, "no_std")) / (size - 1)
        if batches == 50:
            early = relative(problem.gradient((total / 50).tolist(), Correction("sequence", UNBOUNDED)), true)
    weights = (total / 5000).tolist()
    late = relative(problem.gradient(weights, Correction("sequence", UNBOUNDED)), true)
    assert late < 0.06 and late < early / 3
    assert relative(problem.gradient(weights), true) > 2 * late


def test_token_weights_leave_a_smaller_error_than_none(lab):
    """They correct each token given what stands before it; how likely the other tokens were stays out."""
    problem = Enumerable(lab)
    true, _ = problem.true_gradient()
    sampled = problem.sampled_by_another(0.02)
    weights = expected_advantages(problem, sampled, 3, "no_std").tolist()
    plain, token = (
        relative(problem.gradient(weights, c), true * 2 / 3) for c in (None, Correction("token", UNBOUNDED))
    )
    assert 0 < token < plain


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
