"""Calling a reward function on rollouts.

The same code runs in the trainer's process (built-ins), in worker processes (plugins) and in the service. Nothing a function
does raises here: exceptions, wrong lengths, wrong types and values out of range become a `Failure` of the rollout concerned.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from rewards.serving.items import Item, Limits, Metrics, Outcome, failed
from rewards.serving.outcomes import as_json, as_list, current_traceback, describe, outcome_of, show
from rewards.serving.signatures import Bound, Signature


@dataclass
class Log:
    """Collects what functions report through `log_metric` and `log_extra` during one call."""

    metrics: Metrics = field(default_factory=list)
    columns: dict[str, list[Any]] = field(default_factory=dict)

    def metric(self, name: str, value: float) -> None:
        self.metrics.append((str(name), float(value)))

    def extra(self, column: str, values: Sequence[Any]) -> None:
        self.columns[str(column)] = list(values)

    def extras(self, index: int, length: int) -> dict[str, Any]:
        """Entry `index` of every column that has one entry per item."""
        return {
            name: as_json(values[index]) for name, values in self.columns.items() if len(values) == length
        }


class Waiter:
    """Awaits what async functions return, on one event loop that outlives the calls, so that a function can keep its
    connections open. The loop (and asyncio) is created on first use: most workers never need it."""

    def __init__(self) -> None:
        self._runner: Any = None

    def run(self, coroutine: Any) -> Any:
        if self._runner is None:
            import asyncio

            self._runner = asyncio.Runner()
        return self._runner.run(coroutine)

    def close(self) -> None:
        if self._runner is not None:
            self._runner.close()
            self._runner = None


async def _within(awaitable: Any, seconds: float) -> Any:
    import asyncio

    return await asyncio.wait_for(awaitable, seconds)


def execute(
    bound: Bound, items: Sequence[Item], limits: Limits, emit: Callable[[int, Outcome], None], waiter: Waiter
) -> Metrics:
    """Score `items`, calling `emit(index, outcome)` as each result is known; returns the logged metrics.

    A batch function gets all items in one call. `waiter` awaits async functions.
    """
    if bound.signature.style == "batch":
        log = Log()
        for index, outcome in enumerate(_call_batch(bound, items, limits, log, waiter)):
            emit(index, outcome)
        return log.metrics
    if bound.signature.asynchronous:
        return waiter.run(_call_async_samples(bound, items, limits, emit))
    if bound.many:
        try:
            answers, rows = [item.row.get("answer") for item in items], [item.row for item in items]
            values = bound.many([item.text for item in items], answers, rows)
        except Exception:  # noqa: BLE001  call it one by one below, so that only the rollout at fault fails
            values = []
        if len(values) == len(items):
            for index, value in enumerate(values):
                emit(index, outcome_of(value, limits))
            return []
    log = Log()
    for index, item in enumerate(items):
        emit(index, _call_sample(bound, item, limits, log, waiter))
    return log.metrics


def check_gold(bound: Bound, row: dict[str, Any]) -> str | None:
    """What is wrong with the answer (or a missing column) of a row, in words; None if the function can use it."""
    missing = [name for name in bound.signature.required if name not in row]
    if missing:
        return f"the function needs a column '{missing[0]}', the row has {', '.join(sorted(row))}"
    if bound.check_gold is None:
        return None
    try:
        # options such as `frame_out` that the configuration sets for all rows
        configured = getattr(bound.call, "keywords", {})
        bound.check_gold(row.get("answer"), {**row, **configured})
    except ValueError as error:  # the contract of check_gold
        return str(error)
    except Exception as error:  # noqa: BLE001  a plugin's check failed in another way, so name the exception
        return describe(error)
    return None


def _sample_arguments(signature: Signature, item: Item, log: Log) -> dict[str, Any]:
    """Keyword arguments of a per-sample function for one rollout."""
    _require_columns(signature, [item.row])
    row = item.row
    given = (
        dict(row)
        if signature.columns is None
        else {name: row[name] for name in signature.columns if name in row}
    )
    hooks = {"completion_ids": item.ids, "log_metric": log.metric, "log_extra": log.extra}
    # Hooks only by name: **row receives the row's columns and nothing else.
    named = {name: hooks[name] for name in signature.wants if name in hooks}
    return given | named | {"completion": item.text}


def _batch_arguments(signature: Signature, items: Sequence[Item], log: Log) -> dict[str, Any]:
    """Keyword arguments of a batch function in TRL's form: every column is a list, completions are messages."""
    ids = None if any(item.ids is None for item in items) else [list(item.ids or ()) for item in items]
    _require_columns(signature, [item.row for item in items])
    present = dict.fromkeys(key for item in items for key in item.row if key != "prompt")
    names = [name for name in present if signature.columns is None or name in signature.columns]
    given: dict[str, Any] = {name: [item.row.get(name) for item in items] for name in names}
    hooks = {
        "prompts": [item.row.get("prompt") for item in items],
        "completion_ids": ids,
        "group_ids": [item.group for item in items],
        "trainer_state": None,  # there is no transformers Trainer here
        "log_metric": log.metric,
        "log_extra": log.extra,
    }
    # A function with **columns gets all hooks, as in TRL; others get those they name.
    given |= {
        name: hook for name, hook in hooks.items() if signature.columns is None or name in signature.wants
    }
    return given | {"completions": [[{"role": "assistant", "content": item.text}] for item in items]}


def _require_columns(signature: Signature, rows: Sequence[dict[str, Any]]) -> None:
    for row in rows:
        for name in signature.required:
            if name not in row:
                raise KeyError(f"the function needs a column '{name}', row '{row.get('id')}' has none")


def _call_sample(bound: Bound, item: Item, limits: Limits, log: Log, waiter: Waiter) -> Outcome:
    log.columns = {}
    try:
        returned = bound.call(**_sample_arguments(bound.signature, item, log))
        if inspect.isawaitable(returned):  # a plain function that returns a coroutine
            returned = waiter.run(_within(returned, limits.timeout_s))
    except TimeoutError as error:
        return failed("timeout", describe(error), current_traceback())
    except KeyboardInterrupt:  # the user's, if the function runs in the trainer's process
        raise
    except BaseException as error:  # noqa: BLE001  whatever a plugin raises costs one value, not the run
        return failed("exception", describe(error), current_traceback())
    return outcome_of(returned, limits, log.extras(0, 1))


async def _call_async_samples(
    bound: Bound, items: Sequence[Item], limits: Limits, emit: Callable[[int, Outcome], None]
) -> Metrics:
    import asyncio

    metrics: Metrics = []

    async def one(index: int, item: Item) -> None:
        log = Log(metrics)
        try:
            call = bound.call(**_sample_arguments(bound.signature, item, log))
            returned = await _within(call, limits.timeout_s)
        except TimeoutError:
            emit(index, failed("timeout", f"took longer than {limits.timeout_s:g} s"))
        except (Exception, SystemExit) as error:  # noqa: BLE001  as in _call_sample
            emit(index, failed("exception", describe(error), current_traceback()))
        else:
            emit(index, outcome_of(returned, limits, log.extras(0, 1)))

    await asyncio.gather(*(one(index, item) for index, item in enumerate(items)))
    return metrics


def _call_batch(
    bound: Bound, items: Sequence[Item], limits: Limits, log: Log, waiter: Waiter
) -> list[Outcome]:
    count = len(items)
    try:
        returned = bound.call(**_batch_arguments(bound.signature, items, log))
        if inspect.isawaitable(returned):
            returned = waiter.run(_within(returned, limits.timeout_s))
        values = as_list(returned)
    except TimeoutError as error:
        return [failed("timeout", describe(error), current_traceback())] * count
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001  as in _call_sample
        return [failed("exception", describe(error), current_traceback())] * count
    if values is None:
        return [failed("type", f"expected a list of {count} values, got {show(returned)}")] * count
    if len(values) != count:
        return [failed("length", f"expected {count} values, got {len(values)}")] * count
    return [outcome_of(value, limits, log.extras(index, count)) for index, value in enumerate(values)]
