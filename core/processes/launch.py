"""What `accelerate launch` asked for, and whether this project can do it."""

from __future__ import annotations

import os

from core.errors import RunError


def refuse_fsdp() -> None:
    """Raises RunError if FSDP was asked for: nothing here gathers its weights, and on CPUs accelerate would quietly train
    by DDP instead."""
    if os.environ.get("ACCELERATE_USE_FSDP", "false").lower() in ("1", "true"):
        version = os.environ.get("FSDP_VERSION", "1")
        raise RunError(
            f"accelerate was asked for FSDP (version {version}), which is not supported: expected plain data parallelism"
            " (DDP: accelerate launch --multi_gpu), or DeepSpeed ZeRO-2 or ZeRO-3 (accelerate launch --use_deepspeed),"
            " which split weights and optimizer states as well"
        )
