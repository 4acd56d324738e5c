"""pass@k, maj@k and mean@k of one prompt from n sampled answers, for every k from 1 to n."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

import numpy as np


def pass_at_k(n: int, correct: int) -> np.ndarray:
    """(n,) probability that at least one of k answers is correct, for k = 1 … n: 1 - C(n - c, k) / C(n, k).

    Unbiased for k independent samples, which `1 - (1 - c / n) ** k` is not (Chen et al., arXiv 2107.03374, section 2.1). Computed
    as a running product, as there, so that no binomial coefficient overflows. Raises ValueError unless 0 <= correct <= n, n >= 1.
    """
    if not 0 <= correct <= n or n < 1:
        raise ValueError(f"expected 0 <= correct <= n and n >= 1, got correct = {correct}, n = {n}")
    drawn = np.arange(n)  # answers drawn before the k-th; all of them wrong
    return 1.0 - np.cumprod(np.clip(n - correct - drawn, 0, None) / (n - drawn))


def maj_at_k(forms: Sequence[str | None], correct: Sequence[bool], *, orders: int, seed: str) -> np.ndarray:
    """(n,) probability that the most frequent conclusion of k answers is correct, for k = 1 … n (self-consistency, arXiv 2203.11171).

    Each random order of the answers gives one draw without replacement for every k; the mean over `orders` of them is an
    unbiased estimate. Among equally frequent conclusions each is as likely. An answer without a conclusion (None) has no vote;
    without any vote nothing is correct. A conclusion counts as correct in the share of the answers with this form that are (they
    can differ where the reward reads more than the conclusion).
    """
    n = len(forms)
    right = {
        form: np.mean([c for f, c in zip(forms, correct, strict=True) if f == form]) for form in set(forms)
    }
    rng = random.Random(seed)
    total = np.zeros(n)
    for _ in range(orders):
        votes: Counter[str] = Counter()
        leaders: list[str] = []
        for k, place in enumerate(rng.sample(range(n), n)):
            if (form := forms[place]) is not None:
                top = votes[leaders[0]] if leaders else 0
                votes[form] += 1
                if votes[form] > top:
                    leaders = [form]
                elif votes[form] == top:
                    leaders.append(form)
            total[k] += sum(right[leader] for leader in leaders) / len(leaders) if leaders else 0.0
    return total / orders


def mean_at_k(rewards: Sequence[float]) -> np.ndarray:
    """(n,) expected mean reward of k answers: the mean of all n for every k, whose estimate it is with the least variance."""
    return np.full(len(rewards), np.mean(rewards))
