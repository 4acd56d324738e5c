"""Adapters for reward functions written for EasyR1 and verl. Functions written for TRL need none.

EasyR1    `compute_score(reward_inputs: list[dict], **kwargs) -> list[dict]`   module's REWARD_TYPE = "batch"
          `compute_score(reward_input: dict, **kwargs) -> dict`               REWARD_TYPE = "sequential"
          Each input is {"response", "response_length", "ground_truth"}, each result holds "overall".
verl      `compute_score(data_source, solution_str, ground_truth, extra_info=None) -> float | dict`   ("naive")
          `compute_score(data_sources, solution_strs, ground_truths, extra_infos) -> list`            ("batch")
          A dict holds "score" (newer versions) or "reward" (older ones).

What they receive, and from which column of a row:

`response`, `solution_str`   the text: the conclusion under a grammar, unless the configuration says `text: full`
`response_length`            tokens of the whole completion, or None where the caller has no token ids
`ground_truth`               the row's column `ground_truth`; else `reward_model["ground_truth"]` (verl's schema);
                             else `answer["value"]` if the answer has no other key; else the whole answer
`data_source`                the row's column `data_source`, else `source`
`extra_info`                 the row's column `extra_info`, else a dict of the row without prompt and media

All other keys of a result are kept beside the reward and logged, as in the original frameworks.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Mapping
from typing import Any

from rewards.errors import PluginError
from rewards.serving.signatures import check_arguments, is_async, parameters_of

REWARD_KEYS = {"easyr1": ("overall",), "verl": ("score", "reward")}


def adapt(
    function: Callable[..., Any], style: str, arguments: Mapping[str, Any], name: str
) -> Callable[..., Any]:
    """`function` as a native one: unchanged for styles `sample` and `batch`, else wrapped, with `arguments` bound."""
    if style in ("sample", "batch"):
        return function
    if is_async(function):
        raise PluginError(
            f"reward '{name}': functions of {style} are not async; use the sample or batch form"
        )
    check_arguments(function, arguments, name)
    bound = functools.partial(function, **arguments) if arguments else function
    names = set(parameters_of(function))
    if style == "easyr1":
        return from_easyr1(bound, sequential=_is_sequential(function, names))
    return from_verl_batch(bound) if "solution_strs" in names else from_verl(bound)


def from_easyr1(function: Callable[..., Any], *, sequential: bool = False) -> Callable[..., list[Any]]:
    """EasyR1's `compute_score` as a batch function."""

    # TRL's arguments are named here only to keep them out of `columns`.
    def batch(
        completions: list[Any],
        completion_ids: list[Any] | None = None,
        prompts: Any = None,
        group_ids: Any = None,
        trainer_state: Any = None,
        log_metric: Any = None,
        log_extra: Any = None,
        **columns: list[Any],
    ) -> list[Any]:
        inputs = [
            {
                "response": _text(completion),
                "response_length": None if completion_ids is None else len(completion_ids[i]),
                "ground_truth": ground_truth(_row(columns, i)),
            }
            for i, completion in enumerate(completions)
        ]
        results = [function(one) for one in inputs] if sequential else function(inputs)
        return [_reward(result, "easyr1") for result in results]

    return batch


def from_verl(function: Callable[..., Any]) -> Callable[..., Any]:
    """verl's `compute_score` for one sample as a per-sample function."""
    # Older functions take no extra_info.
    takes_extra = _takes(function, "extra_info")
    takes_source = _takes(function, "data_source")

    def sample(completion: str, **row: Any) -> Any:
        given = {"solution_str": completion, "ground_truth": ground_truth(row)}
        if takes_source:
            given["data_source"] = row.get("data_source", row.get("source"))
        if takes_extra:
            given["extra_info"] = extra_info(row)
        return _reward(function(**given), "verl")

    return sample


def from_verl_batch(function: Callable[..., Any]) -> Callable[..., list[Any]]:
    """verl's batch `compute_score` as a per-sample function, called with batches of one.

    verl does not define which rollouts share a batch, so this is equivalent, and a rollout that breaks the function does not
    affect others.
    """

    def sample(completion: str, **row: Any) -> Any:
        results = function(
            data_sources=[row.get("data_source", row.get("source"))],
            solution_strs=[completion],
            ground_truths=[ground_truth(row)],
            extra_infos=[extra_info(row)],
        )
        if len(results) != 1:
            raise ValueError(f"expected one result for one solution, got {len(results)}")
        return _reward(results[0], "verl")

    return sample


def ground_truth(row: Mapping[str, Any]) -> Any:
    """The `ground_truth` of a row, by the table above."""
    if row.get("ground_truth") is not None:
        return row["ground_truth"]
    if isinstance(row.get("reward_model"), dict) and row["reward_model"].get("ground_truth") is not None:
        return row["reward_model"]["ground_truth"]
    answer = row.get("answer")
    return answer["value"] if isinstance(answer, dict) and set(answer) == {"value"} else answer


def extra_info(row: Mapping[str, Any]) -> Any:
    """The `extra_info` of a row, by the table above."""
    if row.get("extra_info") is not None:
        return row["extra_info"]
    return {key: value for key, value in row.items() if key not in ("prompt", "images", "videos")}


def _row(columns: Mapping[str, list[Any]], index: int) -> dict[str, Any]:
    return {key: values[index] for key, values in columns.items()}


def _text(completion: Any) -> str:
    return completion if isinstance(completion, str) else completion[-1]["content"]


def _takes(function: Callable[..., Any], name: str) -> bool:
    parameters = inspect.signature(function).parameters
    return name in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def _is_sequential(function: Callable[..., Any], names: set[str]) -> bool:
    module = sys.modules.get(getattr(function, "__module__", "") or "")
    declared = getattr(module, "REWARD_TYPE", None)
    if declared in ("sequential", "batch"):
        return declared == "sequential"
    return "reward_inputs" not in names


def _reward(result: Any, style: str) -> Any:
    """A framework's result with its reward renamed to `reward` and everything else kept."""
    if not isinstance(result, Mapping):
        return result
    for key in REWARD_KEYS[style]:
        if key in result:
            return {"reward": result[key], **{k: v for k, v in result.items() if k != key}}
    raise ValueError(
        f"expected a key {' or '.join(map(repr, REWARD_KEYS[style]))} in the result, got {sorted(result)}"
    )
