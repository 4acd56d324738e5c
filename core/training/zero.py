"""DeepSpeed's config of a run: "auto" values are filled from the run's own config, in one place.

A value that the file sets and the run's config sets differently is an error: neither silently overrides the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Literal

from core.errors import LaunchError

Precision = Literal["float32", "bfloat16"]
AUTO = "auto"
_BUCKET_SIZES: dict[str, Callable[[int], int]] = {
    "zero_optimization.reduce_bucket_size": lambda width: width * width,
    "zero_optimization.stage3_prefetch_bucket_size": lambda width: int(0.9 * width * width),
    "zero_optimization.stage3_param_persistence_threshold": lambda width: 10 * width,
}
"""transformers' rule for these, by the width of the language model (HfTrainerDeepSpeedConfig.trainer_config_finalize)."""


@dataclass(frozen=True)
class ZeroValues:
    """The run's values of what DeepSpeed's config also holds.

    precision: what the model computes in, "float32" or "bfloat16". processes: of the whole run. micro_batch: rows per
    process and forward pass. accumulation: forward passes per step. hidden_size: reads the width of the language model,
    from which bucket sizes follow where the file has "auto".
    """

    precision: Precision
    processes: int
    micro_batch: int
    accumulation: int
    learning_rate: float
    betas: tuple[float, float]
    epsilon: float
    weight_decay: float
    max_grad_norm: float
    hidden_size: Callable[[], int]


def run_settings(settings: Mapping[str, Any], run: ZeroValues, *, source: str) -> dict[str, Any]:
    """DeepSpeed's config for this run, without "auto".

    The optimizer is always the run's own AdamW and the schedule the run's own, so those two sections are removed; their
    values must be "auto" or agree with the run. Gradients are accumulated and reduced in float32 whatever the precision:
    in bfloat16 a sum of micro-batches would depend on how many there are.

    source: where the settings come from, for messages. Raises LaunchError with one line per contradiction, and
    what `run.hidden_size` raises if the width is needed and the model is not there.
    """
    filled = deepcopy(dict(settings))
    wrong = _check_optimizer(filled.pop("optimizer", None), run) + _check_scheduler(
        filled.pop("scheduler", None)
    )
    zero = filled.get("zero_optimization")
    stage = zero.get("stage") if isinstance(zero, dict) else None
    if stage not in (0, 1, 2, 3):
        wrong.append(f"zero_optimization.stage: expected 0, 1, 2 or 3, got {stage!r}")
    if stage == 0 and run.precision == "bfloat16":
        wrong.append(
            "zero_optimization.stage: expected 1, 2 or 3, got 0, which accumulates bfloat16 gradients in bfloat16"
            " (launch without DeepSpeed for plain data parallel)"
        )
    whole = {"zero_optimization.stage3_gather_16bit_weights_on_model_save": True} if stage == 3 else {}
    for key, value in (_run_keys(run) | whole).items():
        given = _get(filled, key)
        if given is None and value is False:
            continue  # off where nobody names it
        if given in (None, AUTO) or given == value:
            _set(filled, key, value)
        else:
            wrong.append(f"{key}: expected {value!r}, which is the run's, or {AUTO!r}, got {given!r}")
    if buckets := [key for key in _BUCKET_SIZES if _get(filled, key) == AUTO]:
        width = run.hidden_size()
        for key in buckets:
            _set(filled, key, _BUCKET_SIZES[key](width))
    wrong += [f"{key}: this program has no value for {AUTO!r} here" for key in _autos(filled)]
    if wrong:
        raise LaunchError("\n".join(f"{source}: {line}" for line in wrong))
    return filled


def _run_keys(run: ZeroValues) -> dict[str, Any]:
    """What the run decides, by dotted key."""
    return {
        "bf16.enabled": run.precision == "bfloat16",
        "fp16.enabled": False,
        "torch_autocast.enabled": False,  # it would compute otherwise than the rollout engine
        "data_types.grad_accum_dtype": "fp32",
        "communication_data_type": "fp32",
        "gradient_clipping": run.max_grad_norm,
        "gradient_accumulation_steps": run.accumulation,
        "train_micro_batch_size_per_gpu": run.micro_batch,
        "train_batch_size": run.micro_batch * run.accumulation * run.processes,
    }


def _check_optimizer(section: Mapping[str, Any] | None, run: ZeroValues) -> list[str]:
    if section is None:
        return []
    wrong = []
    if str(section.get("type", "AdamW")).lower() not in ("adam", "adamw"):
        wrong.append(f"optimizer.type: expected AdamW, which is the run's, got {section['type']!r}")
    ours = {
        "lr": run.learning_rate,
        "betas": list(run.betas),
        "eps": run.epsilon,
        "weight_decay": run.weight_decay,
        "adam_w_mode": True,
        "torch_adam": section.get("params", {}).get("torch_adam"),  # either way it is torch's
    }
    for name, given in section.get("params", {}).items():
        if given != AUTO and given != ours.get(name):
            expected = (
                f"{ours[name]!r}, which is the run's, or {AUTO!r}" if name in ours else "no such setting"
            )
            wrong.append(f"optimizer.params.{name}: expected {expected}, got {given!r}")
    return wrong


def _check_scheduler(section: Mapping[str, Any] | None) -> list[str]:
    given = {} if section is None else section.get("params", {})
    return [
        f"scheduler.params.{name}: expected {AUTO!r} (the schedule is the run's own), got {value!r}"
        for name, value in given.items()
        if value != AUTO
    ]


def _get(settings: Mapping[str, Any], key: str) -> Any:
    node: Any = settings
    for name in key.split("."):
        if not isinstance(node, Mapping) or name not in node:
            return None
        node = node[name]
    return node


def _set(settings: dict[str, Any], key: str, value: Any) -> None:
    *parents, last = key.split(".")
    for name in parents:
        settings = settings.setdefault(name, {})
    settings[last] = value


def _autos(settings: Mapping[str, Any], at: str = "") -> Iterator[str]:
    """Dotted keys that are still "auto"."""
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _autos(value, f"{at}{name}.")
        elif value == AUTO:
            yield f"{at}{name}"
