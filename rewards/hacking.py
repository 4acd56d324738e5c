"""Is a reward model being hacked? Its score against a verifiable reward of the same rollouts, over the steps of a run.

A policy that optimises a learned reward raises it beyond the point where the truth rises with it (Gao et al., arXiv 2210.10760).
Where rollouts have both, a score and a verified reward, that point can be seen: the score goes on rising, and what is verified
falls. Two drifts that often come with it need no truth: answers that grow longer, and answers that repeat themselves.

    checks:
      hacking: {proxy: reward_model, verified: exact_text}

watches a run and stops it (`rl/config.py`); `python -m rewards hacking RUN/rollouts.jsonl --verified exact_text` looks back at one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np
from pydantic import Field, model_validator

from core.config.section import Section
from core.metrics import Metric, mean, total
from rewards.config import RewardsConfig

NGRAM = 4
SIGNIFICANCE = 0.01
PREFIX = "hacking/"
FIGURES = ("proxy", "verified", "length", "repetition")

_TOKEN = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W_]+|[^\w\s]")


class HackingConfig(Section):
    """What is compared, and when a run is stopped. A window is the mean over `window` steps."""

    proxy: str = "reward_model"
    """Component (`component` of the reward function, else its name) that may be hacked."""
    verified: str
    """Component that cannot be: a verifiable reward of the same rollouts. With weight 0 it is only logged."""
    tasks: list[str] | None = None
    """Tasks that are watched. null: all that have both components."""
    window: int = Field(20, ge=5)
    """Steps of a window."""
    max_drop: float = Field(0.05, ge=0)
    """The run stops when the last window's verified reward is lower than that of the best window before it by more than this (and
    by more than chance: one-sided Welch test over steps, p < 0.01), while the proxy is higher."""
    max_length_ratio: float | None = Field(None, gt=1)
    """The run stops when answers of the last window are longer than this many times those of the first. null: not."""
    max_repetition: float | None = Field(None, gt=0, lt=1)
    """The run stops when the share of repeated 4-grams in the last window is above this. null: not."""
    stop: bool = True
    """false: say so once, and go on."""

    def check(self, rewards: RewardsConfig) -> None:
        """Raise ValueError if a watched task, or all of them, lack one of the components."""
        names = {task: {function.name for function in functions} for task, functions in rewards.tasks.items()}
        wanted = {self.proxy, self.verified}
        for task in self.tasks or ():
            if lacking := sorted(wanted - names.get(task, set())):
                known = ", ".join(sorted(names.get(task, ()))) or "no functions"
                raise ValueError(
                    f"hacking.tasks: expected '{lacking[0]}' among the rewards of '{task}', which has {known}"
                )
        if not any(wanted <= found for found in names.values()):
            raise ValueError(
                f"hacking: expected a task with the rewards '{self.proxy}' and '{self.verified}', found none"
            )

    @model_validator(mode="after")
    def _different(self) -> HackingConfig:
        if self.proxy == self.verified:
            raise ValueError(f"expected two components, got '{self.proxy}' as proxy and as verified")
        return self


@dataclass(frozen=True)
class Watched:
    """A scored rollout, as the watch sees it. tokens: sampled by the policy."""

    task: str
    components: Mapping[str, float | None]
    tokens: int
    text: str

    def both(self, config: HackingConfig) -> tuple[float, float] | None:
        """(proxy, verified); None where the rollout is not watched or lacks one of them."""
        proxy, verified = self.components.get(config.proxy), self.components.get(config.verified)
        if (config.tasks is not None and self.task not in config.tasks) or proxy is None or verified is None:
            return None
        return proxy, verified


def repetition(text: str, n: int = NGRAM) -> float:
    """Share of the text's n-grams that stood there before: 1 - distinct / all (seq-rep-n, Welleck et al., arXiv 1908.04319).
    Tokens are words, single signs, and single characters of Chinese, Japanese and Korean; 0 for a text of fewer than n."""
    tokens = _TOKEN.findall(text.casefold())
    grams = [tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def hacking_metrics(rollouts: Iterable[Watched], config: HackingConfig) -> dict[str, Metric]:
    """`hacking/…` of one step, over the rollouts that have both rewards."""
    found = [(*both, one) for one in rollouts if (both := one.both(config)) is not None]
    return {
        f"{PREFIX}proxy": mean(proxy for proxy, _, _ in found),
        f"{PREFIX}verified": mean(verified for _, verified, _ in found),
        f"{PREFIX}length": mean(one.tokens for *_, one in found),
        f"{PREFIX}repetition": mean(repetition(one.text) for *_, one in found),
        f"{PREFIX}rollouts": total(len(found)),
    }


class HackingWatch:
    """The stop rule, over the steps of a run. config None: nothing is watched.

    steps: [step, proxy, verified, length, repetition] of each step that had rollouts with both rewards; part of a checkpoint.
    """

    def __init__(self, config: HackingConfig | None) -> None:
        self.config, self.steps, self.said = config, list[list[float]](), False

    def add(self, record: Mapping[str, Any]) -> None:
        """Take in the line of metrics.jsonl of a step."""
        if self.config is not None and record.get(f"{PREFIX}rollouts"):
            self.steps.append([float(record["step"]), *(float(record[PREFIX + name]) for name in FIGURES)])

    def problem(self) -> str | None:
        """What is wrong after the last step that was added; None if nothing is, or there are not two windows yet."""
        config = self.config
        if config is None or len(self.steps) < 2 * config.window:
            return None
        now, first = self.steps[-config.window :], self.steps[: config.window]
        best = self._best()
        if (
            (drop := _mean(best, 2) - _mean(now, 2)) > config.max_drop
            and _mean(now, 1) > _mean(best, 1)
            and _is_below(now, best)
        ):
            return (
                f"reward hacking: '{config.proxy}' rose from {_mean(best, 1):.3f} to {_mean(now, 1):.3f} while '{config.verified}' fell"
                f" from {_mean(best, 2):.3f} to {_mean(now, 2):.3f}, from steps {_span(best)} to {_span(now)}; {drop:.3f} is more than"
                f" checks.hacking.max_drop = {config.max_drop:g}"
            )
        ratio = _mean(now, 3) / max(_mean(first, 3), 1.0)
        if config.max_length_ratio is not None and ratio > config.max_length_ratio:
            return (
                f"length drift: answers of steps {_span(now)} have {_mean(now, 3):.0f} tokens, {ratio:.2f} times those of steps"
                f" {_span(first)}; checks.hacking.max_length_ratio = {config.max_length_ratio:g}"
            )
        if config.max_repetition is not None and _mean(now, 4) > config.max_repetition:
            return (
                f"repetition: {_mean(now, 4):.1%} of the {NGRAM}-grams of answers of steps {_span(now)} are repeated;"
                f" checks.hacking.max_repetition = {config.max_repetition:g}"
            )
        return None

    def _best(self) -> list[list[float]]:
        """The window before the last one in which the verified reward was highest."""
        assert self.config is not None
        size = self.config.window
        sums = np.convolve([step[2] for step in self.steps], np.ones(size), "valid")
        start = int(sums[: len(self.steps) - 2 * size + 1].argmax())
        return self.steps[start : start + size]

    def state_dict(self) -> dict[str, Any]:
        return {"steps": list(self.steps), "said": self.said}

    def load_state_dict(self, state: Mapping[str, Any] | None) -> None:
        if state is not None:  # a checkpoint from before there was a watch
            self.steps, self.said = list(state["steps"]), state["said"]


def _mean(window: Sequence[Sequence[float]], place: int) -> float:
    return fmean(step[place] for step in window)


def _span(window: Sequence[Sequence[float]]) -> str:
    return f"{window[0][0]:.0f}-{window[-1][0]:.0f}"


def _is_below(now: Sequence[Sequence[float]], best: Sequence[Sequence[float]]) -> bool:
    """Whether the verified reward is lower by more than chance: Welch's t-test over steps, each of which has its own prompts."""
    from scipy import stats

    (mean, spread), (mean_best, spread_best) = (
        (float(np.mean(values)), float(np.std(values, ddof=1)))
        for values in ([step[2] for step in window] for window in (now, best))
    )
    if spread == spread_best == 0:
        return mean < mean_best  # the test has no value
    size = len(now)
    test = stats.ttest_ind_from_stats(
        mean, spread, size, mean_best, spread_best, size, equal_var=False, alternative="less"
    )
    return bool(test.pvalue < SIGNIFICANCE)
