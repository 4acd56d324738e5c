"""Precision of a training run, decided in one place and before the model is loaded.

It is set in two places: the run's config (`model.dtype`, and SFT's `autocast`) and the launch (`accelerate launch
--mixed_precision`, an accelerate config file, `ACCELERATE_MIXED_PRECISION`, a DeepSpeed file). The config decides; a
launch that differs is an error. It must be resolved first because accelerate registers ZeRO-3 with
transformers as soon as it starts, and `from_pretrained` then splits the weights in the precision that DeepSpeed's
config has at that moment.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import LaunchError
from core.training.zero import Precision, ZeroValues, run_settings

if TYPE_CHECKING:
    from accelerate import DeepSpeedPlugin

_ACCELERATE_NAMES = {"no": None, "fp16": "float16", "bf16": "bfloat16", "fp8": "float8"}


@dataclass(frozen=True)
class Launch:
    """What the launcher told this process, by the environment variables of torchrun and accelerate.

    processes: of the whole run. mixed_precision: as accelerate names it; "no" is its default and means unspecified.
    deepspeed: whether DeepSpeed was asked for. deepspeed_file: path of its config, None where accelerate's flags are it.
    """

    processes: int = 1
    mixed_precision: str = "no"
    deepspeed: bool = False
    deepspeed_file: str | None = None

    @classmethod
    def of_environment(cls, environment: Mapping[str, str] = os.environ) -> Launch:
        """The launch of this process."""
        file = environment.get("ACCELERATE_DEEPSPEED_CONFIG_FILE", "none")
        return cls(
            processes=int(environment.get("WORLD_SIZE", "1")),
            mixed_precision=environment.get("ACCELERATE_MIXED_PRECISION", "no").lower(),
            deepspeed=environment.get("ACCELERATE_USE_DEEPSPEED", "false").lower() == "true",
            deepspeed_file=None if file == "none" else file,
        )


def training_precision(dtype: str, autocast: str = "none") -> Precision:
    """The precision that a run computes in, from `model.dtype` and SFT's `autocast`.

    Raises LaunchError for float16: its gradients underflow without loss scaling, which is not done here.
    """
    if dtype == "float16":
        raise LaunchError(
            "model.dtype: expected float32 or bfloat16 for training, got float16, whose gradients underflow"
        )
    return "bfloat16" if "bfloat16" in (dtype, autocast) else "float32"


def check_launch(launch: Launch, precision: Precision, setting: str) -> None:
    """Raise LaunchError where the launch asks for another precision than the config.

    setting: the config's key that would follow the launch ("model.dtype").
    """
    asked = _ACCELERATE_NAMES.get(launch.mixed_precision, launch.mixed_precision)
    if asked in (None, precision):
        return
    follow = f", or set {setting}={asked}" if asked == "bfloat16" else ""
    raise LaunchError(
        f"the launch asks for {asked} (accelerate's mixed_precision is {launch.mixed_precision!r}, from"
        " --mixed_precision, accelerate's config file or ACCELERATE_MIXED_PRECISION), the config for"
        f" {precision}: launch with --mixed_precision no, which leaves it to the config{follow}"
    )


def deepspeed_plugin(launch: Launch, values: ZeroValues) -> DeepSpeedPlugin:
    """accelerate's plugin for a launch with DeepSpeed, everything "auto" filled in.

    Give it to `Accelerator` or to TrainingArguments before the model is loaded. Raises LaunchError if the launch's
    settings contradict `values`.
    """
    from accelerate import DeepSpeedPlugin

    if "RANK" not in os.environ:  # plain `python`: DeepSpeed would ask MPI what torchrun sets
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        os.environ |= {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return DeepSpeedPlugin(hf_ds_config=deepspeed_settings(launch, values))


def deepspeed_settings(launch: Launch, values: ZeroValues) -> dict[str, Any]:
    """DeepSpeed's config for the run, from the launch's file or from accelerate's flags; raises as `run_settings`."""
    if launch.deepspeed_file is None:
        from accelerate import DeepSpeedPlugin

        settings = DeepSpeedPlugin().deepspeed_config
        settings.pop("steps_per_print", None)  # set by accelerate, as the next, whose default says nothing
        settings["zero_optimization"]["stage3_gather_16bit_weights_on_model_save"] = "auto"
        return run_settings(settings, values, source="accelerate's DeepSpeed settings")
    path = Path(launch.deepspeed_file)
    try:
        settings = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise LaunchError(f"{path}: expected a DeepSpeed config in JSON, got: {error}") from None
    if not isinstance(settings, dict):
        raise LaunchError(f"{path}: expected a JSON object, got {type(settings).__name__}")
    return run_settings(settings, values, source=str(path))
