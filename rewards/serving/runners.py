"""Where a reward function runs: in this process (built-ins), in a worker process (plugins), or in a reward service (HTTP)."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from rewards.config import FunctionConfig
from rewards.serving.calls import Waiter, check_gold, execute
from rewards.serving.items import Item, Limits, Metrics, Outcome, failed
from rewards.serving.plugins import REWARDS, bind
from rewards.serving.pool import Pool
from rewards.serving.signatures import Signature, check_constructor
from rewards.serving.worker import Spec


def make_runner(config: FunctionConfig, limits: Limits, pool: Pool) -> Runner:
    """Load the configured function. Raises PluginError if that fails."""
    if config.function == "http":
        from rewards.serving.client import Remote

        check_constructor(Remote, config.arguments, config.function)
        return Remote(**config.arguments)
    trusted = REWARDS.is_builtin(config.function)
    if config.isolate or (config.isolate is None and not trusted):
        return Isolated(config, limits, pool)
    return InProcess(config, limits, reentrant=trusted)


class Runner(Protocol):
    """Calls one function. Thread-safe."""

    signature: Signature

    def score(self, items: Sequence[Item]) -> tuple[list[Outcome], Metrics]: ...

    def check(self, rows: Sequence[dict[str, Any]]) -> list[str | None]: ...

    def close(self) -> None: ...


class InProcess:
    """A trusted function, called in this process. No time limit."""

    def __init__(self, config: FunctionConfig, limits: Limits, *, reentrant: bool) -> None:
        self._bound = bind(config.function, config.style, config.arguments)
        self.signature = self._bound.signature
        self._limits = limits
        self._waiter = Waiter()
        # Built-ins are thread-safe; other functions are not expected to be.
        self._lock = contextlib.nullcontext() if reentrant else threading.Lock()

    def score(self, items: Sequence[Item]) -> tuple[list[Outcome], Metrics]:
        outcomes = [failed("crash", "not scored")] * len(items)
        with self._lock:
            metrics = execute(self._bound, items, self._limits, outcomes.__setitem__, self._waiter)
        return outcomes, metrics

    def check(self, rows: Sequence[dict[str, Any]]) -> list[str | None]:
        return [check_gold(self._bound, row) for row in rows]

    def close(self) -> None:
        self._waiter.close()


class Isolated:
    """A function in the pool of worker processes."""

    def __init__(self, config: FunctionConfig, limits: Limits, pool: Pool) -> None:
        self._pool, self._limits = pool, limits
        self._key = pool.add(Spec(_absolute(config.function), config.style, config.arguments))
        self.signature = pool.signature(self._key)

    def score(self, items: Sequence[Item]) -> tuple[list[Outcome], Metrics]:
        return self._pool.score(self._key, self.signature, items, self._limits)

    def check(self, rows: Sequence[dict[str, Any]]) -> list[str | None]:
        return self._pool.check(self._key, rows, self._limits.timeout_s)

    def close(self) -> None:
        """Nothing: the pool is shared, and its owner closes it."""


def score_items(
    runner: Runner, items: Sequence[Item], *, whole_groups: bool, timeout_s: float
) -> tuple[list[Outcome], Metrics]:
    """Score items in calls of the kind that the function takes; returns (outcomes in order, logged metrics)."""
    if runner.signature.style == "sample":
        return runner.score(items)
    if whole_groups:
        return _by_group(runner, items)
    return _batch_then_singles(runner, items, 2 * timeout_s)


def _by_group(runner: Runner, items: Sequence[Item]) -> tuple[list[Outcome], Metrics]:
    """One call per group, in order of first appearance."""
    groups: dict[str | None, list[int]] = {}
    for index, item in enumerate(items):
        groups.setdefault(item.group, []).append(index)
    outcomes = [failed("crash", "not scored")] * len(items)
    metrics: Metrics = []
    for members in groups.values():
        results, logged = runner.score([items[i] for i in members])
        metrics += logged
        for index, outcome in zip(members, results, strict=True):
            outcomes[index] = outcome
    return outcomes, metrics


def _batch_then_singles(
    runner: Runner, items: Sequence[Item], budget_s: float
) -> tuple[list[Outcome], Metrics]:
    """One call for all; if it fails as a whole, one call per item, so that one bad rollout does not cost the others.

    After `budget_s` seconds the second round ends once it has failed for two rollouts more than it has scored, so that a
    function that always hangs does not take its time limit for every rollout.
    """
    outcomes, metrics = runner.score(items)
    whole = {outcome.failure.kind if outcome.failure else None for outcome in outcomes}
    if len(items) == 1 or len(whole) != 1 or not whole <= {"exception", "timeout", "crash"}:
        return outcomes, metrics
    end = time.monotonic() + budget_s
    lost = 0
    for index, item in enumerate(items):
        if time.monotonic() >= end and lost >= 2:
            break
        (outcomes[index],), logged = runner.score([item])
        lost += 1 if outcomes[index].failure else -1
        metrics += logged
    return outcomes, metrics


def _absolute(name: str) -> str:
    """File names as absolute paths: a worker may be started after the working directory has changed."""
    file, _, attribute = name.rpartition(":")
    return f"{Path(file).expanduser().resolve()}:{attribute}" if file.endswith(".py") else name
