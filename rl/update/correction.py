"""What rounding does to the gradient, weighed out: importance weights between the policy that sampled and the trainer's.

Engine and trainer round differently, so in half precision the tokens are samples of a policy pi_engine that is not quite
the trainer's. The gradient of the trainer's objective over such samples needs every term weighed by the ratio of the two
probabilities. Both are known when the loss is computed, so the weight is one more factor of a coefficient:

    token      w_ij = min(C, pi_trainer(o_ij) / pi_engine(o_ij))
    sequence   w_i  = min(C, prod_j pi_trainer(o_ij) / pi_engine(o_ij))     the same for all tokens of a rollout

Weights are constants of the gradient (detached). `sequence` without truncation is unbiased for whole completions, and its
variance grows with their length; `token` corrects each token given what came before it, leaves out how likely the tokens
before and after it were, which is of the first order in the gap, and has bounded variance (truncated importance
sampling, Ionides 2008; for engine-trainer mismatch: F. Yao et al. 2025, "Your efficient RL framework secretly brings you
off-policy RL training").
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

Kind = Literal["token", "sequence"]


@dataclass(frozen=True)
class Correction:
    """kind: of the weights. limit: C, at least 1: larger weights are truncated."""

    kind: Kind
    limit: float = 2.0

    def ratios(self, differences: Tensor, rollouts: Tensor) -> Tensor:
        """Ratios before truncation, (N,). differences: (N,) log pi_trainer - log pi_engine by token; rollouts: (N,) which
        rollout each token is of, 0, 1, … in order."""
        if self.kind == "token":
            return differences.exp()
        sums = differences.new_zeros(int(rollouts[-1]) + 1 if len(rollouts) else 0)
        return sums.index_add(0, rollouts, differences).exp()[rollouts]

    def weights(self, differences: Tensor, rollouts: Tensor) -> Tensor:
        """(N,) factors of the tokens' coefficients."""
        return self.ratios(differences, rollouts).clamp(max=self.limit)
