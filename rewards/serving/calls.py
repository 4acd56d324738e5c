"""Calling a reward function over rollouts, and making of whatever comes back a value in [0, 1] or a failure.

The same code runs in the process of the trainer (built-ins), in worker processes (plugins) and in the service.
Nothing in here raises for what a function does: exceptions, wrong lengths, wrong types and values outside the
range become a `Failure` of the rollout concerned.
"""

from __future__ import annotations

import inspect
import json
import math
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from rewards.serving.plugins import Bound, Signature

Kind = Literal["exception", "timeout", "crash", "length", "type", "nan", "range", "remote"]
TOLERANCE = 1e-6  # values this far outside the range are rounding, and are clamped
MAX_EXTRA_CHARS = 10_000  # of what a function returns beside its value, as JSON
MAX_TRACE_CHARS, MAX_TRACE_LINE = 10_000, 500


@dataclass(frozen=True)
class Item:
    """One rollout as a reward function sees it."""

    text: str  # what the function reads: the conclusion, or the whole completion
    row: dict[str, Any]
    ids: Sequence[int] | None = None  # token ids of the whole completion
    group: str | None = None  # rollouts of one prompt share it


@dataclass(frozen=True)
class Failure:
    """Why a rollout has no value from a function."""

    kind: Kind
    message: str
    traceback: str | None = None


@dataclass(frozen=True)
class Outcome:
    """What a function said about one rollout: a value in [0, 1], None (does not apply), or a failure."""

    value: float | None
    extra: dict[str, Any] = field(default_factory=dict)
    failure: Failure | None = None


@dataclass
class Log:
    """Collects what functions report through `log_metric` and `log_extra` during one call."""

    metrics: list[tuple[str, float]] = field(default_factory=list)
    columns: dict[str, list[Any]] = field(default_factory=dict)

    def metric(self, name: str, value: float) -> None:
        self.metrics.append((str(name), float(value)))

    def extra(self, column: str, values: Sequence[Any]) -> None:
        self.columns[str(column)] = list(values)


class Waiter:
    """Awaits what async functions return, on one event loop that outlives the calls, so that a function's open
    connections do too. The loop (and asyncio) come with the first use: most workers never need them."""

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


def failed(kind: Kind, message: str, trace: str | None = None) -> Outcome:
    """An outcome without a value."""
    return Outcome(None, {}, Failure(kind, message, trace))


def sample_arguments(signature: Signature, item: Item, log: Log) -> dict[str, Any]:
    """Keyword arguments of a per-sample function for one rollout."""
    _require(signature, [item.row])
    row = item.row
    given = (
        dict(row)
        if signature.columns is None
        else {name: row[name] for name in signature.columns if name in row}
    )
    hooks = {"completion_ids": item.ids, "log_metric": log.metric, "log_extra": log.extra}
    # Only what it names: **row is the row and nothing else.
    return (
        given | {name: hooks[name] for name in signature.wants if name in hooks} | {"completion": item.text}
    )


def batch_arguments(signature: Signature, items: Sequence[Item], log: Log) -> dict[str, Any]:
    """Keyword arguments of a batch function in TRL's form: every column is a list, completions are messages."""
    ids = None if any(item.ids is None for item in items) else [list(item.ids or ()) for item in items]
    _require(signature, [item.row for item in items])
    present = dict.fromkeys(key for item in items for key in item.row if key != "prompt")
    names = [name for name in present if signature.columns is None or name in signature.columns]
    given: dict[str, Any] = {name: [item.row.get(name) for item in items] for name in names}
    hooks = {
        "prompts": [item.row.get("prompt") for item in items],
        "completion_ids": ids,
        "group_ids": [item.group for item in items],
        "trainer_state": None,  # there is no transformers Trainer state to show
        "log_metric": log.metric,
        "log_extra": log.extra,
    }
    # A function with **columns gets them all, as TRL does; others get what they name.
    given |= {
        name: hook for name, hook in hooks.items() if signature.columns is None or name in signature.wants
    }
    return given | {"completions": [[{"role": "assistant", "content": item.text}] for item in items]}


@dataclass(frozen=True)
class Limits:
    """What a function may do: how long a call may take, and the range of its values."""

    timeout_s: float
    low: float = 0.0
    high: float = 1.0


def execute(
    bound: Bound, items: Sequence[Item], limits: Limits, emit: Callable[[int, Outcome], None], waiter: Waiter
) -> list[tuple[str, float]]:
    """Score `items`, telling each (index, outcome) as it becomes known; returns the logged metrics.

    A batch function gets all items in one call. `waiter` awaits async functions.
    """
    if bound.signature.style == "batch":
        return _run_batch(bound, items, limits, emit, waiter)
    if bound.signature.asynchronous:
        return waiter.run(_run_samples_async(bound, items, limits, emit))
    if bound.many:
        try:
            answers, rows = [item.row.get("answer") for item in items], [item.row for item in items]
            values = bound.many([item.text for item in items], answers, rows)
        except Exception:  # noqa: BLE001 one by one, below, only the rollout at fault fails
            values = []
        if len(values) == len(items):
            for index, value in enumerate(values):
                emit(index, clean(value, limits))
            return []
    log = Log()
    for index, item in enumerate(items):
        emit(index, _run_sample(bound, item, limits, log, waiter))
    return log.metrics


def check_gold(bound: Bound, row: dict[str, Any]) -> str | None:
    """What is wrong with the answer (or a missing column) of a row, in words; None if the function can use it."""
    missing = [name for name in bound.signature.required if name not in row]
    if missing:
        return f"the function needs a column '{missing[0]}', the row has {', '.join(sorted(row))}"
    if bound.check_gold is None:
        return None
    try:
        configured = getattr(
            bound.call, "keywords", {}
        )  # options such as `frame_out` that the config sets for all rows
        bound.check_gold(row.get("answer"), {**row, **configured})
    except ValueError as error:  # the contract of check_gold
        return str(error)
    except Exception as error:  # noqa: BLE001 a plugin's own check failed in another way: its type is worth saying
        return _says(error)
    return None


def _run_sample(bound: Bound, item: Item, limits: Limits, log: Log, waiter: Waiter) -> Outcome:
    log.columns = {}
    try:
        returned = bound.call(**sample_arguments(bound.signature, item, log))
        if inspect.isawaitable(returned):  # a plain function that hands on a coroutine
            returned = waiter.run(_within(returned, limits.timeout_s))
    except TimeoutError as error:
        return failed("timeout", _says(error), _trace())
    except KeyboardInterrupt:  # the user's, if the function runs in the trainer's process
        raise
    except BaseException as error:  # noqa: BLE001 whatever a plugin raises costs one value, not the run
        return failed("exception", _says(error), _trace())
    return clean(returned, limits, _extras(log, 0, 1))


async def _run_samples_async(
    bound: Bound, items: Sequence[Item], limits: Limits, emit: Callable[[int, Outcome], None]
) -> list[tuple[str, float]]:
    import asyncio

    metrics: list[tuple[str, float]] = []

    async def one(index: int, item: Item) -> None:
        log = Log(metrics)
        try:
            call = bound.call(**sample_arguments(bound.signature, item, log))
            returned = await _within(call, limits.timeout_s)
        except TimeoutError:
            emit(index, failed("timeout", f"took longer than {limits.timeout_s:g} s"))
        except (Exception, SystemExit) as error:  # noqa: BLE001 as in _run_sample
            emit(index, failed("exception", _says(error), _trace()))
        else:
            emit(index, clean(returned, limits, _extras(log, 0, 1)))

    await asyncio.gather(*(one(index, item) for index, item in enumerate(items)))
    return metrics


def _run_batch(
    bound: Bound, items: Sequence[Item], limits: Limits, emit: Callable[[int, Outcome], None], waiter: Waiter
) -> list[tuple[str, float]]:
    log = Log()
    for index, outcome in enumerate(_batch_outcomes(bound, items, limits, log, waiter)):
        emit(index, outcome)
    return log.metrics


def _batch_outcomes(
    bound: Bound, items: Sequence[Item], limits: Limits, log: Log, waiter: Waiter
) -> list[Outcome]:
    count = len(items)
    try:
        returned = bound.call(**batch_arguments(bound.signature, items, log))
        if inspect.isawaitable(returned):
            returned = waiter.run(_within(returned, limits.timeout_s))
        values = _as_list(returned)
    except TimeoutError as error:
        return [failed("timeout", _says(error), _trace())] * count
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 as in _run_sample
        return [failed("exception", _says(error), _trace())] * count
    if values is None:
        return [failed("type", f"expected a list of {count} values, got {_show(returned)}")] * count
    if len(values) != count:
        return [failed("length", f"expected {count} values, got {len(values)}")] * count
    return [clean(value, limits, _extras(log, index, count)) for index, value in enumerate(values)]


def clean(returned: Any, limits: Limits, extra: dict[str, Any] | None = None) -> Outcome:
    """Make an outcome of one returned value: a number, None, a dict with `reward`, or an exception object."""
    try:
        return _clean(returned, limits, dict(extra or {}))
    except Exception as error:  # noqa: BLE001 an object whose own methods raise when it is looked at
        return failed("type", f"expected a number or None, got what cannot be read: {_says(error)}")


def _clean(returned: Any, limits: Limits, extra: dict[str, Any]) -> Outcome:
    if isinstance(returned, dict):
        if "reward" not in returned:
            return failed("type", f"expected a key 'reward' in the result, got {sorted(map(str, returned))}")
        extra |= {str(key): _portable(value) for key, value in returned.items() if key != "reward"}
        returned = returned["reward"]
    if returned is None:
        return Outcome(None, extra)
    if isinstance(returned, Failure):
        return Outcome(None, extra, returned)
    if isinstance(returned, BaseException):
        return failed("exception", _says(returned))
    number = _plain(returned)
    if isinstance(number, bool):
        number = float(number)
    if not isinstance(number, int | float):
        return failed("type", f"expected a number or None, got {_show(returned)}")
    if math.isnan(number):
        return failed("nan", "expected a number or None, got NaN")
    slack = TOLERANCE * (limits.high - limits.low)
    if not limits.low - slack <= number <= limits.high + slack:
        return failed("range", f"expected a value in [{limits.low:g}, {limits.high:g}], got {_show(number)}")
    value = (float(number) - limits.low) / (limits.high - limits.low)
    return Outcome(min(1.0, max(0.0, value)), extra)


def _require(signature: Signature, rows: Sequence[dict[str, Any]]) -> None:
    for row in rows:
        for name in signature.required:
            if name not in row:
                raise KeyError(f"the function needs a column '{name}', row '{row.get('id')}' has none")


def _extras(log: Log, index: int, length: int) -> dict[str, Any]:
    return {name: _portable(values[index]) for name, values in log.columns.items() if len(values) == length}


def _as_list(returned: Any) -> list[Any] | None:
    if hasattr(returned, "tolist"):  # numpy array or tensor
        returned = returned.tolist()
    return list(returned) if isinstance(returned, list | tuple | Iterator) else None


def _plain(value: Any) -> Any:
    """numpy and torch scalars as Python numbers, everything else as it is."""
    if isinstance(value, int | float | str) or not hasattr(value, "item"):
        return value
    try:
        return value.item()
    except Exception:  # noqa: BLE001 not a scalar, or something else with an `item`
        return value


def _portable(value: Any) -> Any:
    """A value that a function returned beside its reward, as plain JSON values; what is none, is cut or shown as text."""
    try:
        text = json.dumps(_plain(value))
    except Exception:  # noqa: BLE001 whatever it is: circular, too deep, a number of too many digits, not JSON
        return _show(value)
    return json.loads(text) if len(text) <= MAX_EXTRA_CHARS else text[:MAX_EXTRA_CHARS]


def _says(error: BaseException) -> str:
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 an exception whose own text raises
        text = "(its text cannot be shown)"
    return f"{type(error).__name__}: {text}"[:500]


def _trace() -> str:
    """The end of the traceback of the exception that is being handled."""
    try:
        lines = traceback.format_exc().split("\n")
    except Exception:  # noqa: BLE001 an exception that cannot be formatted
        return ""
    return "\n".join(line[:MAX_TRACE_LINE] for line in lines)[-MAX_TRACE_CHARS:]


def _show(value: Any) -> str:
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 a plugin's object may break even here
        text = object.__repr__(value)
    return f"{type(value).__name__} {text[:80]}"
