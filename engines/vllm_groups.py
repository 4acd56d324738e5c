"""vLLM's process groups, which outlive an engine."""

from __future__ import annotations

import torch.distributed


def forget_dead_groups() -> None:
    """Drop vLLM's groups if they no longer exist in torch.

    Destroying the default process group (`Accelerator.end_training`, another engine's close) destroys them too. vLLM does
    not notice, and the next engine of the process would fail to start.
    """
    from vllm.distributed import parallel_state

    world = parallel_state._WORLD
    if world is None or _alive(world):
        return
    for name, value in list(vars(parallel_state).items()):
        if isinstance(value, parallel_state.GroupCoordinator):
            setattr(parallel_state, name, None)
    parallel_state._NODE_COUNT = None


def _alive(world: object) -> bool:
    if not torch.distributed.is_initialized():
        return False
    try:
        torch.distributed.get_backend(getattr(world, "device_group", None))
    except ValueError:  # not in torch's map of groups
        return False
    return hasattr(world, "device_group")
