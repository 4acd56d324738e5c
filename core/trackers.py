"""Trackers (TensorBoard, Weights & Biases), which users install if they want them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from core.errors import RunError

if TYPE_CHECKING:
    from accelerate import Accelerator

PACKAGES = {"tensorboard": ("tensorboard", "tensorboardX"), "wandb": ("wandb",)}


def check_installed(names: Sequence[str]) -> None:
    """Raise RunError for a tracker without its package: accelerate would skip it silently."""
    for name in names:
        if not any(find_spec(package) for package in PACKAGES.get(name, ())):
            raise RunError(
                f"report_to: {name} is not installed (`pip install {name}`, or leave it out: metrics.jsonl holds the same)"
            )


def start_trackers(accelerator: Accelerator, config: BaseModel, names: Sequence[str], project: str) -> None:
    """Give the trackers the config. project: the name where WANDB_PROJECT gives none."""
    if names:
        settings = flat(config.model_dump(mode="json"))
        accelerator.init_trackers(os.environ.get("WANDB_PROJECT", project), settings)


def flat(value: Mapping[str, Any]) -> dict[str, bool | int | float | str]:
    """A nested config as `{"optimizer.learning_rate": 1e-6, …}`, all that TensorBoard's hyperparameters may be; lists and
    null as text."""
    return {
        key: one if isinstance(one, bool | int | float | str) else str(one) for key, one in _leaves(value)
    }


def _leaves(value: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for key, one in value.items():
        if isinstance(one, Mapping) and one:
            yield from _leaves(one, f"{above}{key}.")
        else:
            yield f"{above}{key}", one
