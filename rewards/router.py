"""The router: which reward functions score a rollout, and how their values become its reward.

    with Router(config) as router:
        router.check_rows(rows)                       # before the run: every task routed, every answer readable
        scores = router.score(rows, completions)      # during the run; thread-safe

Rollouts that finish one after the other are scored in two steps: `run_functions` as they arrive, from any thread, and
`combine` once for all of them, in their own order, which also counts failures. `score` does both.

A rollout's reward is the sum of weight x value over its task's functions, as in TRL. A function that returns None does not
apply and adds nothing; a function of positive weight that *fails* leaves the rollout without a reward (`None`, never 0), with
the reason. A text that breaks the grammar gets 0 from every function that reads the conclusion, without calling it.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from core.metrics import Metric, mean, total
from core.score import Score
from rewards.config import FunctionConfig, RewardsConfig
from rewards.errors import PluginError, RewardDataError, RewardFailure
from rewards.serving.items import Failure, Item, Limits, Metrics, Outcome
from rewards.serving.pool import Pool
from rewards.serving.runners import InProcess, Runner, make_runner, score_items
from rewards.stages import STAGES, THINK, Parsed, parse

log = logging.getLogger("rewards")
MAX_METRIC = 1e100
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Results:
    """The outcomes of all functions for one rollout; failures are not counted yet (`Router.combine`)."""

    row: Row
    parsed: Parsed
    outcomes: dict[str, Outcome]
    """By component; functions that read the conclusion are left out where the text breaks the grammar."""


@dataclass
class _Component:
    """One function of one task."""

    task: str
    config: FunctionConfig
    runner: Runner
    timeout_s: float
    recent: deque[bool]  # True = failed, the last `failure_window` rollouts
    inline: bool  # runs in the calling thread; others run in threads of the router

    @property
    def full_text(self) -> bool:
        return self.runner.signature.whole_text if self.config.text is None else self.config.text == "full"

    @property
    def whole_groups(self) -> bool:
        asked = self.config.whole_groups
        return self.runner.signature.whole_groups if asked is None else asked

    def score(self, items: Sequence[Item]) -> tuple[list[Outcome], Metrics]:
        return score_items(self.runner, items, whole_groups=self.whole_groups, timeout_s=self.timeout_s)


class Router:
    """Scores rollouts by the functions that a configuration names for their tasks. Thread-safe."""

    def __init__(self, config: RewardsConfig) -> None:
        self.config = config
        self._pool = Pool(config.workers, config.start_timeout_s)
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._metrics: dict[str, list[float]] = {}
        self._components: dict[str, list[_Component]] = {}
        runners: dict[str, Runner] = {}
        try:
            for task, functions in config.tasks.items():
                self._components[task] = [self._component(task, function, runners) for function in functions]
        except BaseException:
            self._pool.close()
            raise
        # One thread per function for each of a few concurrent calls; threads start only when needed.
        self._runners = list(runners.values())
        self._threads = ThreadPoolExecutor(4 * max(1, len(runners)), thread_name_prefix="rewards-router")

    def __enter__(self) -> Router:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the worker processes and connections; calls in progress finish first."""
        self._threads.shutdown(wait=True)
        for runner in self._runners:
            runner.close()
        self._pool.close()

    @property
    def needs_groups(self) -> bool:
        """True if a function needs whole groups: every call must then have complete groups and `group_ids`."""
        return any(component.whole_groups for some in self._components.values() for component in some)

    def components(self) -> dict[str, list[str]]:
        """Names of the components by task."""
        return {
            task: [component.config.name for component in some] for task, some in self._components.items()
        }

    def check_rows(self, rows: Sequence[Row]) -> None:
        """Raise RewardDataError, naming row, task and function, if a row could not be scored."""
        by_task: dict[str, list[dict[str, Any]]] = {}
        for row in rows:
            self._route(row)
            by_task.setdefault(str(row["task"]), []).append(dict(row))
        for task, some in by_task.items():
            for component in self._components[task]:
                for row, problem in zip(some, component.runner.check(some), strict=True):
                    if problem:
                        raise RewardDataError(
                            f"row '{row.get('id')}': task '{task}', reward '{component.config.name}': {problem}"
                        )

    def score(
        self,
        rows: Sequence[Row],
        completions: Sequence[str],
        completion_ids: Sequence[Sequence[int]] | None = None,
        group_ids: Sequence[str] | None = None,
    ) -> list[Score]:
        """Score one completion per row (rows of a group are repeated), in order.

        `completion_ids` are needed by functions that read token ids. `group_ids`, equal for rollouts of one prompt, are
        needed with complete groups if `needs_groups`. Raises RewardDataError for a task without a reward, and RewardFailure
        when a function fails for more rollouts than the configuration allows.
        """
        return self.combine(self.run_functions(rows, completions, completion_ids, group_ids))

    def run_functions(
        self,
        rows: Sequence[Row],
        completions: Sequence[str],
        completion_ids: Sequence[Sequence[int]] | None = None,
        group_ids: Sequence[str] | None = None,
    ) -> list[Results]:
        """Call the functions as `score` does, without counting their failures yet."""
        for name, given in (
            ("completions", completions),
            ("completion_ids", completion_ids),
            ("group_ids", group_ids),
        ):
            if given is not None and len(given) != len(rows):
                raise ValueError(f"{name}: expected {len(rows)} entries, one per row, got {len(given)}")
        parsed = [self._parse(text) for text in completions]
        jobs: list[tuple[_Component, list[int], Future[tuple[list[Outcome], Metrics]] | None]] = []
        inputs: list[list[Item]] = []
        for component, members in self._members(rows):
            if component.whole_groups and group_ids is None:
                raise ValueError(
                    f"reward '{component.config.name}' needs whole groups, so group_ids must be given"
                )
            shown = [i for i in members if component.full_text or parsed[i].broken is None]
            items = [
                Item(
                    completions[i] if component.full_text else (parsed[i].conclusion or ""),
                    dict(rows[i]),
                    None if completion_ids is None else completion_ids[i],
                    None if group_ids is None else group_ids[i],
                )
                for i in shown
            ]
            waits = bool(items) and not component.inline
            jobs.append((component, shown, self._threads.submit(component.score, items) if waits else None))
            inputs.append(items)
        outcomes: list[dict[str, Outcome]] = [{} for _ in rows]
        for (component, shown, future), items in zip(jobs, inputs, strict=True):
            if not items:
                continue
            results, metrics = future.result() if future else component.score(items)
            for i, outcome in zip(shown, results, strict=True):
                outcomes[i][component.config.name] = outcome
            self._collect(component.config.name, results, metrics)
        return [Results(row, text, found) for row, text, found in zip(rows, parsed, outcomes, strict=True)]

    def combine(self, results: Sequence[Results]) -> list[Score]:
        """The scores of rollouts, in order. Failures are counted in this order and compared with the limit once, so the
        result does not depend on how the rollouts were divided among calls of `run_functions`.

        Raises RewardFailure when a function fails for more rollouts than the configuration allows.
        """
        for component, members in self._members([one.row for one in results]):
            name = component.config.name
            shown = [results[i] for i in members if name in results[i].outcomes]
            self._account(component, [one.row for one in shown], [one.outcomes[name] for one in shown])
        return [self._combine(one.row, one.parsed, one.outcomes) for one in results]

    def pop_metrics(self) -> dict[str, Metric]:
        """Metrics since the last call: means of what functions returned or logged besides their values (`component/name`), counts
        of failures (`failures/component/kind`), and counts of the reasons that functions gave (`reasons/component/reason`)."""
        with self._lock:
            means = {name: mean(values) for name, values in self._metrics.items()}
            counts = {name: total(count) for name, count in self._counts.items()}
            self._metrics, self._counts = {}, Counter()
        return means | counts

    def _component(self, task: str, config: FunctionConfig, runners: dict[str, Runner]) -> _Component:
        timeout_s = config.timeout_s or self.config.timeout_s
        limits = Limits(timeout_s, *config.value_range)
        arguments = sorted(config.arguments.items(), key=repr)
        key = repr((config.function, config.style, arguments, limits, config.isolate))
        if key not in runners:  # a function that serves several tasks is loaded once
            runners[key] = make_runner(config, limits, self._pool)
        runner = runners[key]
        recent: deque[bool] = deque(maxlen=self.config.failure_window)
        # math waits for its own workers, a reward model for its device
        inline = isinstance(runner, InProcess) and config.function not in ("math", "reward_model")
        component = _Component(task, config, runner, timeout_s, recent, inline)
        if component.whole_groups and runner.signature.style == "sample":
            raise PluginError(f"reward '{config.function}': only batch functions can get whole groups")
        return component

    def conclusion(self, text: str) -> str:
        """The part of a completion that counts as its answer; "" if the text breaks the grammar."""
        return self._parse(text).conclusion or ""

    def _parse(self, text: str) -> Parsed:
        if self.config.grammar == "none":
            return Parsed({"text": text}, None, ("text",))
        return parse(text, THINK if self.config.grammar == "think" else STAGES)

    def _route(self, row: Row) -> list[_Component]:
        task = row.get("task")
        if task not in self._components:
            known = ", ".join(sorted(self._components))
            raise RewardDataError(
                f"row '{row.get('id')}': task '{task}' has no reward; configured tasks: {known}"
            )
        return self._components[str(task)]

    def _members(self, rows: Sequence[Row]) -> list[tuple[_Component, list[int]]]:
        """Every component with the indices of the rows that it scores."""
        by_task: dict[str, list[int]] = {}
        for index, row in enumerate(rows):
            self._route(row)
            by_task.setdefault(str(row["task"]), []).append(index)
        return [
            (component, members) for task, members in by_task.items() for component in self._components[task]
        ]

    def _collect(self, name: str, outcomes: Sequence[Outcome], metrics: Metrics) -> None:
        """Keep what a function returned or logged beside its values."""
        extras = [item for outcome in outcomes for item in outcome.extra.items()]
        with self._lock:
            for key, value in [*metrics, *extras]:
                # NaN and infinities have no mean
                if isinstance(value, int | float) and abs(value) <= MAX_METRIC:
                    self._metrics.setdefault(f"{name}/{key}", []).append(float(value))

    def _account(self, component: _Component, rows: Sequence[Row], outcomes: Sequence[Outcome]) -> None:
        """Count and log failures, and stop the run if the function fails too often."""
        name, limit = component.config.name, self.config
        last: tuple[Row, Failure] | None = None
        with self._lock:
            for row, outcome in zip(rows, outcomes, strict=True):
                component.recent.append(outcome.failure is not None)
                if reason := reason_of(outcome):
                    self._counts[f"reasons/{name}/{reason}"] += 1
                if outcome.failure:
                    last = row, outcome.failure
                    self._counts[f"failures/{name}/{outcome.failure.kind}"] += 1
                    log.warning(
                        "reward '%s', row '%s': %s: %s",
                        name,
                        row.get("id"),
                        outcome.failure.kind,
                        outcome.failure.message,
                    )
            seen, count = len(component.recent), sum(component.recent)
        if last and seen >= limit.failure_min and count > limit.max_failure_rate * seen:
            row, failure = last
            raise RewardFailure(
                f"reward '{name}' of task '{component.task}' failed for {count} of its last {seen} rollouts, more than "
                f"max_failure_rate = {limit.max_failure_rate:g} allows. Last: row '{row.get('id')}': {failure.kind}: "
                f"{failure.message}" + (f"\n{failure.traceback}" if failure.traceback else "")
            )

    def _combine(self, row: Row, parsed: Parsed, outcomes: Mapping[str, Outcome]) -> Score:
        values: dict[str, float | None] = {}
        extra: dict[str, Any] = {}
        total, applies, reasons = 0.0, False, []
        said = [parsed.broken] if parsed.broken else []
        for component in self._route(row):
            name, weight = component.config.name, component.config.weight
            outcome = outcomes.get(name, Outcome(0.0))  # not called, because the text breaks the grammar
            values[name] = outcome.value
            extra |= {f"{name}/{key}": value for key, value in outcome.extra.items()}
            if reason := reason_of(outcome):
                said.append(f"{name}: {reason}")
            if outcome.failure and weight > 0:
                reasons.append(f"{name}: {outcome.failure.kind}: {outcome.failure.message}")
            if outcome.value is not None and weight > 0:
                total += weight * outcome.value
                applies = True
        if not applies and not reasons:
            reasons.append("no reward function applies")
        if reasons:
            return Score(None, values, parsed.broken is None, "; ".join(reasons), extra)
        return Score(total, values, parsed.broken is None, "; ".join(said) or None, extra)


def reason_of(outcome: Outcome) -> str | None:
    """The `reason` that a function returned beside its value, if it is short enough to be counted by (40 characters)."""
    reason = outcome.extra.get("reason")
    return reason if isinstance(reason, str) and 0 < len(reason) <= 40 else None
