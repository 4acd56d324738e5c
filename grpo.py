"""Fully on-policy GRPO: `accelerate launch grpo.py --config launch/configs/….yaml [key=value …] [--dry-run]`."""

from __future__ import annotations

from core.config import load_config
from core.processes.explained import explained
from rl.config import GRPOConfig


def main() -> None:
    config, dry_run = load_config(GRPOConfig)
    if dry_run:
        return
    with explained():
        from core.files.hub.paths import TRAIN
        from data_recipes.hub_rows import rows_of_hub
        from rl.loop import train  # after the config is known to be right: importing torch takes seconds

        rows_of_hub({"prompts.rows": config.prompts.rows}, TRAIN)
        train(config)


if __name__ == "__main__":
    main()
