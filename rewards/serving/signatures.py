"""How a reward function is called, as read from the names of its parameters."""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from rewards.errors import PluginError

Style = Literal["sample", "batch", "easyr1", "verl"]

# Arguments that the caller provides; every other parameter is a column of the row or a configured argument.
SAMPLE_ARGUMENTS = frozenset({"completion", "completion_ids", "log_extra", "log_metric"})
BATCH_ARGUMENTS = frozenset(
    {"prompts", "completions", "completion_ids", "group_ids", "trainer_state", "log_extra", "log_metric"}
)
ACCEPTED = (
    "f(completion, answer, **row); f(prompts, completions, completion_ids, **columns); "
    "compute_score(reward_inputs); or compute_score(data_source, solution_str, ground_truth, extra_info)"
)


@dataclass(frozen=True)
class Signature:
    """How a reward function is called."""

    style: Style  # `sample` or `batch`, after adapting
    columns: tuple[str, ...] | None  # columns of the row that it reads; None = all
    required: tuple[str, ...]  # columns without a default value
    wants: tuple[str, ...] = ()  # other arguments it names: completion_ids, log_metric, …
    asynchronous: bool = False
    whole_groups: bool = False
    whole_text: bool = False  # reads the whole completion, not the conclusion
    checks_gold: bool = False
    summary: str = ""  # first line of the docstring


@dataclass(frozen=True)
class Bound:
    """A loaded function in one of the two native forms, with its configured arguments bound."""

    call: Callable[..., Any]
    signature: Signature
    check_gold: Callable[..., Any] | None  # (answer, row): raises ValueError for an answer it cannot read
    many: Callable[..., list[Any]] | None = None  # (completions, answers, rows): the same for many, faster


def guess_style(function: Callable[..., Any], name: str) -> Style:
    """The style of a function, from the names of its parameters."""
    names = set(parameters_of(function))
    if names & {"reward_inputs", "reward_input"}:
        return "easyr1"
    if {"solution_str", "ground_truth"} <= names or {"solution_strs", "ground_truths"} <= names:
        return "verl"
    if "completions" in names:
        return "batch"
    if "completion" in names:
        return "sample"
    raise PluginError(
        f"reward '{name}': expected one of {ACCEPTED}; got parameters ({', '.join(parameters_of(function))}). "
        "A decorator can hide them: use functools.wraps, or set `style` in the configuration."
    )


def read_signature(function: Callable[..., Any], style: Style, arguments: Mapping[str, Any]) -> Signature:
    """Signature of a native function (`sample` or `batch`); configured `arguments` are not columns."""
    provided = (BATCH_ARGUMENTS if style == "batch" else SAMPLE_ARGUMENTS) | set(arguments)
    named, required, wants, everything = [], [], [], False
    for parameter in parameters_of(function).values():
        if parameter.kind is parameter.VAR_KEYWORD:
            everything = True
        elif parameter.name in provided:
            wants.append(parameter.name)
        elif parameter.kind is not parameter.VAR_POSITIONAL:
            named.append(parameter.name)
            if parameter.default is parameter.empty:
                required.append(parameter.name)
    return Signature(style, None if everything else tuple(named), tuple(required), tuple(wants))


def check_arguments(function: Callable[..., Any], arguments: Mapping[str, Any], name: str) -> None:
    """Raise PluginError for configured arguments that the function does not take, suggesting the nearest one."""
    parameters = parameters_of(function)
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return
    for argument in arguments:
        if argument not in parameters:
            near = difflib.get_close_matches(argument, parameters, 1)
            hint = f"; did you mean '{near[0]}'?" if near else f"; it takes ({', '.join(parameters)})"
            raise PluginError(f"reward '{name}': has no argument '{argument}'{hint}")


def check_constructor(cls: type, arguments: Mapping[str, Any], name: str) -> None:
    """Raise PluginError for arguments that a reward class does not take, or that it needs and does not get."""
    check_arguments(cls, arguments, name)
    required = [
        parameter.name
        for parameter in parameters_of(cls).values()
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]
    if missing := [argument for argument in required if argument not in arguments]:
        raise PluginError(
            f"reward '{name}': expected {' and '.join(required)}, {' and '.join(missing)} missing"
        )


def is_async(function: Callable[..., Any]) -> bool:
    """True for `async def` functions, including those behind functools.partial or an instance's `__call__`."""
    while isinstance(function, functools.partial):
        function = function.func
    called = function if inspect.isroutine(function) else type(function).__call__
    return inspect.iscoroutinefunction(called)


def with_attributes(signature: Signature, function: Callable[..., Any]) -> Signature:
    """The signature with what the function's attributes declare: `whole_groups`, `whole_text`, `check_gold`."""
    return replace(
        signature,
        whole_groups=bool(getattr(function, "whole_groups", False)),
        whole_text=bool(getattr(function, "whole_text", False)),
        checks_gold=callable(getattr(function, "check_gold", None)),
        summary=(inspect.getdoc(function) or "").partition("\n")[0],
    )


def parameters_of(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """Parameters by name. Raises PluginError for functions without a readable signature (some C functions)."""
    try:
        return dict(inspect.signature(function).parameters)
    except (TypeError, ValueError) as error:
        raise PluginError(f"the signature of {function!r} cannot be read: {error}") from error
