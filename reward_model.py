"""Train a reward model: `accelerate launch reward_model.py --config launch/configs/….yaml [key=value …] [--dry-run]`."""

from __future__ import annotations

from core.config import load_config
from core.processes.explained import explained
from reward_models.config import RewardModelConfig


def main() -> None:
    config, dry_run = load_config(RewardModelConfig)
    if dry_run:
        return
    with explained():
        # after the config is known to be right: importing torch takes seconds
        from reward_models.loop import train

        train(config)


if __name__ == "__main__":
    main()
