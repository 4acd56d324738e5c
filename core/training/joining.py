"""Set up `Accelerator` for the processes that `accelerate launch` or `torchrun` started."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType, InitProcessGroupKwargs
from pydantic import BaseModel

from core.errors import LaunchError
from core.files.record import Record
from core.processes.build_locks import remove_stale_locks
from core.processes.launch import refuse_fsdp
from core.processes.ranks import on_main
from core.processes.watchdog import operation
from core.training.precision import Launch, check_launch, deepspeed_plugin, training_precision
from core.training.zero import ZeroValues


def join_processes(
    *,
    dtype: str,
    precision_setting: str,
    zero_values: Callable[[int], ZeroValues],
    limit_s: float,
    output_dir: str,
    autocast: str = "none",
    deepspeed: str | None = None,
    report_to: Sequence[str] = (),
) -> Accelerator:
    """The accelerator of what was launched, in the precision of the config.

    Call it before the model is loaded: under ZeRO-3 the weights are split in that precision while they are loaded.

    dtype: of the loaded weights. autocast: "bfloat16" computes in bfloat16 with the weights as they are.
    precision_setting: the config's key for the precision, for messages. zero_values: what DeepSpeed's config leaves to
    the run, by the number of processes. deepspeed: path of a DeepSpeed config, where the launch brings none.
    limit_s: longest wait for the other processes, and for each of their exchanges.

    Raises LaunchError where launch and config contradict each other, RunError for FSDP, and RuntimeError where the
    processes would train alone.
    """
    refuse_fsdp()
    remove_stale_locks()
    launch = _bring_deepspeed(deepspeed)
    precision = training_precision(dtype, autocast)
    check_launch(launch, precision, precision_setting)
    plugin = deepspeed_plugin(launch, zero_values(launch.processes)) if launch.deepspeed else None
    on_cpus = launch.processes > 1 and not torch.cuda.is_available()
    group: dict[str, Any] = {"backend": "gloo"} if on_cpus else {}
    group["timeout"] = timedelta(seconds=limit_s + 60)  # so that the watchdog reports first
    # Outside DeepSpeed "bf16" means autocast, in which some operations are more precise than with bfloat16 weights.
    bf16 = precision == "bfloat16" if plugin is not None else autocast == "bfloat16"
    with operation("join the other processes", limit_s):
        accelerator = Accelerator(
            mixed_precision="bf16" if bf16 else "no",
            deepspeed_plugin=plugin,
            cpu=on_cpus and plugin is None,  # without it every process would train alone
            log_with=list(report_to) or None,
            project_dir=output_dir,
            kwargs_handlers=[InitProcessGroupKwargs(**group)] if launch.processes > 1 else None,
        )
    alone = accelerator.distributed_type == DistributedType.NO
    if accelerator.num_processes != launch.processes or (alone and launch.processes > 1):
        raise RuntimeError(
            f"expected {launch.processes} processes to train together, but accelerate joined {accelerator.num_processes} as"
            f" {accelerator.distributed_type.value}: each would train alone"
        )
    return accelerator


def record_of_run(
    config: BaseModel, accelerator: Accelerator, content: Callable[[], dict[str, str]], free: Sequence[str]
) -> Record:
    """What a run is, for its folder and its checkpoints; all processes take part.

    content: {setting: identity of what it names}, asked of the main process alone. free: settings that may change when the
    run is resumed.
    """
    processes = f"{accelerator.num_processes}, {parallel_name(accelerator)}"
    return Record(config, on_main(content) | {"processes": processes}, tuple(free))


def parallel_name(accelerator: Accelerator) -> str:
    """How the processes train together, in words: "ZeRO-3", "MULTI_GPU", "NO"."""
    plugin = accelerator.state.deepspeed_plugin
    return f"ZeRO-{plugin.zero_stage}" if plugin is not None else accelerator.distributed_type.value


def _bring_deepspeed(file: str | None) -> Launch:
    """The launch of this process, with the config's DeepSpeed file in it where it has one, as if the launcher had
    brought it."""
    launch = Launch.of_environment()
    if file is None:
        return launch
    if launch.deepspeed and launch.deepspeed_file != file:
        raise LaunchError(
            f"deepspeed: the config says {file}, the launch {launch.deepspeed_file or 'other settings'};"
            " set deepspeed=null, or launch without DeepSpeed"
        )
    os.environ["ACCELERATE_USE_DEEPSPEED"] = "true"
    os.environ["ACCELERATE_DEEPSPEED_CONFIG_FILE"] = file
    return Launch.of_environment()
