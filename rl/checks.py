"""The three on-policy checks, always on: same version, same weights, same log-probs.

A run that fails one of them is no longer on-policy: its gradient belongs to another objective, while reward and loss can
look healthy for a long time. So each failure ends the run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from core.metrics import Metric, same
from engines.fingerprint import OffPolicyError
from engines.rollout import Rollout


@dataclass(frozen=True)
class LogprobGap:
    """Difference between the engine's and the trainer's log-probs of the sampled tokens.

    mean, max: of |trainer - engine|, in nats.
    kl: estimate of KL(engine || trainer) per token, in nats: mean of w - 1 - log w with w = trainer/engine (the "k3"
        estimator of J. Schulman, http://joschu.net/blog/kl-approx.html; never negative).
    ess: effective sample size as a share, (sum w)^2 / (n sum w^2), in (0, 1]; 1 when both agree.
    tokens: n.
    """

    mean: float
    max: float
    kl: float
    ess: float
    tokens: int


@dataclass(frozen=True)
class GapLimits:
    """Limits of the gap that rounding explains: ceilings for any model, and a multiple of this model's noise floor.

    mean, max: of |trainer - engine|, nats. kl, ess: as in `LogprobGap`. noise: KL as a multiple of the noise
    floor measured in the run (`GapCheck`); for the mean, its square root.

    Ceilings. In float32 a correct set-up measures a mean of 4e-7 to 1.4e-5, and up to 7e-3 on single rare tokens of a
    trained model; a temperature off by 0.1 % or pixels off by 1 % give 5e-5. Half precision rounds far more, and
    differently from model to model; its ceiling is the KL of the strictest limit in use (prime-rl's: 5e-4). Most models
    measure far less than either, so the noise floor is the limit that matters.
    """

    mean: float = 4e-5
    max: float = 5e-2
    kl: float = 1e-6
    ess: float = 0.999
    noise: float = 100.0

    @classmethod
    def for_dtype(cls, dtype: torch.dtype) -> GapLimits:
        return (
            cls()
            if dtype == torch.float32
            else cls(mean=5e-2, max=float("inf"), kl=5e-4, ess=0.99, noise=2.5)
        )


@dataclass
class GapCheck:
    """Compares the gap of each step with the ceilings and with the noise floor.

    floor: the gap that rounding alone makes, from the run's first step; None before it. Part of a checkpoint.
    """

    limits: GapLimits
    floor: LogprobGap | None = None

    def first(self, gap: LogprobGap, noise: LogprobGap) -> None:
        """Set the floor: the larger of `noise`, the gap that rounding makes on the same tokens (`rl.update.rounding`), and
        `gap` itself. Raises OffPolicyError above the limits."""
        check_gap(gap, self.limits)
        self._check_noise(gap, noise)
        self.floor = _larger(noise, gap)

    def check(self, gap: LogprobGap, noise: Callable[[], LogprobGap]) -> None:
        """Raise OffPolicyError above the limits. The noise of rounding changes as the policy learns, and with rare tokens, so
        it is measured again, on the tokens of `gap`, before the run is stopped. Call `first` before."""
        check_gap(gap, self.limits)
        assert self.floor is not None
        if self._is_above(gap, self.floor):
            self.floor = _larger(self.floor, noise())
            self._check_noise(gap, self.floor)

    def metrics(self, gap: LogprobGap) -> dict[str, Metric]:
        """For the log: `logprob_gap/mean`, `…/max`, `…/kl`, `…/ess`, and the floor's KL as `…/noise`. gap: over all tokens
        of the step, on all processes."""
        values = asdict(gap) | {"noise": math.nan if self.floor is None else self.floor.kl}
        return {f"logprob_gap/{name}": same(value) for name, value in values.items() if name != "tokens"}

    def state_dict(self) -> dict[str, Any] | None:
        return None if self.floor is None else asdict(self.floor)

    def load_state_dict(self, state: Mapping[str, Any] | None) -> None:
        self.floor = None if state is None else LogprobGap(**state)

    def _is_above(self, gap: LogprobGap, noise: LogprobGap) -> bool:
        """Above the limit in both KL and mean. The KL of a confident policy depends on how one or two rare tokens are
        rounded; a fault changes all tokens, and so the mean too."""
        factor = self.limits.noise
        kl, mean = max(noise.kl, FLOAT_KL), max(noise.mean, FLOAT_MEAN)
        return not (gap.kl <= factor * kl or gap.mean <= math.sqrt(factor) * mean)

    def _check_noise(self, gap: LogprobGap, noise: LogprobGap) -> None:
        if self._is_above(gap, noise):
            raise OffPolicyError(
                f"off-policy: the gap between the log-probs of engine and trainer is more than rounding: KL {gap.kl:.1e} and"
                f" mean difference {gap.mean:.1e} over {gap.tokens} tokens; rounding makes {noise.kl:.1e} and"
                f" {noise.mean:.1e} in this model, and the limits are {self.limits.noise:g} and"
                f" {math.sqrt(self.limits.noise):.2g} times that (ESS {gap.ess:.3f}). {_CAUSES}"
            )


FLOAT_KL, FLOAT_MEAN = 1e-13, 3e-7
"""Smallest noise: log-probs are differences of float32 logits, however confident the policy is."""


def _larger(a: LogprobGap, b: LogprobGap) -> LogprobGap:
    return LogprobGap(
        max(a.mean, b.mean), max(a.max, b.max), max(a.kl, b.kl), min(a.ess, b.ess), max(a.tokens, b.tokens)
    )


def logprob_gap(engine_logprobs: Tensor, trainer_logprobs: Tensor, mask: Tensor | None = None) -> LogprobGap:
    """The gap over all tokens with mask 1. All three of one shape; no gradient is kept.

    A token that one side gives a probability of zero makes the gap infinite (or NaN, if both do).
    """
    return gap_of(gap_metrics(engine_logprobs, trainer_logprobs, mask))


def gap_metrics(
    engine_logprobs: Tensor, trainer_logprobs: Tensor, mask: Tensor | None = None
) -> dict[str, Metric]:
    """The sums that `gap_of` computes a gap from; `core.metrics.joined` joins those of micro-batches and processes.

    With d = trainer - engine and w = exp d, in float64: mean and max of |d|, mean k3, sum of w, sum of w^2.
    """
    if engine_logprobs.shape != trainer_logprobs.shape:
        raise ValueError(
            f"log-probs of the engine {tuple(engine_logprobs.shape)} and of the trainer"
            f" {tuple(trainer_logprobs.shape)} must have one shape"
        )
    d = trainer_logprobs.detach().double() - engine_logprobs.detach().to(trainer_logprobs.device).double()
    if mask is not None:
        d = d[mask.bool()]
    n, w, zero = d.numel(), d.exp(), d.new_zeros(())
    sums = torch.stack(
        [
            d.abs().sum(),
            d.abs().max() if n else zero,
            (d.expm1() - d).sum(),  # k3 = w - 1 - d, by expm1 since most digits of w - 1 cancel
            w.sum(),
            w.square().sum(),
        ]
    )
    absolute, largest, k3, weights, squares = sums.tolist()
    return {
        "mean": Metric("mean", absolute, n),
        "max": Metric("largest", largest, n),
        "kl": Metric("mean", k3, n),
        "weights": Metric("total", weights, n),
        "squares": Metric("total", squares, n),
    }


def gap_of(metrics: Mapping[str, Metric]) -> LogprobGap:
    """The gap over the tokens that `gap_metrics` summed over; zero if there were none."""
    if not metrics or not (n := metrics["mean"].count):
        return LogprobGap(mean=0.0, max=0.0, kl=0.0, ess=1.0, tokens=0)
    w, w2 = metrics["weights"].sum, metrics["squares"].sum
    ess = w * w / (n * w2) if w2 else math.nan
    return LogprobGap(metrics["mean"].sum / n, metrics["max"].sum, metrics["kl"].sum / n, ess, n)


def check_sampled(rollouts: Iterable[Rollout], version: int) -> None:
    """Raise OffPolicyError unless every rollout was sampled by weights of `version`, with finite log-probs."""
    rollouts = list(rollouts)
    others = [r for r in rollouts if r.policy_version != version]
    if others:
        raise OffPolicyError(
            f"off-policy: the trainer is at version {version}, but {len(others)} rollout(s) were sampled by others"
            f" (row {others[0].row_id!r}: version {others[0].policy_version})"
        )
    for rollout in rollouts:
        if bad := [x for x in rollout.logprobs if not math.isfinite(x)]:
            raise OffPolicyError(
                f"off-policy: row {rollout.row_id!r}: the engine gave {len(bad)} of {len(rollout.logprobs)} tokens that it"
                f" sampled a log-prob of {bad[0]}, expected finite ones; it does not compute the trainer's policy"
            )


def check_gap(gap: LogprobGap, limits: GapLimits) -> None:
    """Raise OffPolicyError if the gap is above a ceiling, or NaN."""
    for name, what in (("mean", "mean difference"), ("max", "max difference"), ("kl", "KL"), ("ess", "ESS")):
        value, limit = getattr(gap, name), getattr(limits, name)
        if not (value >= limit if name == "ess" else value <= limit):
            raise OffPolicyError(
                f"off-policy: the {what} between the log-probs of engine and trainer is {value:.3g} over {gap.tokens}"
                f" tokens; the limit is {limit:g} (mean {gap.mean:.1e}, KL {gap.kl:.1e}, ESS {gap.ess:.3f}). {_CAUSES}"
            )


_CAUSES = (
    "Engine and trainer do not compute the same policy: stale weights or caches, another prompt, other positions or"
    " pixels, or another sampling temperature or mask"
)
